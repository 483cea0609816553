"""The model and the batch of a cell, from ``config.json`` alone.

Weights are random: neither the memory nor the speed of a training step depends on their values (a mixture of experts
is the exception in principle: random routing is nearly even). Building goes as ``from_pretrained`` does: every
parameter is first described without memory, then put on the device one at a time, quantised on arrival where the
method asks for it. So the peak while building is the peak while loading, short of the loader's own read-ahead.
"""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import torch
from accelerate import init_empty_weights
from torch import nn
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel

from .cells import Cell, PlanError, read_config
from .size import guess_bytes, read_head_widths


def _layer_lists(config: Any, layers: int) -> list[str]:
    """Names of the config fields that hold one entry per layer."""
    return [name for name, value in vars(config).items() if isinstance(value, list | tuple) and len(value) == layers]


def read_model_config(config: dict[str, Any], layers: int | None = None) -> Any:
    """The transformers config to build: the text part of a multimodal one, cut to the first ``layers`` layers if given.

    Raises PlanError when transformers has no native class for it.
    """
    data = copy.deepcopy(config)
    model_type = data.pop("model_type")
    data.pop("quantization_config", None)  # measured as bf16 or as the method quantises it
    if model_type not in CONFIG_MAPPING:
        raise PlanError(f"config: model_type: transformers has no native class for {model_type!r}")
    found = CONFIG_MAPPING[model_type](**data)
    found = found.get_text_config(decoder=True)
    found.use_cache = False  # as Trainer sets it
    if layers is not None:
        full = found.num_hidden_layers
        for name in _layer_lists(found, full):
            setattr(found, name, list(getattr(found, name))[:layers])
        found.num_hidden_layers = layers
        if getattr(found, "num_kv_shared_layers", 0):
            raise PlanError("config: layers that share keys and values cannot be cut")
    return found


@cache
def describe_shape(model: str) -> Any:
    """The transformers config of a model that has a file in configs/."""
    return read_model_config(read_config(model)["config"])


def guess_need(cell: Cell) -> int:
    """Bytes to reserve for a cell."""
    return guess_bytes(cell, describe_shape(cell.model))


def describe_model(config: Any, dtype: torch.dtype) -> PreTrainedModel:
    """The model without memory for its parameters: sdpa attention, or eager where the model has no sdpa."""
    with init_empty_weights():
        try:
            model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa")
        except ValueError:
            model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="eager")
    model.tie_weights()
    return model  # type: ignore[no-any-return]


def quantization_config(weights: str) -> BitsAndBytesConfig | None:
    """What the documentation of bitsandbytes in transformers tells people to pass to ``from_pretrained``."""
    if weights == "nf4":
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
    if weights == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return None


def describe_weights(config: Any, weights: str, device: torch.device, dtype: torch.dtype = torch.bfloat16) -> Any:
    """The model without memory for its parameters, its linear layers of the kind that ``weights`` asks for."""
    model = describe_model(config, torch.float32 if weights == "float32" else dtype)
    quantization = quantization_config(weights)
    if quantization is not None:
        from transformers.integrations import replace_with_bnb_linear
        from transformers.quantizers.base import get_keys_to_not_convert

        model = replace_with_bnb_linear(model, get_keys_to_not_convert(model), quantization)
        model.is_loaded_in_4bit = weights == "nf4"
        model.is_loaded_in_8bit = weights == "int8"
        model.is_quantized = True
        model.quantization_method = quantization.quant_method
        model.config.quantization_config = quantization
        model.hf_device_map = {"": device.index or 0 if device.type == "cuda" else device.type}
    return model


def compute_in_fp16(model: nn.Module) -> None:
    """Have 4-bit layers compute in fp16, on GPUs without bf16."""
    for module in model.modules():
        if hasattr(module, "compute_dtype"):
            module.compute_dtype = torch.float16  # type: ignore[assignment]


def build_model(config: Any, weights: str, device: torch.device, dtype: torch.dtype = torch.bfloat16) -> Any:
    """A model with random weights on ``device``; ``weights`` is float32, bfloat16, nf4 or int8."""
    model = describe_weights(config, weights, device, dtype)
    materialise(model, device)
    return model


INT8_SCALE = 0.01
"""Largest weight of an 8-bit layer. LLM.int8 computes columns with a value above 6 in 16 bits and keeps them: about one
in a thousand of a trained model. Weights as large as those of other layers would make it all columns of the MLP."""


def materialise(model: nn.Module, device: torch.device) -> None:
    """Put every parameter and buffer on ``device``, parameters with random values, tied ones once."""
    placed: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in list(module._parameters.items()):
            if parameter is None:
                continue
            if id(parameter) not in placed:
                placed[id(parameter)] = _random_parameter(parameter, device)
            module._parameters[name] = placed[id(parameter)]
        for name, buffer in list(module._buffers.items()):
            if buffer is not None:
                module._buffers[name] = buffer.to(device)


@torch.no_grad()  # type: ignore[untyped-decorator]
def _random_parameter(parameter: nn.Parameter, device: torch.device) -> nn.Parameter:
    kind = type(parameter).__name__
    if kind == "Int8Params":
        import bitsandbytes as bnb

        value = torch.randint(-127, 128, parameter.shape, dtype=torch.int8, device=device)
        scales = torch.full((parameter.shape[0],), INT8_SCALE, dtype=torch.float32, device=device)
        return bnb.nn.Int8Params(value, requires_grad=False, has_fp16_weights=False, CB=value, SCB=scales)  # type: ignore[no-any-return]
    dtype = torch.bfloat16 if kind == "Params4bit" else parameter.dtype
    value = torch.empty(parameter.shape, dtype=dtype, device=device)
    if parameter.dim() > 1:
        value.normal_(0.0, 0.02)
    else:
        value.fill_(1.0)
    if kind == "Params4bit":
        options = {key: item for key, item in vars(parameter).items() if not key.startswith("_")}
        options.pop("requires_grad", None)
        return type(parameter)(value, requires_grad=False, **options).to(device)
    return nn.Parameter(value, requires_grad=True)


def make_batch(vocabulary: int, micro_batch: int, seq_len: int, device: torch.device) -> dict[str, torch.Tensor]:
    """Token ids [micro_batch, seq_len], a mask of ones and labels on every token, as a collator gives them."""
    generator = torch.Generator().manual_seed(seq_len)
    tokens = torch.randint(0, vocabulary, (micro_batch, seq_len), generator=generator).to(device)
    return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": tokens.clone()}


def count_parameters(config: Any) -> dict[str, int]:
    """Parameters of the whole model: total, active per token, and in matrix products per token (``matmul``).

    Read off the described model, so tied weights count once in the total; the head counts in ``matmul`` either way.
    """
    model = describe_model(config, torch.bfloat16)
    embeddings = {id(parameter) for parameter in model.get_input_embeddings().parameters()}
    head = model.get_output_embeddings()
    experts = getattr(config, "num_experts", None) or getattr(config, "num_local_experts", None) or 1
    used = getattr(config, "num_experts_per_tok", None) or getattr(config, "experts_per_token", None) or experts
    seen: set[int] = set()
    total = active = matmul = 0
    for module in model.modules():
        share = used / experts if "Experts" in type(module).__name__ else 1.0
        for parameter in module._parameters.values():
            if parameter is None or id(parameter) in seen:
                continue
            seen.add(id(parameter))
            size = parameter.numel()
            total += size
            active += round(size * share)
            is_lookup = id(parameter) in embeddings or isinstance(module, nn.Embedding)
            if parameter.dim() > 1 and not is_lookup:
                matmul += round(size * share)
    if head is not None and id(head.weight) in embeddings:
        matmul += head.weight.numel()
    return {"total": total, "active": active, "matmul": matmul}


def _words(widths: list[int]) -> str:
    return " or ".join(str(width) for width in sorted(set(widths)))


def count_step_flops(
    config: Any, counts: dict[str, int], trainable: int, full: bool, micro_batch: int, seq_len: int
) -> tuple[float, str]:
    """Model FLOPs of one training step and the formula, which is stored with the result.

    Matrix products: 2 FLOPs per parameter and token forward, twice that backward when the weights are trained, once
    when they are frozen (only gradients of the inputs). Attention: QKᵀ and AV, causal, so half of the square; windows
    count only what lies inside them. What checkpointing computes again is not counted, nor are norms, softmax,
    dequantisation and the optimiser (below 2 % for models above 1 B parameters).
    """
    tokens = micro_batch * seq_len
    heads = config.num_attention_heads
    widths = [heads * width for width in read_head_widths(config)]
    kinds = list(getattr(config, "layer_types", None) or ["full_attention"] * config.num_hidden_layers)
    window = getattr(config, "sliding_window", None) or seq_len
    attention = 0.0
    for kind, width in zip(kinds, widths, strict=False):
        if kind in ("linear_attention", "conv", "mamba", "recurrent"):
            continue
        span = min(window, seq_len) if kind == "sliding_attention" else seq_len
        pairs = seq_len * span - span * span / 2  # causal, inside the window
        attention += 4.0 * micro_batch * pairs * width
    factor = 3 if full else 2
    matmul = 2.0 * counts["matmul"] * tokens * factor
    adapters = 0.0 if full else 6.0 * trainable * tokens
    formula = (
        f"2·N·T·{factor} + {'0' if full else '6·A·T'} + 3·Σ_layers 4·B·P·W; N = {counts['matmul']} parameters in "
        f"matrix products per token, T = {tokens} tokens, A = {trainable} adapter parameters, P = causal pairs inside "
        f"the layer's window, W = {_words(widths)}; recomputation not counted"
    )
    return matmul + adapters + 3 * attention, formula
