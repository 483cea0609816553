"""Stand-ins for the GPU code of libraries: Triton's kernels (Liger) and bitsandbytes' CUDA operations.

Each allocates what the library's own code allocates. Sources: ``bitsandbytes/backends/cuda/ops.py`` and
``backends/default/ops.py`` (0.50), ``liger_kernel/ops`` (0.8).
"""

from __future__ import annotations

import atexit
import os
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, wraps
from typing import Any

import torch
import torch.nn.functional as F

from . import trace_device

FUSED_LOSS = ("L", 0)
"""Where (``trace_recorder.Place``) allocations and work inside Liger's fused loss belong."""
FUSED_4BIT_TOKENS = 512
"""Above this many tokens bitsandbytes dequantises a 4-bit matrix before multiplying instead of doing both in one, on
Hopper (``_gemm_4bit_use_custom_cuda`` in ``backends/cuda/ops.py``); with fewer it depends on the matrix."""


class _Missing(types.ModuleType):
    """A module any attribute of which is another stand-in; kernels made with it do nothing when launched."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Anything(name)


class _Anything:
    def __init__(self, name: str = "") -> None:
        self.name = name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return _Anything()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Anything(name)

    def __getitem__(self, _: Any) -> Any:
        return _Anything()

    def __mul__(self, _: Any) -> Any:
        return self

    __rmul__ = __or__ = __ror__ = __mul__


class _Kernel(_Anything):
    """A Triton kernel: launching it does nothing but tell ``trace_device.observe``."""

    def __getitem__(self, _: Any) -> Any:
        return lambda *args, **kwargs: trace_device.observe((args, tuple(kwargs.values())))


def _jit(function: Any = None, **_: Any) -> Any:
    return _Kernel() if function is not None else lambda kernel: _Kernel()


@contextmanager
def stub_triton() -> Iterator[None]:
    """While it lasts, ``import triton`` gives a stand-in whose kernels do nothing; what was imported keeps using it."""
    names = ("triton", "triton.language", "triton.language.math", "triton.language.extra", "triton.runtime",
             "triton.language.extra.libdevice", "triton.language.extra.cuda", "triton.language.extra.cuda.libdevice",
             "triton.tools", "triton.tools.tensor_descriptor", "triton.compiler", "triton.backends")  # fmt: skip
    modules = {name: _Missing(name) for name in names}
    top: Any = modules["triton"]
    top.__version__, top.jit = "3.6.0", _jit
    top.autotune = top.heuristics = lambda *args, **kwargs: lambda kernel: _Kernel()
    top.cdiv = lambda a, b: -(-a // b)
    top.next_power_of_2 = lambda n: 1 << (n - 1).bit_length()
    for name, module in modules.items():
        module.__path__ = []
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(modules[parent], child, module)
    before = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == "triton"}
    if before:
        end_quietly()
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in modules:
            sys.modules.pop(name, None)
        sys.modules.update(before)


@cache
def end_quietly() -> None:
    """Triton's bindings list hundreds of their own objects as leaked when the process ends; nobody can act on it."""
    atexit.register(os.dup2, os.open(os.devnull, os.O_WRONLY), 2)


def answer_as_cuda(function: Callable[..., Any]) -> None:
    """Let ``function`` take the way on meta tensors that it takes on CUDA tensors: its checks of the device's name."""
    function = getattr(function, "__wrapped__", function)
    code = function.__code__
    constants = tuple("meta" if item == "cuda" else item for item in code.co_consts)
    function.__code__ = code.replace(co_consts=constants)


def _gemm_4bit(a: Any, b: Any, shape: Any, absmax: Any, size: int, kind: str, bias: Any = None, *rest: Any) -> Any:
    """bitsandbytes' CUDA path: for many tokens the matrix is dequantised to the input's dtype, then multiplied."""
    if a.numel() // a.shape[-1] <= FUSED_4BIT_TOKENS:
        return a.new_empty((*a.shape[:-1], shape[0]))
    scales = torch.empty(shape[0] * shape[1] // 64, dtype=torch.float32, device=a.device)
    shifted = scales + 0.0
    weight = torch.empty(tuple(shape), dtype=a.dtype, device=a.device)
    out = F.linear(a, weight, bias)
    del scales, shifted
    return out


def _dequantize_4bit(a: Any, absmax: Any, size: int, kind: str, shape: Any, dtype: Any) -> Any:
    return torch.empty(tuple(shape), dtype=dtype, device=a.device)


def _int8_quant(a: Any, threshold: float = 0.0) -> tuple[Any, Any, Any]:
    """Rows to int8; looking for outliers takes the absolute values and a mask. Random inputs have few outliers."""
    rows = a.numel() // a.shape[-1]
    scales = torch.empty(rows, dtype=torch.float32, device=a.device)
    out = torch.empty(a.shape, dtype=torch.int8, device=a.device)
    if threshold:
        size = a.abs()
        mask = size >= threshold
        del size, mask
    return out, scales, None


def _int8_mixed(a: Any, ca: Any, cb: Any, sca: Any, scb: Any, columns: Any = None, bias: Any = None) -> Any:
    rows, outputs = ca.numel() // ca.shape[-1], cb.shape[0]
    trace_device.observe(product=2.0 * rows * ca.shape[-1] * outputs, kernels=0)
    exact = torch.empty((rows, outputs), dtype=torch.int32, device=a.device)
    half = torch.empty((rows, outputs), dtype=torch.float16, device=a.device)
    del exact
    return half.to(a.dtype), torch.empty(0, dtype=a.dtype, device=a.device)


def _embedding_backward(grad: Any, indices: Any, rows: int, *_: Any) -> Any:
    """One dense gradient; the meta implementation would make two."""
    return grad.new_empty((rows, grad.shape[-1]))


def _addmm_into(*_: Any, out: Any, **__: Any) -> Any:
    return out


def cuda_operations() -> dict[Any, Callable[..., Any]]:
    """Operation of PyTorch whose meta implementation differs → what its CUDA implementation allocates."""
    return {
        torch.ops.aten.embedding_dense_backward.default: _embedding_backward,
        torch.ops.aten.addmm.dtype_out: _addmm_into,
    }


@contextmanager
def watch_fused_loss(recorder: Any) -> Iterator[None]:
    """Tell ``recorder`` while Liger's fused loss runs, which works through the tokens in chunks."""
    with stub_triton():
        try:
            import liger_kernel.ops.fused_linear_cross_entropy as module
        except ModuleNotFoundError:
            module = None
    if module is None:
        yield
        return
    inner = module.fused_linear_cross_entropy_forward

    @wraps(inner)
    def watched(*args: Any, **kwargs: Any) -> Any:
        before, recorder.place, recorder.fused_loss = recorder.place, FUSED_LOSS, True
        try:
            return inner(*args, **kwargs)
        finally:
            recorder.place = before

    module.fused_linear_cross_entropy_forward = watched
    try:
        yield
    finally:
        module.fused_linear_cross_entropy_forward = inner


@contextmanager
def keep_modules(*modules: types.ModuleType) -> Iterator[None]:
    """Undo at exit what a library replaces in ``modules``: Liger patches modeling modules and the loss for good."""
    before = [(module, dict(vars(module))) for module in modules]
    try:
        yield
    finally:
        for module, names in before:
            vars(module).update(names)


def quantised_operations() -> dict[Any, Callable[..., Any]]:
    """Operation of bitsandbytes → what its CUDA implementation allocates."""
    import bitsandbytes  # noqa: F401

    operations = torch.ops.bitsandbytes
    return {
        operations.gemm_4bit.default: _gemm_4bit,
        operations.dequantize_4bit.default: _dequantize_4bit,
        operations.int8_vectorwise_quant.default: _int8_quant,
        operations.int8_mixed_scaled_mm.default: _int8_mixed,
    }
