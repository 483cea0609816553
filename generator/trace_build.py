"""Records how a model comes to be on the GPU: what loading it, preparing it and adding adapters leave in the allocator.

Which segments the weights lie in, and with what holes, decides how much of them a step can use, and so how much more
than its peak it needs. The order is that of ``from_pretrained``: every parameter arrives alone and is quantised on
arrival; then PEFT casts what is not quantised to fp32 (``prepare_model_for_kbit_training``, stock recipe) and adds
adapters, which it makes in fp32, moves to the dtype that the layer computes in and casts back. After each of the three
the cache is emptied. Sources: ``quantize_4bit`` in ``bitsandbytes/functional.py`` (0.50), ``LoraLayer.update_layer``
and ``cast_adapter_dtype`` in PEFT 0.21.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from .records import Case
from .trace_allocator import LOADED
from .trace_recorder import Place, Recorder


def record_build(model: Any, recorder: Recorder, groups: Callable[[str, Any], Place | None], case: Case) -> None:
    """Enter every parameter and buffer of ``model`` in the order in which it is allocated, and what is freed between.

    ``groups`` says which block of layers a tensor belongs to. Ends with the mark ``build``.
    """
    cast = case.recipe == "stock" and case.method in ("qlora", "lora_8bit")
    narrow: list[tuple[Any, Callable[[], None]]] = []
    adapters: list[Any] = []
    known: set[int] = set()
    for tensor in _in_order(model, adapters):
        if id(tensor) in known:
            continue
        known.add(id(tensor))
        recorder.enter(groups("W", tensor))
        if getattr(tensor, "quant_state", None) is not None:
            _quantise(recorder, tensor)
        elif cast and isinstance(tensor, torch.nn.Parameter) and tensor.element_size() == 4:
            narrow.append((tensor, recorder.reserve(2 * tensor.numel())))
        else:
            recorder.add(tensor)
            if getattr(tensor, "SCB", None) is not None:
                recorder.add(tensor.SCB)
    recorder.enter(None)
    if narrow:
        for tensor, free in narrow:
            recorder.enter(groups("W", tensor))
            recorder.add(tensor)
            free()
        recorder.enter(None)
        recorder.mark(LOADED)
    if adapters:
        recorder.mark(LOADED)
        halves = []
        for pair in zip(adapters[::2], adapters[1::2], strict=False):
            recorder.enter(groups("W", pair[0]))
            whole = [recorder.reserve(tensor.numel() * 4) for tensor in pair]
            for tensor, free in zip(pair, whole, strict=True):
                halves.append((tensor, recorder.reserve(tensor.numel() * 2)))
                free()
        for tensor, free in halves:
            recorder.enter(groups("W", tensor))
            recorder.add(tensor)
            free()
        recorder.enter(None)
    recorder.mark("build")


def _in_order(model: Any, adapters: list[Any]) -> Iterator[Any]:
    """Parameters and buffers of the base model, module by module; those of adapters are put into ``adapters``."""
    for name, module in model.named_modules():
        own = [*module._parameters.values(), *module._buffers.values()]
        if "lora_" in name or "prompt_encoder" in name:
            adapters += [tensor for tensor in own if tensor is not None]
        else:
            yield from (tensor for tensor in own if tensor is not None)


def _quantise(recorder: Recorder, tensor: Any) -> None:
    """A matrix that arrives in 16 bits and is quantised, its scales too."""
    state = tensor.quant_state
    scales = 4 * state.absmax.numel()
    arrived = recorder.reserve(2 * state.shape[0] * state.shape[1])
    first = recorder.reserve(scales)
    recorder.add(tensor)
    recorder.add(state.code)
    recorder.add(state.offset)
    shifted = recorder.reserve(scales)
    recorder.add(state.state2.absmax)
    recorder.add(state.absmax)
    recorder.add(state.state2.code)
    shifted()
    first()
    arrived()
