"""Records every allocation of a traced step, and every kernel that a GPU would launch for it."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from .trace_libraries import FUSED_LOSS, cuda_operations
from .trace_shortcuts import shortcuts
from .trace_work import Work, has_bias, is_product, is_view

Place = tuple[str, int]
"""What a stretch of events belongs to: ("W"eights, "O"ptimiser, "F"orward or "B"ackward pass; block of layers), or
``trace_libraries.FUSED_LOSS``."""


@dataclass
class Events:
    """Allocations (positive bytes) and releases (negative: the index of the allocation) in order, with phase marks."""

    sizes: list[int] = field(default_factory=list)
    """Bytes of allocation ``i``."""
    order: list[int] = field(default_factory=list)
    """``i`` where allocation i is made, ``~i`` where it is freed."""
    marks: list[tuple[int, str]] = field(default_factory=list)
    """(position in ``order``, phase that ends there); a second round of phases is the second step."""

    @property
    def built(self) -> int:
        """Position in ``order`` at which the model is ready."""
        return next(position for position, phase in self.marks if phase == "build")

    parts: dict[str, int] = field(default_factory=dict)
    """Bytes of weights, adapters, optimiser states and gradients."""
    operations: int = 0
    """Operations of the last step that launch a kernel."""
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    """Shape of the tensor that allocation ``i`` was made for."""
    places: list[tuple[int, Place | None]] = field(default_factory=list)
    """(position in ``order``, place that begins there); filled when blocks of layers are told apart."""
    chunked: set[int] = field(default_factory=set)
    """Allocations inside the fused loss, which works through the tokens in chunks."""
    work: dict[Place | None, Work] = field(default_factory=dict)
    """FLOPs, bytes and launches of the last step by place."""


PRODUCT, BIASED = "product", "biased"
"""Marks of a thread's first matrix product, and of its first with a bias."""


class Recorder(TorchDispatchMode):  # type: ignore[misc,unused-ignore]
    """Sees each operation's outputs; a storage not seen before is an allocation, its finalisation the release."""

    def __init__(self, events: Events) -> None:
        super().__init__()
        self.events = events
        self.seen: dict[int, int] = {}
        self.instead: dict[Any, Callable[..., Any]] = cuda_operations()
        """Operations that are replaced by their allocations."""
        self.shortcuts = shortcuts()
        """Operations whose meta implementation is slow → the same result, faster; None where it does not apply."""
        self.shared: set[tuple[int, ...]] = set()
        """Shapes of the parameters that two modules share."""
        self.place: Place | None = None
        self.fused_loss = False
        """Whether Liger's fused loss has run."""
        self.first_product: Callable[[], None] | None = None
        """Called once, after the output of the next matrix product is allocated."""
        self.first_biased: Callable[[], None] | None = None
        """The same for the next product with a bias, after ``first_product``."""

    def add(self, tensor: Any) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self.seen:
            return
        index = len(self.events.sizes)
        self.events.sizes.append(storage.nbytes())
        self.events.shapes.append(tuple(tensor.shape))
        self.events.order.append(index)
        if self.place == FUSED_LOSS:
            self.events.chunked.add(index)
        self.seen[key] = index
        weakref.finalize(storage, self.release, key, index).atexit = False

    def release(self, key: int, index: int) -> None:
        if self.seen.get(key) == index:
            del self.seen[key]
        self.events.order.append(~index)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            return 1
        if func is torch.ops.aten.equal.default:
            return True
        kwargs = kwargs or {}
        instead = self.instead.get(func)
        if instead is not None:
            with self:
                out = instead(*args, **kwargs)
            self.launch(args, out)
            return out
        if func is torch.ops.aten.add.Tensor and not torch.is_grad_enabled() and self._joins_gradients(args):
            return self._join(*args[:2])
        shortcut = self.shortcuts.get(func)
        out = shortcut(*args, **kwargs) if shortcut is not None else None
        if out is None:
            out = func(*args, **kwargs)
        if is_view(func):
            return out
        self.events.operations += 1
        self.work().count(func, args, kwargs, out)
        if isinstance(out, torch.Tensor):
            if out.device.type == "meta":
                self.add(out)
            if self.first_product is not None and is_product(func):
                then, self.first_product = self.first_product, None
                with self:
                    then()
            if self.first_biased is not None and has_bias(func, args):
                then, self.first_biased = self.first_biased, None
                with self:
                    then()
            return out
        for item in tree_iter(out):
            if isinstance(item, torch.Tensor) and item.device.type == "meta":
                self.add(item)
        return out

    def work(self) -> Work:
        return self.events.work.setdefault(self.place, Work())

    def launch(
        self, inputs: Any, outputs: Any = (), attention: float = 0.0, product: float = 0.0, kernels: int = 1
    ) -> None:
        """Kernels that PyTorch's dispatcher does not see: fused attention, Liger's and bitsandbytes' kernels."""
        self.work().launch(inputs, outputs, attention, product, kernels)

    def _joins_gradients(self, args: Any) -> bool:
        """Autograd adds a shared parameter's gradients in place, except where it sees a dispatch mode like this one."""
        both = len(args) == 2 and all(isinstance(item, torch.Tensor) for item in args)
        return both and args[0].shape == args[1].shape and tuple(args[0].shape) in self.shared

    def _join(self, first: Any, second: Any) -> Any:
        """The sum in place, which needs a gradient whose memory is its own. A 16-bit gradient of the head is a view of
        a product's output: it is added out of place (measured: three times the embedding instead of two). An fp32 one
        was cast, and Liger's fused loss makes its own."""
        if first.element_size() > 2 or self.fused_loss:
            return first
        total = torch.empty(first.shape, dtype=first.dtype, device=first.device)
        self.add(total)
        return total

    def reserve(self, size: int) -> Callable[[], None]:
        """An allocation of ``size`` bytes that no tensor of the trace stands for; what is returned frees it."""
        index = len(self.events.sizes)
        self.events.sizes.append(size)
        self.events.shapes.append((size,))
        self.events.order.append(index)
        return lambda: self.events.order.append(~index)

    def mark(self, phase: str) -> None:
        self.events.marks.append((len(self.events.order), phase))

    def enter(self, place: Place | None) -> None:
        """From here on, events and work belong to ``place``."""
        self.place = place
        self.events.places.append((len(self.events.order), place))
