"""What a step does: floating-point operations of matrix products, bytes that other kernels move, kernel launches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch.utils._pytree import tree_iter
from torch.utils.flop_counter import flop_registry

_FREE = frozenset(
    ("empty", "new_empty", "empty_like", "empty_strided", "new_empty_strided", "detach", "alias", "lift_fresh",
     "_reshape_alias", "_unsafe_view", "unbind")
)  # fmt: skip
"""Operations that launch nothing."""


def _grouped_product(a: Any, b: Any, *_: Any, out_val: Any = None, **__: Any) -> int:
    """Every row of the tokens meets the matrix of one expert."""
    return int(2 * a.shape[-2] * a.shape[-1] * b.shape[-1])


def _linear(a: Any, weight: Any, *_: Any, out_val: Any = None, **__: Any) -> int:
    return int(2 * a.numel() * weight.shape[0])


_FORMULAS = {**flop_registry, torch.ops.aten._grouped_mm: _grouped_product, torch.ops.aten.linear: _linear}


@cache
def is_view(func: Any) -> bool:
    """Whether an operation's output shares its input's memory (and is not written by it)."""
    arguments = func._schema.arguments
    return any(item.alias_info is not None and not item.alias_info.is_write for item in arguments)


@cache
def _is_free(func: Any) -> bool:
    return func._overloadpacket.__name__ in _FREE


@cache
def is_product(func: Any) -> bool:
    """Whether the operation is a matrix product of cuBLAS."""
    return func._overloadpacket.__name__ in ("mm", "addmm", "bmm", "baddbmm", "linear")


def has_bias(func: Any, args: Any) -> bool:
    """Whether the operation is a matrix product with a bias, which PyTorch leaves to cuBLASLt."""
    name = func._overloadpacket.__name__
    return (name == "addmm" and args[0].dim() == 1) or (name == "linear" and len(args) > 2 and args[2] is not None)


def _tensors(value: Any) -> Iterator[Any]:
    if isinstance(value, torch.Tensor):
        yield value
        return
    for item in tree_iter(value):
        if isinstance(item, torch.Tensor):
            yield item


def _bytes(tensor: Any) -> int:
    """Bytes that reading or writing the tensor moves; what is broadcast is read once."""
    return int(min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes()))


@dataclass
class Work:
    """Sums as lists of sizes, each decoded later into its share per token, per pair of tokens and per rank."""

    products: list[float] = field(default_factory=list)
    """FLOPs of each matrix product."""
    attention: list[float] = field(default_factory=list)
    """FLOPs of each fused attention kernel, causal half left out."""
    moved: list[float] = field(default_factory=list)
    """Bytes read and written by kernels that are no matrix product."""
    matrices: list[float] = field(default_factory=list)
    """Bytes read and written by matrix products."""
    launches: int = 0

    def count(self, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        """One operation that the dispatcher saw."""
        if _is_free(func):
            return
        self.launches += 1
        formula = _FORMULAS.get(func._overloadpacket)
        if formula is not None:
            self.products.append(float(formula(*args, **kwargs, out_val=out)))
            self.matrices += [_bytes(item) for item in (*_tensors(args), *_tensors(out))]
            return
        self.moved += [_bytes(item) for item in (*_tensors(args), *_tensors(out))]

    def launch(self, inputs: Any, outputs: Any, attention: float, product: float, kernels: int) -> None:
        """Kernels that the dispatcher did not see."""
        self.launches += kernels
        if attention:
            self.attention.append(attention)
        if product:
            self.products.append(product)
        self.moved += [_bytes(item) for item in (*_tensors(inputs), *_tensors(outputs))]
