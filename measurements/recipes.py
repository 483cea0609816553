"""The recipes: what `stock` and `lean` mean, in code short enough to copy.

`stock` is what the Hugging Face documentation tells people to write: transformers' Trainer with ``bf16=True``,
``attn_implementation="sdpa"``, non-reentrant gradient checkpointing, ``adamw_torch_fused``, PEFT adapters in fp32,
``prepare_model_for_kbit_training`` before QLoRA. The loop below takes Trainer's own steps through the same accelerate
calls in the same order: forward under autocast with fp32 outputs, backward, clip the gradient norm to 1.0, step, then
``model.zero_grad()``, which sets gradients to None. So no gradient lives during the next forward pass, in Trainer as
here. Read from Trainer's source (transformers 5.17); not yet compared with a Trainer run on a GPU.

`lean` trains the same adapters on the same objective and differs in rounding only: Liger kernels as Trainer's
``use_liger_kernel=True`` applies them (the loss is computed in chunks, the logits never exist), and QLoRA without
``prepare_model_for_kbit_training`` (norms, embeddings and head stay bf16). Paged optimisers are left out on purpose:
their managed memory escapes every tier that is recorded.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from peft import LoraConfig, PromptTuningConfig, get_peft_model, prepare_model_for_kbit_training

from . import workload
from .cells import WITH_LORA, Cell

VIRTUAL_TOKENS = 20
# PEFT adapts the experts of these model types too; they are parameters, not layers, for which it knows no dropout.
WITHOUT_DROPOUT = ("mixtral", "qwen3_moe")
NEEDS = {  # package: methods that use it
    "bitsandbytes": ("qlora", "lora_8bit", "full_bf16_adam8bit"),
}


def hash_recipes() -> str:
    """12 hex digits of the functions that decide what is measured; a result with another hash is stale.

    Comments, docstrings and layout do not count.
    """
    built: tuple[Any, ...] = (workload.describe_weights, workload.quantization_config, workload.make_batch)
    trained: tuple[Any, ...] = (prepared_base, attach_method, make_optimizer, make_accelerator, train_step)
    digest = hashlib.sha256()
    for function in built + trained:
        tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(function))))
        body = tree.body[0].body  # type: ignore[attr-defined]
        if isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
            del body[0]
        digest.update(ast.unparse(tree).encode())  # not ast.dump, which differs between versions of Python
    return digest.hexdigest()[:12]


def find_obstacle(cell: Cell, model_type: str, compute_dtype: torch.dtype) -> str | None:
    """Why this machine cannot measure the cell, in words for its owner, or None."""
    for package, methods in NEEDS.items():
        if cell.method in methods and importlib.util.find_spec(package) is None:
            return f"{package} is not installed (pip install {package}); its methods are skipped: {', '.join(methods)}"
    if cell.recipe == "lean":
        if importlib.util.find_spec("liger_kernel") is None or importlib.util.find_spec("triton") is None:
            return "liger-kernel is not installed (pip install liger-kernel); the lean recipe is skipped"
        from liger_kernel.transformers.monkey_patch import MODEL_TYPE_TO_APPLY_LIGER_FN

        if model_type not in MODEL_TYPE_TO_APPLY_LIGER_FN:
            return f"liger-kernel has no kernels for {model_type}; the lean recipe is skipped for it"
    if compute_dtype == torch.float16 and cell.method == "full_bf16_adam8bit":
        return "this GPU has no bf16, and fp16 weights cannot be trained in full; full_bf16_adam8bit is skipped"
    return None


def choose_compute_dtype(device: torch.device) -> torch.dtype:
    """bf16, or fp16 with loss scaling on NVIDIA GPUs before Ampere, which have no bf16 arithmetic."""
    if device.type == "cuda" and torch.version.hip is None and torch.cuda.get_device_capability(device) < (8, 0):
        return torch.float16
    return torch.bfloat16


@contextmanager
def prepared_base(model: Any, recipe: str, weights: str) -> Iterator[Any]:
    """What a recipe does to the model once, before any method is attached. Undone at exit where it is global."""
    if recipe == "stock":
        if weights in ("nf4", "int8"):
            model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
        yield model
        return
    from liger_kernel.transformers import _apply_liger_kernel_to_instance

    # Liger also replaces names in the modeling module (rotary embedding) and, where it has no fused loss (Granite),
    # PyTorch's own cross_entropy: put them back for the next model.
    module = sys.modules[type(model).__module__]
    names = dict(vars(module))
    cross_entropy = torch.nn.functional.cross_entropy
    try:
        _apply_liger_kernel_to_instance(model=model)
        yield model
    finally:
        vars(module).update(names)
        torch.nn.functional.cross_entropy = cross_entropy


def attach_method(model: Any, cell: Cell) -> Any:
    """The model that is trained: everything trainable, or frozen with adapters. Undone by ``detach_method``."""
    full = cell.method.startswith("full")
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.requires_grad_(full)
    checkpointing = cell.gradient_checkpointing
    if cell.method in WITH_LORA:
        if checkpointing and cell.weights not in ("nf4", "int8"):
            model.enable_input_require_grads()
        targets = cell.lora_targets if cell.lora_targets == "all-linear" else list(cell.lora_targets or ())
        rank = cell.lora_rank or 16
        config = LoraConfig(
            r=rank,
            lora_alpha=2 * rank,
            lora_dropout=0.0 if model.config.model_type in WITHOUT_DROPOUT else 0.05,
            target_modules=targets,
            use_dora=cell.method == "dora",
            task_type="CAUSAL_LM",
        )
        with model.device:  # new adapter weights are drawn on the device, which is faster and changes nothing else
            model = get_peft_model(model, config)
    elif cell.method == "prompt_tuning":
        model = get_peft_model(model, PromptTuningConfig(num_virtual_tokens=VIRTUAL_TOKENS, task_type="CAUSAL_LM"))
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.train()
    return model


def detach_method(model: Any, base: Any, cell: Cell) -> None:
    """Give ``base`` back as it was before ``attach_method``."""
    if cell.method in WITH_LORA and model is not base:
        model.unload()
    if cell.gradient_checkpointing:
        base.gradient_checkpointing_disable()
        base.disable_input_require_grads()
    for name in ("peft_config", "_original_forward", "_is_accelerate_prepared"):
        base.__dict__.pop(name, None)
    for parameter in base.parameters():
        parameter.grad = None
    if cell.method == "full_bf16_adam8bit":  # the manager is one for the process and would keep the embedding alive
        import bitsandbytes

        bitsandbytes.optim.GlobalOptimManager.get_instance().module_weight_config_triple = []
        bitsandbytes.optim.GlobalOptimManager.get_instance().initialize()


def make_optimizer(model: Any, method: str) -> torch.optim.Optimizer:
    """Trainer's optimiser: AdamW in two groups, with and without weight decay."""
    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    decayed = [parameter for name, parameter in trained if parameter.dim() > 1]
    others = [parameter for name, parameter in trained if parameter.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    if method != "full_bf16_adam8bit":
        device = trained[0][1].device
        return torch.optim.AdamW(groups, lr=1e-5, fused=device.type == "cuda")
    import bitsandbytes

    optimizer = bitsandbytes.optim.AdamW8bit(groups, lr=1e-5)
    manager = bitsandbytes.optim.GlobalOptimManager.get_instance()
    manager.initialize()  # forget the modules of the cell before
    manager.module_weight_config_triple = []
    for module in model.modules():
        if isinstance(module, torch.nn.Embedding):  # Trainer keeps the states of embeddings in fp32
            manager.register_module_override(module, "weight", {"optim_bits": 32})
    return optimizer  # type: ignore[no-any-return]


def make_accelerator(device: torch.device, compute_dtype: torch.dtype) -> Accelerator:
    precision = "fp16" if compute_dtype == torch.float16 else "bf16"
    return Accelerator(mixed_precision=precision, cpu=device.type == "cpu")


def _ignore(_phase: str) -> None:
    pass


def train_step(
    accelerator: Accelerator,
    model: Any,
    optimizer: Any,
    batch: dict[str, torch.Tensor],
    mark: Callable[[str], None] = _ignore,
) -> torch.Tensor:
    """One training step, as Trainer takes it. ``mark`` is told where a phase ends; returns the loss."""
    loss = model(**batch).loss
    accelerator.backward(loss)
    mark("backward")
    accelerator.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    model.zero_grad()
    mark("step")
    return loss.detach()  # type: ignore[no-any-return]
