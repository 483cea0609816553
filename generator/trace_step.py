"""Records every allocation of one training step on the meta device: what is allocated, when, and when it is freed."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from typing import Any

import torch

from .records import Case
from .trace_build import record_build
from .trace_device import pretend_gpu
from .trace_libraries import keep_modules, quantised_operations, watch_fused_loss
from .trace_model import META, NotTraceable, build_model, optimizer_states, read_config
from .trace_recorder import BIASED, PRODUCT, Events, Place, Recorder

CUBLAS_WORKSPACE_BYTES, CUBLASLT_WORKSPACE_BYTES = 32 << 20, 1 << 20
"""On Hopper; each for the thread of the forward pass and for that of the backward pass, at its first matrix product and
at its first one with a bias. The backward pass has such a product only where it computes layers again."""
PHASES = ("build", "forward", "loss", "backward_first", "backward_rest", "step")


def trace_step(
    config: dict[str, Any],
    case: Case,
    layers: Sequence[int] | None = None,
    steps: int = 2,
    blocks: Sequence[Sequence[int]] = (),
    repeats: int = 1,
) -> Events:
    """Two training steps of ``case``; the second is the first complete one. Raises NotTraceable.

    ``layers`` keeps only these layers. ``steps=1`` traces one step with the optimiser's states made before it, which
    allocates what the second of two does. ``blocks`` are three groups of positions in ``layers``; events are marked
    with the group they belong to (``trace_repeat``), and the second counts ``repeats`` times in ``parts``.
    """
    events = Events()
    recorder = Recorder(events)
    found = read_config(config, layers)
    with keep_modules(*_patched_modules(found)), pretend_gpu(recorder.launch) as autocast, watch_fused_loss(recorder):
        model = build_model(found, case)
        groups = _groups(model, blocks)
        record_build(model, recorder, groups, case)

        def size(tensors: Iterable[Any], owner: Any) -> int:
            times = repeats if groups("W", owner) == ("W", 1) else 1
            return times * sum(int(item.untyped_storage().nbytes()) for item in tensors)

        events.parts = {"weights": 0, "adapters": 0, "gradients": 0, "optimizer": 0}
        for name, parameter in model.named_parameters():
            part = "adapters" if "lora_" in name or "prompt_encoder" in name else "weights"
            events.parts[part] += size([parameter], parameter)
        if case.gradient_checkpointing:
            _checkpoint(model, autocast.recomputing)
        if case.method in ("qlora", "lora_8bit"):
            recorder.instead |= quantised_operations()
        tables = [module.weight for module in model.modules() if isinstance(module, torch.nn.Embedding)]
        recorder.shared, embeddings = {tuple(table.shape) for table in tables}, {id(table) for table in tables}
        states: list[Any] = []
        workspaces: list[Any] = []
        hooks = _Hooks(model, recorder, blocks)
        with recorder:
            batch = {
                "input_ids": torch.zeros((case.micro_batch, case.seq_len), dtype=torch.int64, device=META),
                "attention_mask": torch.ones((case.micro_batch, case.seq_len), dtype=torch.int64, device=META),
            }
            batch["labels"] = batch["input_ids"].clone()

            def take(mark: str, size: int) -> None:
                """A thread's workspace, after the output of the product that needs it."""
                if steps == 1:
                    recorder.mark(mark)
                else:
                    workspaces.append(torch.empty(size, dtype=torch.uint8, device=META))

            def begin_thread() -> None:
                recorder.first_product = lambda: take(PRODUCT, CUBLAS_WORKSPACE_BYTES)
                recorder.first_biased = lambda: take(BIASED, CUBLASLT_WORKSPACE_BYTES)

            def make_states() -> None:
                for parameter in model.parameters():
                    if parameter.requires_grad:
                        recorder.enter(groups("O", parameter))
                        own = optimizer_states(parameter, case.method, id(parameter) in embeddings)
                        events.parts["optimizer"] += size(own, parameter)
                        states.extend(own)
                recorder.enter(None)

            if steps == 1:
                recorder.mark("begin")
                sizes = [CUBLAS_WORKSPACE_BYTES] * 2
                if _has_biases(model):
                    sizes += [CUBLASLT_WORKSPACE_BYTES] * (2 if case.gradient_checkpointing else 1)
                workspaces += [torch.empty(size, dtype=torch.uint8, device=META) for size in sizes]
                recorder.mark("workspaces")
                make_states()
                recorder.mark("prepared")
            for step in range(steps):
                events.operations = 0
                events.work.clear()
                if step == 0:
                    begin_thread()
                loss = _forward(model, batch, autocast.enabled)
                if step == 0:
                    begin_thread()
                hooks.backward = True
                loss.backward()
                hooks.backward = False
                recorder.first_product = recorder.first_biased = None
                recorder.enter(None)
                recorder.mark("backward_rest")
                known = [parameter for parameter in model.parameters() if parameter.grad is not None]
                events.parts["gradients"] = sum(size([parameter.grad], parameter) for parameter in known)
                del known
                if not states:
                    make_states()
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


def _groups(model: Any, blocks: Sequence[Sequence[int]]) -> Callable[[str, Any], Place | None]:
    """(kind, parameter or buffer) → its place, if it belongs to a layer of one of the ``blocks``."""
    owner: dict[int, int] = {}
    layers = _layers(model) if blocks else []
    for number, block in enumerate(blocks):
        for index in block:
            for tensor in (*layers[index].parameters(), *layers[index].buffers()):
                owner[id(tensor)] = number
    return lambda kind, tensor: (kind, owner[id(tensor)]) if id(tensor) in owner else None


def _layers(model: Any) -> list[Any]:
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    decoder = getattr(inner, inner.base_model_prefix, inner)
    lists = [module for module in decoder.modules() if isinstance(module, torch.nn.ModuleList)]
    longest: Any = max(lists, key=lambda found: len(found))
    return list(longest)


def _has_biases(model: Any) -> bool:
    """Whether a linear layer has a bias; of GPT-2's own class too, whose name for it is Conv1D."""
    kinds = ("Linear", "Linear4bit", "Linear8bitLt", "Conv1D")
    return any(
        type(module).__name__ in kinds and getattr(module, "bias", None) is not None for module in model.modules()
    )


def _patched_modules(config: Any) -> list[Any]:
    """The modules in which Liger replaces names for this architecture."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    try:
        name = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)].__module__
    except KeyError:
        raise NotTraceable(f"config: transformers has no causal language model for {config.model_type!r}") from None
    return [sys.modules[name], torch.nn.functional]


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
    """Marks where forward, the loss with its backward pass, and the last layer's backward pass end; with ``blocks``,
    also where each block's two passes begin and end."""

    def __init__(self, model: Any, recorder: Recorder, blocks: Sequence[Sequence[int]] = ()) -> None:
        self.recorder = recorder
        self.backward = False
        inner = model.get_base_model() if hasattr(model, "get_base_model") else model
        decoder = getattr(inner, inner.base_model_prefix, inner)
        layers = _layers(model)
        decoder.register_forward_hook(self._forward_ends)
        layers[-1].register_forward_pre_hook(self._last_begins, with_kwargs=True)
        for number, block in enumerate(blocks):
            after = blocks[number + 1][0] if number + 1 < len(blocks) else block[-1] + 1
            layers[block[0]].register_forward_pre_hook(self._block_begins(number), with_kwargs=True)
            if number == len(blocks) - 1:
                if after < len(layers):
                    layers[after].register_forward_pre_hook(self._block_begins(None), with_kwargs=True)
                else:
                    layers[-1].register_forward_hook(self._blocks_end)

    def _forward_ends(self, _module: Any, _inputs: Any, output: Any) -> None:
        self.recorder.enter(None)
        self.recorder.mark("forward")
        hidden = output if isinstance(output, torch.Tensor) else output[0]
        if hidden.requires_grad:
            hidden.register_hook(lambda _: self.recorder.mark("loss"))

    def _last_begins(self, _module: Any, inputs: Any, named: Any) -> None:
        hidden = inputs[0] if inputs else named.get("hidden_states")
        if isinstance(hidden, torch.Tensor) and hidden.requires_grad and torch.is_grad_enabled():
            hidden.register_hook(lambda _: self.recorder.mark("backward_first"))

    def _block_begins(self, number: int | None) -> Callable[..., None]:
        """The block (None: what follows the last) is entered; when its input's gradient is known, its backward pass
        is over and that of the block before begins."""

        def hook(_module: Any, inputs: Any, named: Any) -> None:
            if self.backward:  # recomputed by checkpointing
                return
            self.recorder.enter(None if number is None else ("F", number))
            before = 2 if number is None else number - 1
            self._when_known(inputs[0] if inputs else named.get("hidden_states"), before)

        return hook

    def _blocks_end(self, _module: Any, _inputs: Any, output: Any) -> None:
        if not self.backward:  # the forward pass lets go of the last block's input a little later
            self._when_known(output if isinstance(output, torch.Tensor) else output[0], 2)

    def _when_known(self, hidden: Any, block: int) -> None:
        if isinstance(hidden, torch.Tensor) and hidden.requires_grad:
            hidden.register_hook(lambda _: self.recorder.enter(("B", block) if block >= 0 else None))
