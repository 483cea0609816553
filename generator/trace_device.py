"""Stand-ins for what only a GPU has, so that the real modeling code runs on the meta device and allocates as on one.

Autocast does not act on meta tensors, and CUDA's fused attention and dropout kernels do not exist there. Each stand-in
allocates what the kernel allocates: outputs, what it keeps for the backward pass, and its working memory. Sources:
``aten/src/ATen/autocast_mode.h`` (lists of operations), ``mha_bwd`` in ``flash_api.cpp`` (workspace of the backward
pass of attention).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

HALF = torch.bfloat16
MULTIPROCESSORS = 132
"""Of an H100 or H200; Liger's norms sum their weight gradients in one row per multiprocessor."""


def _named(owner: Any, *names: str) -> set[Any]:
    return {getattr(owner, name) for name in names if hasattr(owner, name)}


_LOWER = _named(
    torch,
    "matmul",
    "mm",
    "bmm",
    "addmm",
    "addbmm",
    "baddbmm",
    "mv",
    "addmv",
    "conv1d",
    "conv2d",
    "conv3d",
    "einsum",
    "chain_matmul",
    "prelu",
)
_LOWER |= _named(torch.Tensor, "matmul", "__matmul__", "__rmatmul__", "mm", "bmm", "addmm", "baddbmm", "mv")
_LOWER |= {F.linear, F.conv1d, F.conv2d}
_FLOAT = _named(
    torch,
    "exp",
    "expm1",
    "log",
    "log2",
    "log10",
    "log1p",
    "reciprocal",
    "rsqrt",
    "pow",
    "layer_norm",
    "norm",
    "logsumexp",
    "cumsum",
    "cumprod",
    "prod",
)
_FLOAT |= _named(
    torch.Tensor, "exp", "log", "rsqrt", "pow", "__pow__", "reciprocal", "norm", "logsumexp", "cumsum", "prod"
)
_FLOAT |= {F.softplus, F.layer_norm, F.nll_loss, F.cross_entropy, F.group_norm, F.mse_loss, F.kl_div}
_SOFTMAX = _named(torch, "softmax", "log_softmax") | _named(torch.Tensor, "softmax", "log_softmax")
_SOFTMAX |= {F.softmax, F.log_softmax}
_SUM = _named(torch, "sum") | _named(torch.Tensor, "sum")
_AUTOCAST = torch.autocast
_GROUPED = getattr(torch, "_grouped_mm", None)
_SDPA = F.scaled_dot_product_attention  # fmt: skip


class Autocast(TorchFunctionMode):  # type: ignore[misc,unused-ignore]
    """bf16 autocast as on CUDA, for meta tensors, with its cache of weight casts; also fused dropout and attention.

    The cache lives from the outermost entry to its exit. ``torch.is_autocast_enabled("cuda")`` says whether casting is
    on, so that libraries that ask see what they would see on a GPU.
    """

    def __init__(self) -> None:
        super().__init__()
        self.depth = 0
        self.cache: dict[int, tuple[Any, Any]] = {}

    @contextmanager
    def enabled(self) -> Iterator[None]:
        before = torch.is_autocast_enabled("cuda")
        torch.set_autocast_enabled("cuda", True)
        self.depth += 1
        try:
            yield
        finally:
            self.depth -= 1
            torch.set_autocast_enabled("cuda", before)
            if not self.depth:
                self.cache.clear()

    @contextmanager
    def _set(self, enabled: bool) -> Iterator[None]:
        before = torch.is_autocast_enabled("cuda")
        torch.set_autocast_enabled("cuda", enabled)
        try:
            yield
        finally:
            torch.set_autocast_enabled("cuda", before)

    def on_device(self, device_type: str, *args: Any, enabled: bool = True, **kwargs: Any) -> Any:
        """For ``torch.autocast``, which refuses the meta device: modeling code uses it to switch casting off."""
        if device_type == "meta":
            return self._set(enabled)
        return _AUTOCAST(device_type, *args, enabled=enabled, **kwargs)

    @contextmanager
    def recomputing(self) -> Iterator[None]:
        """For a checkpointed layer's second forward pass, inside the backward pass, where function modes are off."""
        with self, self.enabled():
            yield

    def cast(self, value: Any, dtype: torch.dtype) -> Any:
        if isinstance(value, (list, tuple)) and value and isinstance(value[0], torch.Tensor):
            return type(value)(self.cast(item, dtype) for item in value)
        if not isinstance(value, torch.Tensor) or not value.is_floating_point() or value.dtype == dtype:
            return value
        if value.dtype == torch.float64:
            return value
        cached = dtype == HALF and value.is_leaf and value.requires_grad and value.dtype == torch.float32
        if not cached or value._is_view():
            return value.to(dtype)
        if id(value) not in self.cache:
            self.cache[id(value)] = (value, value.to(dtype))
        return self.cache[id(value)][1]

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.dropout or func is torch.dropout:
            return _dropout(*args, **kwargs)
        if func is _GROUPED and args[1].dtype == torch.float32:
            return _GroupedProduct.apply(args[0], args[1])
        if not torch.is_autocast_enabled("cuda"):
            return _attend(*args, **kwargs) if func is _SDPA else func(*args, **kwargs)
        if func in _LOWER and "out" not in kwargs:  # what writes into a given tensor is not cast
            args, kwargs = self._all(args, kwargs, HALF)
        elif func is _SDPA:
            args, kwargs = self._all(args, kwargs, HALF)
            return _attend(*args, **kwargs)
        elif func in _FLOAT:
            args, kwargs = self._all(args, kwargs, torch.float32)
        elif func in _SOFTMAX | _SUM and kwargs.get("dtype") is None and torch.is_floating_point(args[0]):
            kwargs = {**kwargs, "dtype": torch.float32}
        return func(*args, **kwargs)

    def _all(self, args: Any, kwargs: Any, dtype: torch.dtype) -> tuple[Any, Any]:
        return (
            tuple(self.cast(item, dtype) for item in args),
            {name: self.cast(item, dtype) for name, item in kwargs.items()},
        )


def _dropout(x: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """CUDA's fused dropout keeps a mask of one byte per element; the meta device would take the unfused way."""
    if not training or p == 0:
        return x
    return torch.native_dropout(x, p, True)[0]


Listener = Callable[[Any, Any, float, float, int], None]
"""Hears of kernels: inputs, outputs, FLOPs of attention, FLOPs of products, number of kernels."""


def observe(
    inputs: Any = (), outputs: Any = (), attention: float = 0.0, product: float = 0.0, kernels: int = 1
) -> None:
    """Report kernels that the dispatcher does not see to whoever traces (``pretend_gpu``'s argument)."""
    for listener in _LISTENERS[-1:]:
        listener(inputs, outputs, attention, product, kernels)


_LISTENERS: list[Listener] = []


def _attention_flops(query: Any, value: Any) -> float:
    """Two causal products, so half of ``4·batch·heads·length²·width``."""
    batch, heads, length, width = query.shape
    return float(batch * heads * length * length * (width + value.shape[-1]))


class _Attention(torch.autograd.Function):  # type: ignore[misc,unused-ignore]
    """FlashAttention-2 and the memory-efficient kernel: q, k, v, output and one fp32 per query and head are kept."""

    @staticmethod
    def forward(ctx: Any, query: Any, key: Any, value: Any, mask: Any) -> Any:
        batch, heads, length, _ = query.shape
        out = query.new_empty((batch, length, heads, value.shape[-1])).transpose(1, 2)
        sums = query.new_empty((batch, heads, length), dtype=torch.float32)
        ctx.save_for_backward(query, key, value, out, sums, mask)
        observe((query, key, value, mask), out, _attention_flops(query, value))
        return out

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        query, key, value, _, _, _ = ctx.saved_tensors
        batch, heads, length, width = query.shape
        rounded = -(-length // 128) * 128
        dq = torch.empty_like(query)
        dk, dv = torch.empty_like(key), torch.empty_like(value)
        sums = query.new_empty((batch, heads, rounded), dtype=torch.float32)
        total = query.new_empty((batch, rounded, heads, -(-width // 32) * 32), dtype=torch.float32)
        wide = None
        if key.shape[1] != heads:
            wide = (key.new_empty((batch, length, heads, width)), key.new_empty((batch, length, heads, width)))
        del sums, total, wide
        observe((query, key, value, grad), (dq, dk, dv), 2.5 * _attention_flops(query, value), 0.0, 3)
        return dq, dk, dv, None


def _attend(
    query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: float = 0.0, is_causal: bool = False,
    scale: Any = None, enable_gqa: bool = False,
) -> Any:  # fmt: skip
    """PyTorch's choice on a GPU: a fused kernel for 16-bit inputs and for fp32 (which is then the efficient one)."""
    if attn_mask is not None:
        if attn_mask.dtype == torch.bool:  # the fused kernels take an additive mask
            bias = torch.empty_like(attn_mask, dtype=query.dtype)
            attn_mask = torch.where(attn_mask, bias, bias)
        attn_mask = attn_mask.expand(query.shape[0], query.shape[1], query.shape[2], key.shape[2])
    width = query.shape[-1]
    if width % 8:  # padded to a multiple of eight
        query, key, value = (F.pad(x, (0, 8 - width % 8)) for x in (query, key, value))
    out = _Attention.apply(query, key, value, attn_mask)
    return out[..., :width] if width % 8 else out


class _GroupedProduct(torch.autograd.Function):  # type: ignore[misc,unused-ignore]
    """Each row times the matrix of its expert, in fp32, which the meta implementation refuses; CUDA multiplies expert
    by expert (``_grouped_mm_fallback`` in ``GroupedMMUtils.h``), into one output."""

    @staticmethod
    def forward(ctx: Any, rows: Any, matrices: Any) -> Any:
        ctx.save_for_backward(rows, matrices)
        return _GroupedProduct.allocate(rows, matrices, rows, (rows.shape[0], matrices.shape[2]))

    @staticmethod
    def allocate(rows: Any, matrices: Any, read: Any, shape: tuple[int, ...]) -> Any:
        out = rows.new_empty(shape)
        experts, inputs, outputs = matrices.shape
        observe((read, matrices), out, 0.0, 2.0 * rows.shape[0] * inputs * outputs, experts)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        rows, matrices = ctx.saved_tensors
        shapes = (tuple(rows.shape), tuple(matrices.shape))
        wanted = ctx.needs_input_grad
        return tuple(
            _GroupedProduct.allocate(rows, matrices, grad, shape) if wanted[i] else None
            for i, shape in enumerate(shapes)
        )


class _Properties:
    multi_processor_count = MULTIPROCESSORS
    major, minor = 9, 0


@contextmanager
def pretend_gpu(listener: Listener) -> Iterator[Autocast]:
    """Everything above, for as long as the context lasts; ``listener`` hears of kernels (``observe``)."""
    autocast = Autocast()
    with ExitStack() as stack:
        for target, name, value in (
            (torch.cuda, "get_device_properties", lambda *_: _Properties()),
            (torch.cuda, "get_device_capability", lambda *_: (9, 0)),
            (torch, "get_autocast_dtype", lambda *_: HALF),
            (torch, "autocast", autocast.on_device),
        ):
            stack.enter_context(mock.patch.object(target, name, value))
        stack.enter_context(autocast)
        _LISTENERS.append(listener)
        stack.callback(_LISTENERS.pop)
        yield autocast
