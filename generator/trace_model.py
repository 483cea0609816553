"""A real transformers model on the meta device, prepared as a recipe and a method prepare it: no memory, no weights.

The steps are those of the recipes under ``measurements/``: quantised linear layers of bitsandbytes, PEFT adapters,
Liger kernels, non-reentrant checkpointing, the states of the optimiser.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Sequence
from typing import Any

import torch

from .records import Case
from .trace_libraries import answer_as_cuda, stub_triton

META = torch.device("meta")
WITH_LORA = ("lora", "qlora", "lora_8bit", "dora")
WITHOUT_DROPOUT = ("mixtral", "qwen3_moe", "glm4_moe_lite", "ernie4_5_moe")
"""Types whose experts PEFT adapts too; they are parameters, not layers, for which it knows no dropout."""
VIRTUAL_TOKENS = 20
LEAST_8BIT = 4096
"""bitsandbytes keeps fp32 states for smaller tensors (``min_8bit_size``)."""


class NotTraceable(ValueError):
    """transformers has no native class for the configuration, or Liger has no kernels for it."""


def read_config(config: dict[str, Any], layers: Sequence[int] | None = None) -> Any:
    """The transformers configuration of the text model, cut to ``layers`` if given.

    Raises NotTraceable for a model type that needs code from its repository, which is never run.
    """
    from transformers import CONFIG_MAPPING

    data = copy.deepcopy(config)
    model_type = str(data.pop("model_type", None))
    data.pop("quantization_config", None)
    data.pop("auto_map", None)
    if model_type not in CONFIG_MAPPING:
        raise NotTraceable(f"config: model_type: transformers has no native class for {model_type!r}")
    try:
        found = CONFIG_MAPPING[model_type](**data).get_text_config(decoder=True)
    except Exception as error:
        raise NotTraceable(f"config: {type(error).__name__}: {error}".splitlines()[0]) from None
    found.use_cache = False
    if layers is not None:
        full = found.num_hidden_layers
        for name, value in list(vars(found).items()):
            if isinstance(value, (list, tuple)) and len(value) == full:
                setattr(found, name, [value[index] for index in layers])
        found.num_hidden_layers = len(layers)
    return found


def build_model(config: Any, case: Case) -> Any:
    """The model ready to train (``case`` says how). All parameters are on the meta device."""
    from transformers import AutoModelForCausalLM

    warnings.filterwarnings("ignore")
    dtype = torch.float32 if case.method == "full" else torch.bfloat16
    with META:
        try:
            model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa")
        except ValueError as error:
            if "Unrecognized configuration" in str(error):
                raise NotTraceable(f"config: {str(error).splitlines()[0]}") from None
            model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="eager")
    model.tie_weights()
    model = _quantise(model, case.method)
    if case.recipe == "lean":
        _apply_liger(model, config.model_type)
    elif case.method in ("qlora", "lora_8bit"):
        from peft import prepare_model_for_kbit_training

        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    return attach_method(model, case)


def _quantise(model: Any, method: str) -> Any:
    if method not in ("qlora", "lora_8bit"):
        return model
    import bitsandbytes as bnb
    import bitsandbytes.functional as functional
    from transformers import BitsAndBytesConfig
    from transformers.integrations import replace_with_bnb_linear
    from transformers.quantizers.base import get_keys_to_not_convert

    four = method == "qlora"
    wanted = (
        BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
                           bnb_4bit_compute_dtype=torch.bfloat16)
        if four
        else BitsAndBytesConfig(load_in_8bit=True)
    )  # fmt: skip
    model = replace_with_bnb_linear(model, get_keys_to_not_convert(model), wanted)
    model.is_loaded_in_4bit, model.is_loaded_in_8bit, model.is_quantized = four, not four, True
    model.quantization_method = wanted.quant_method
    model.config.quantization_config = wanted
    model.hf_device_map = {"": "meta"}
    for module in model.modules():
        if type(module).__name__ == "Linear4bit":
            count = module.in_features * module.out_features
            blocks = -(-count // 64)

            def empty(*shape: int, dtype: torch.dtype = torch.float32) -> Any:
                return torch.empty(shape, dtype=dtype, device=META)

            inner = functional.QuantState(
                absmax=empty(-(-blocks // 256)), blocksize=256, code=empty(256), dtype=torch.float32
            )
            state = functional.QuantState(
                absmax=empty(blocks, dtype=torch.uint8), shape=torch.Size((module.out_features, module.in_features)),
                dtype=torch.bfloat16, blocksize=64, code=empty(16), quant_type="nf4", offset=empty(), state2=inner,
            )  # fmt: skip
            weight = bnb.nn.Params4bit(empty(-(-count // 2), 1, dtype=torch.uint8), requires_grad=False,
                                       quant_state=state, bnb_quantized=True, module=module)  # fmt: skip
            module.weight, module.quant_state = weight, state
        elif type(module).__name__ == "Linear8bitLt":
            value = torch.empty(module.weight.shape, dtype=torch.int8, device=META)
            scales = torch.empty(module.out_features, dtype=torch.float32, device=META)
            module.weight = bnb.nn.Int8Params(value, requires_grad=False, has_fp16_weights=False, SCB=scales)
            module.weight.CB, module.weight.SCB = value, scales
    return model


def _apply_liger(model: Any, model_type: str) -> None:
    """Liger's kernels as ``use_liger_kernel=True`` applies them. Raises NotTraceable where it has none."""
    with stub_triton():
        import liger_kernel.ops.fused_linear_cross_entropy as loss
        import liger_kernel.ops.rms_norm as norm
        from liger_kernel.transformers import _apply_liger_kernel_to_instance
        from liger_kernel.transformers.monkey_patch import MODEL_TYPE_TO_APPLY_LIGER_FN

        if model_type not in MODEL_TYPE_TO_APPLY_LIGER_FN:
            raise NotTraceable(f"liger-kernel has no kernels for {model_type}")
        for function in (loss._can_use_mm_out, loss.fused_linear_cross_entropy_forward, norm.rms_norm_backward):
            answer_as_cuda(function)
        _apply_liger_kernel_to_instance(model=model)


def attach_method(model: Any, case: Case) -> Any:
    """Everything trainable, or the base frozen and adapters added."""
    from peft import LoraConfig, PromptTuningConfig, get_peft_model

    full = case.method.startswith("full")
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.requires_grad_(full)
    if case.method in WITH_LORA:
        if case.gradient_checkpointing and case.method not in ("qlora", "lora_8bit"):
            model.enable_input_require_grads()
        targets = case.lora_targets if case.lora_targets == "all-linear" else list(case.lora_targets)
        wanted = LoraConfig(
            r=case.lora_rank, lora_alpha=2 * case.lora_rank, lora_dropout=0.05, task_type="CAUSAL_LM",
            target_modules=targets, use_dora=case.method == "dora",
        )  # fmt: skip
        if model.config.model_type in WITHOUT_DROPOUT:
            wanted.lora_dropout = 0.0
        with META:
            model = get_peft_model(model, wanted)
    elif case.method == "prompt_tuning":
        with META:
            prompt = PromptTuningConfig(num_virtual_tokens=VIRTUAL_TOKENS, task_type="CAUSAL_LM")
            model = get_peft_model(model, prompt)
    model.train()
    return model


def optimizer_states(parameter: Any, method: str, embedding: bool = False) -> list[Any]:
    """What an optimiser keeps of a parameter after its first step: AdamW's two moments and counter, or 8-bit blocks."""
    count = parameter.numel()
    if method != "full_bf16_adam8bit":
        counter = torch.zeros((), dtype=torch.float32, device=META)
        return [counter, *(torch.empty_like(parameter, requires_grad=False) for _ in range(2))]
    if count < LEAST_8BIT or embedding:
        return [torch.empty(count, dtype=torch.float32, device=META) for _ in range(2)]
    moments = [torch.empty(count, dtype=torch.uint8, device=META) for _ in range(2)]
    return [*moments, *(torch.empty(math.ceil(count / 256), device=META) for _ in range(2))]
