"""Records every allocation of one training step on the meta device: what is allocated, when, and when it is freed."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from .records import Case
from .trace_device import pretend_gpu
from .trace_libraries import cuda_operations, keep_modules, quantised_operations
from .trace_model import META, NotTraceable, build_model, optimizer_states, read_config

CUBLAS_WORKSPACE_BYTES = 32 << 20
"""On Hopper; one for the thread of the forward pass and one for that of the backward pass."""
PHASES = ("build", "forward", "loss", "backward_first", "backward_rest", "step")


@dataclass
class Events:
    """Allocations (positive bytes) and releases (negative: the index of the allocation) in order, with phase marks."""

    sizes: list[int] = field(default_factory=list)
    """Bytes of allocation ``i``."""
    order: list[int] = field(default_factory=list)
    """``i`` where allocation i is made, ``~i`` where it is freed."""
    marks: list[tuple[int, str]] = field(default_factory=list)
    """(position in ``order``, phase that ends there); a second round of phases is the second step."""
    parts: dict[str, int] = field(default_factory=dict)
    """Bytes of weights, adapters, optimiser states and gradients."""
    operations: int = 0
    """Operations of the second step that launch a kernel."""


class Recorder(TorchDispatchMode):  # type: ignore[misc,unused-ignore]
    """Sees each operation's outputs; a storage not seen before is an allocation, its finalisation the release."""

    def __init__(self, events: Events) -> None:
        super().__init__()
        self.events = events
        self.seen: dict[int, int] = {}
        self.instead: dict[Any, Callable[..., Any]] = cuda_operations()
        """Operations that are replaced by their allocations."""
        self.shared: set[tuple[int, ...]] = set()
        """Shapes of the parameters that two modules share."""

    def add(self, tensor: Any) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self.seen:
            return
        index = len(self.events.sizes)
        self.events.sizes.append(storage.nbytes())
        self.events.order.append(index)
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
        instead = self.instead.get(func)
        if instead is not None:
            with self:
                return instead(*args, **(kwargs or {}))
        if func is torch.ops.aten.add.Tensor and not torch.is_grad_enabled() and self._joins_gradients(args):
            return args[0]
        out = func(*args, **(kwargs or {}))
        self.events.operations += 1
        for item in tree_iter(out):
            if isinstance(item, torch.Tensor) and item.device.type == "meta":
                self.add(item)
        return out

    def _joins_gradients(self, args: Any) -> bool:
        """Autograd adds a shared parameter's gradients in place, except where it sees a dispatch mode like this one."""
        both = len(args) == 2 and all(isinstance(item, torch.Tensor) for item in args)
        return both and args[0].shape == args[1].shape and tuple(args[0].shape) in self.shared

    def mark(self, phase: str) -> None:
        self.events.marks.append((len(self.events.order), phase))


def trace_step(config: dict[str, Any], case: Case, layers: int | None = None) -> Events:
    """Two training steps of ``case``; the second is the first complete one. Raises NotTraceable."""
    events = Events()
    recorder = Recorder(events)
    found = read_config(config, layers)
    with keep_modules(*_patched_modules(found)), pretend_gpu() as autocast:
        model = build_model(found, case)
        for tensor in (*model.parameters(), *model.buffers()):
            _add_all(recorder, tensor)
        events.parts = _parts(model)
        recorder.mark("build")
        if case.gradient_checkpointing:
            _checkpoint(model, autocast.recomputing)
        if case.method in ("qlora", "lora_8bit"):
            recorder.instead |= quantised_operations()
        recorder.shared = {tuple(m.weight.shape) for m in model.modules() if isinstance(m, torch.nn.Embedding)}
        states: list[Any] = []
        workspaces: list[Any] = []
        hooks = _Hooks(model, recorder)
        with recorder:
            batch = {
                "input_ids": torch.zeros((case.micro_batch, case.seq_len), dtype=torch.int64, device=META),
                "attention_mask": torch.ones((case.micro_batch, case.seq_len), dtype=torch.int64, device=META),
            }
            batch["labels"] = batch["input_ids"].clone()
            for _ in range(2):
                events.operations = 0
                if not workspaces:
                    workspaces.append(torch.empty(CUBLAS_WORKSPACE_BYTES, dtype=torch.uint8, device=META))
                loss = _forward(model, batch, autocast.enabled)
                if len(workspaces) == 1:
                    workspaces.append(torch.empty(CUBLAS_WORKSPACE_BYTES, dtype=torch.uint8, device=META))
                loss.backward()
                recorder.mark("backward_rest")
                gradients = [p.grad for p in model.parameters() if p.grad is not None]
                events.parts["gradients"] = sum(g.numel() * g.element_size() for g in gradients)
                del gradients
                if not states:
                    states = optimizer_states(model, case.method)
                    events.parts["optimizer"] = sum(s.numel() * s.element_size() for s in states)
                for parameter in model.parameters():
                    parameter.grad = None
                recorder.mark("step")
                loss = None
        del hooks
        recorder.mark("end")
        kept = len(events.order)
    del events.order[kept:]
    gc.collect()
    del events.order[kept:]
    return events


def _patched_modules(config: Any) -> list[Any]:
    """The modules in which Liger replaces names for this architecture."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    try:
        name = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)].__module__
    except KeyError:
        raise NotTraceable(f"config: transformers has no causal language model for {config.model_type!r}") from None
    return [sys.modules[name], torch.nn.functional]


def _add_all(recorder: Recorder, tensor: Any) -> None:
    recorder.add(tensor)
    state = getattr(tensor, "quant_state", None)
    if state is not None:
        for item in (state.absmax, state.code, state.offset, state.state2.absmax, state.state2.code):
            recorder.add(item)
    if getattr(tensor, "SCB", None) is not None:
        recorder.add(tensor.SCB)


def _parts(model: Any) -> dict[str, int]:
    weights = adapters = 0
    for name, parameter in model.named_parameters():
        size = parameter.untyped_storage().nbytes()
        if "lora_" in name or "prompt_encoder" in name:
            adapters += size
        else:
            weights += size
    return {"weights": weights, "adapters": adapters}


def _forward(model: Any, batch: dict[str, Any], autocast: Callable[[], Any]) -> Any:
    """As accelerate wraps it: forward under autocast, then every 16-bit output to fp32."""
    from accelerate.utils.operations import convert_to_fp32

    with autocast():
        output = model(**batch)
    return convert_to_fp32(output).loss


def _checkpoint(model: Any, autocast: Callable[[], Any]) -> None:
    """Non-reentrant checkpointing; the recomputation runs under autocast, as on a GPU."""
    model.gradient_checkpointing_enable(
        gradient_checkpointing_kwargs={"use_reentrant": False, "context_fn": lambda: (nullcontext(), autocast())}
    )


class _Hooks:
    """Marks where forward, the loss with its backward pass, and the last layer's backward pass end."""

    def __init__(self, model: Any, recorder: Recorder) -> None:
        self.recorder = recorder
        inner = model.get_base_model() if hasattr(model, "get_base_model") else model
        decoder = getattr(inner, inner.base_model_prefix, inner)
        lists = [module for module in decoder.modules() if isinstance(module, torch.nn.ModuleList)]
        last = max(lists, key=len)[-1]
        decoder.register_forward_hook(self._forward_ends)
        last.register_forward_pre_hook(self._last_begins, with_kwargs=True)

    def _forward_ends(self, _module: Any, _inputs: Any, output: Any) -> None:
        self.recorder.mark("forward")
        hidden = output if isinstance(output, torch.Tensor) else output[0]
        if hidden.requires_grad:
            hidden.register_hook(lambda _: self.recorder.mark("loss"))

    def _last_begins(self, _module: Any, inputs: Any, named: Any) -> None:
        hidden = inputs[0] if inputs else named.get("hidden_states")
        if isinstance(hidden, torch.Tensor) and hidden.requires_grad and torch.is_grad_enabled():
            hidden.register_hook(lambda _: self.recorder.mark("backward_first"))
