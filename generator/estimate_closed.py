"""Memory and speed of a training step in closed form, from the shape of a model alone.

Two moments of a step can be its peak: the backward pass of the loss (``loss``), when everything saved for the backward
pass is alive together with the logits, and the backward pass of a layer (``layer``), when the gradients are. Bytes per
token are counted from what the modeling code of transformers 5.17 and PEFT 0.21 saves under bf16 autocast: an RMSNorm
keeps an fp32 copy of its input; a frozen linear layer keeps nothing, a LoRA branch its dropped-out input (2 bytes) and
the dropout mask (1 byte); SiLU and the product after it keep three times the inner width; attention keeps q, k, v and
its output. The loss keeps fp32 log-probabilities and, in its backward pass, two more tensors of that size: 12 bytes per
logit. Liger's fused loss keeps a chunk of logits instead. Before calibration the error is about 5–15 % (more on small
models in the lean recipe), which the published interval says.
"""

from __future__ import annotations

import math
from collections.abc import Container, Sequence
from typing import Literal

from .architecture import Layer, Shape
from .estimate import ROW_UNITS, SPEED_UNITS, Architecture, Cell, CoefficientSet, Row, Speed, set_id

VIRTUAL_TOKENS = 20
LIGER_TYPES = frozenset(
    (
        "llama",
        "mistral",
        "mixtral",
        "qwen2",
        "qwen3",
        "qwen3_moe",
        "gemma",
        "gemma2",
        "gemma3_text",
        "phi3",
        "olmo2",
        "olmo3",
        "granite",
        "glm4",
        "smollm3",
        "internlm2",
        "internlm3",
        "baichuan",
        "qwen",
        "minicpm",
        "chatglm",
        "glm",
        "qwen3_5_text",
        "qwen3_5_moe_text",
        "gpt_oss",
    )
)
"""Model types to which Liger kernels can be applied, and remote-code families that are measured as one of them."""

UNFUSED_TYPES = frozenset(("granite",))
"""Model types whose head and loss Liger leaves apart: their logits exist in the lean recipe too."""
UNFUSED_LOGIT_BYTES = 10
"""bf16 logits before and after scaling, their fp32 copy, which Liger's loss overwrites with its gradient."""
WORKSPACE_BYTES = 2.0 * 32 * 1024**2
"""cuBLAS workspaces of the threads of the forward and the backward pass on Hopper; traced and measured."""

WEIGHTS = {
    "full": "fp32", "full_bf16_adam8bit": "bf16", "lora": "bf16", "dora": "bf16", "prompt_tuning": "bf16",
    "qlora": "nf4", "lora_8bit": "int8",
}  # fmt: skip
NF4_BYTES = 0.5 + 1 / 64 + 4 / 64 / 256
"""Per weight: 4 bits, one 8-bit scale per 64 weights, one fp32 scale per 256 of those (QLoRA, section 3)."""


LAYER_TARGET_BYTES = {("stock", False): 6.0, ("lean", False): 8.0, ("stock", True): 1.5, ("lean", True): 2.1}
"""(recipe, whether the base is quantised) → bytes per token and input of a linear layer without adapter that the
backward pass of a checkpointed layer saves; traced, adapters on q and v against adapters on all linear layers."""


LOSS = {"frozen": (4.0, 4 * 3.1), "full": (18.0, 9 * 3.1), "full_bf16_adam8bit": (8.0, 5 * 3.1)}
"""Of Liger's fused loss, for each chunk: bytes per weight of the head that are read and written, traced (the gradient
of an fp32 head is added up in fp32), and launches (traced; a Triton kernel takes the processor three times as long)."""
UPDATE_BYTES = {"full": 28.0, "full_bf16_adam8bit": 57.0}
"""Moved by the optimiser per parameter: fused AdamW reads parameter, gradient and two states and writes three of them.
That of 8-bit AdamW computes more than it moves; this is what it takes on an H100, as bytes."""
RANK_BYTES = 37.0
"""Moved per adapter parameter: its cast to bf16 in each pass, its gradient, clipping, AdamW; fitted on ranks to 256."""
ADAPTER_BYTES, ADAPTER_LAUNCHES = 44.0, 28.8
"""Of a LoRA branch with checkpointing: bytes per token and input or output, kernels per linear layer; traced."""
LOOP_LAUNCHES, LOOP_CHUNK = 75.0, 64
"""Kernels per chunk of so many positions and layer of linear attention in PyTorch's own loop, with checkpointing; seen
by the profiler on Qwen3.5."""
WITHOUT_CHECKPOINTING = 2 / 3
"""Passes of a step without checkpointing over those with: forward and backward instead of twice forward."""


QUANTITIES = ("allocated", "cap", "reserved", "speed", "launch", "processor")
BANDS = {
    "estimated": ((0.93, 1.07), (0.92, 1.08), (0.9, 1.12), (0.7, 1.4), (0.7, 1.4), (0.5, 2.0)),
    "interpolated": ((0.97, 1.03), (0.96, 1.05), (0.93, 1.08), (0.85, 1.2), (0.85, 1.2), (0.6, 1.7)),
    "closed": ((0.85, 1.15), (0.84, 1.16), (0.8, 1.2), (0.6, 1.7), (0.6, 1.7), (0.4, 2.5)),
}
"""Basis → interval of each quantity until a fit has measured it, as factors of the estimate."""


def make_sets() -> tuple[CoefficientSet, ...]:
    """Every recipe × method × checkpointing, before calibration."""
    bands = {basis: dict(zip(QUANTITIES, widths, strict=True)) for basis, widths in BANDS.items()}
    sets = []
    for recipe in ("stock", "lean"):
        for method, kind in WEIGHTS.items():
            quantised = kind in ("nf4", "int8")
            weights = f"{kind}_fp32" if quantised and recipe == "stock" else kind
            trained: Literal["all", "adapters", "prompt"] = "all" if method.startswith("full") else "adapters"
            if method == "prompt_tuning":
                trained = "prompt"
            low = method == "full_bf16_adam8bit"
            for on in (True, False):
                sets.append(
                    CoefficientSet(
                        set_id(recipe, method, on), weights, trained, 2 if low else 4, 2 if low else 4,
                        2.03125 if low else 8, 12 if recipe == "stock" else 0,
                        VIRTUAL_TOKENS if trained == "prompt" else 0,
                        (0.0, 1.05, 0.0), (0.0, 1.03, 0.0), 0.0 if on else 3.0,
                        LAYER_TARGET_BYTES[recipe, quantised] if on and trained == "adapters" else 0.0,
                        *(LOSS[method if trained == "all" else "frozen"] if recipe == "lean" else (0.0, 0.0)),
                        UPDATE_BYTES.get(method, 0.0), RANK_BYTES if trained == "adapters" else 0.0, {}, bands,
                    )
                )  # fmt: skip
    return tuple(sets)


def weight_bytes(shape: Shape) -> dict[str, float]:
    """Bytes of the resting weights for each way of keeping them. Experts are grouped tensors that stay bf16."""
    linear = shape.linear_weights
    rest = shape.text_parameters - linear
    return {
        "fp32": 4.0 * shape.text_parameters,
        "bf16": 2.0 * shape.text_parameters,
        "nf4": linear * NF4_BYTES + 2.0 * rest,
        "nf4_fp32": linear * NF4_BYTES + 4.0 * rest,
        "int8": linear * 1.0 + 2.0 * rest,
        "int8_fp32": linear * 1.0 + 4.0 * rest,
    }


def _saved(layer: Layer, shape: Shape, entry: CoefficientSet, lean: bool, stream: int) -> tuple[float, float, float]:
    """(per token, per rank and token, per pair) bytes that one layer saves for its backward pass."""
    h = shape.hidden
    outer = sum(x.inputs for x in layer.linears)
    q = layer.heads * layer.head_dim
    kv = layer.kv_heads * layer.head_dim
    full = entry.trained == "all"
    wide = full and entry.parameter_bytes == 4
    norms = 2 * h * (2 if lean else 4) + (2 * h * (4 if wide else 2) if full and not lean else 0)
    attention = 2.0 * (2 * q + 2 * kv) + 4 * layer.heads if q else 0.0
    expanding = max((x.outputs for x in layer.linears if x.name not in ("q_proj", "qkv_proj", "c_attn")), default=0)
    fused = any("gate_up" in x.name for x in layer.linears)
    gated = fused or sum(1 for x in layer.linears if x.outputs == expanding) > 1
    inner = max((x.inputs for x in layer.linears), default=h)
    mlp = (4.0 if lean else 6.0) * inner if gated else 4.0 * inner
    if layer.layernorm:
        norms = 2 * h * 4
        mlp = 8.0 * inner if not gated else mlp
    mlp += 10.0 * layer.expert_inner * layer.experts_per_token + 4.0 * h * layer.experts_per_token
    inputs = 2.0 * outer if wide or (full and not lean) else 2.0 * inner if full else 0.0
    if entry.trained == "adapters":
        inputs = 3.0 * outer
    rank = 2.0 * len(layer.linears) if entry.trained == "adapters" else 0.0
    pair = (2.0 + 4.0) * layer.heads if shape.eager_attention else 0.0
    recurrent = 16.0 * layer.heads * layer.head_dim if layer.kind in ("linear_attention", "mamba2") else 0.0
    return norms + attention + mlp + inputs + recurrent + 2.0 * stream * h * (0 if lean else 0.5), rank, pair


def _rows(shape: Shape, entry: CoefficientSet, weights: dict[str, float]) -> list[Row]:
    recipe, method, checkpointing = entry.id.split("/")
    lean, on = recipe == "lean", checkpointing == "on"
    full = entry.trained == "all"
    wide = method == "full" or (entry.weights.endswith("_fp32"))
    stream = 4 if wide else 2
    h, vocab = shape.hidden, shape.vocab
    count = len(shape.layers)
    rank_parameters = float(shape.lora_parameters_per_rank)
    state = entry.parameter_bytes + entry.optimizer_bytes
    fixed = weights[entry.weights] + WORKSPACE_BYTES
    per_rank = 0.0
    if full:
        fixed += shape.text_parameters * entry.optimizer_bytes
        if method == "full_bf16_adam8bit":  # Trainer keeps the states of embeddings in fp32
            fixed += shape.embedding_parameters * (8.0 - entry.optimizer_bytes)
    elif entry.trained == "adapters":
        per_rank = rank_parameters * state
        if method == "dora":
            magnitudes = sum(x.outputs * number for layer, number in shape.kinds.items() for x in layer.linears)
            fixed += magnitudes * (state + entry.gradient_bytes)
    else:
        fixed += VIRTUAL_TOKENS * h * (state + entry.gradient_bytes)

    kinds = shape.kinds
    saved = [_saved(layer, shape, entry, lean, stream) for layer in kinds]
    one = max(saved, default=(0.0, 0.0, 0.0))
    every = [[value * number for value in kind] for kind, number in zip(saved, kinds.values(), strict=True)]
    kept = (count * h * stream, 0.0, 0.0) if on else tuple(sum(column) for column in zip(*every, strict=True))
    inner = max((x.inputs for layer in kinds for x in layer.linears), default=h)
    inner = max(inner, max(layer.expert_inner * layer.experts_per_token for layer in kinds))
    largest = max((x.weights for layer in kinds for x in layer.linears), default=0)
    working = 2.0 * 2 * inner + 2.0 * stream * h
    head = 2.0 * vocab * h if wide and not lean else 0.0  # autocast keeps a bf16 copy of an fp32 head
    dequantised = 2.0 * largest if entry.weights.startswith("nf4") or entry.weights.startswith("int8") else 0.0

    soft = 4.0 if shape.soft_capped else 0.0
    loss_tokens = kept[0] + (12.0 + soft) * vocab + 2.0 * h if not lean else kept[0] + 3.0 * 2 * h
    chunk = 2.0 * vocab if lean else 0.0
    if lean and shape.model_type in UNFUSED_TYPES:
        loss_tokens, chunk = kept[0] + float(UNFUSED_LOGIT_BYTES) * vocab + 2.0 * h, 0.0
    loss_fixed = fixed + head
    if lean and full:
        loss_fixed += 2.0 * vocab * h * entry.gradient_bytes
    rows = [(loss_fixed, per_rank, loss_tokens, kept[1], kept[2], chunk, 0.0)]
    if method == "full" and not lean:
        # The autocast cache holds a bf16 copy of every weight until the forward pass, the loss included, is over.
        rows.append((fixed + 2.0 * shape.text_parameters, 0.0, kept[0] + 10.0 * vocab, 0.0, kept[2], 0.0, 0.0))
    gradients = shape.text_parameters * entry.gradient_bytes if full else 0.0
    grad_rank = rank_parameters * entry.gradient_bytes
    layer_tokens = h * stream + one[0] + working if on else one[0] + working
    cast = 2.0 * max(layer.parameters for layer in kinds) if method == "full" else 0.0
    rows.append((fixed + gradients + cast + dequantised, per_rank + grad_rank, layer_tokens, one[1], one[2], 0.0, 1.0))
    first = kept[0] + (one[0] if on else 0.0) + working
    tail = vocab * h * entry.gradient_bytes if full else 0.0
    rows.append((fixed + tail + cast + dequantised, per_rank, first, one[1] if on else kept[1], kept[2], 0.0, 1.0))
    return rows


def _speed(shape: Shape, entry: CoefficientSet) -> Speed:
    """FLOPs, bytes and kernels of a step without fused loss and update: forward, backward and, with checkpointing, a
    second forward pass."""
    recipe, _, checkpointing = entry.id.split("/")
    lean, on, full = recipe == "lean", checkpointing == "on", entry.trained == "all"
    kinds = shape.kinds.items()
    matmul = sum((layer.linear_weights + layer.expert_active_parameters) * number for layer, number in kinds)
    passes = (3.0 if full else 2.0) + (1.0 if on else 0.0)
    head = shape.vocab * shape.hidden
    fused = lean and shape.model_type not in UNFUSED_TYPES
    flops = 2.0 * matmul * passes + (0.0 if fused else 2.0 * head * (3.0 if full else 2.0))
    width = sum(x.heads * x.head_dim * number for x, number in kinds if x.kind in ("attention", "mla"))
    attention = 2.0 * width * (3.5 + (1.0 if on else 0.0))
    count = len(shape.layers)
    per_layer = sum(4.0 * x.inputs + 6.0 * x.outputs for x in shape.layers[0].linears) + 60.0 * shape.hidden
    per_layer += 20.0 * shape.layers[0].experts_per_token * (shape.hidden + 3 * shape.layers[0].expert_inner)
    traffic = count * per_layer * (passes - (1.0 if full else 0.0)) * (0.6 if lean else 1.0)
    traffic += shape.vocab * (8.0 if lean else 40.0)
    fixed = 2.0 * shape.text_parameters * passes
    if entry.weights.startswith("nf4"):
        fixed += shape.linear_weights * (0.5 + 2.0) * passes
    modules = sum(len(x.linears) * number for x, number in kinds)
    kernels = count * (40.0 if lean else 75.0) + modules * (14.0 if entry.trained == "adapters" else 2.0)
    if entry.weights.startswith("nf4"):
        kernels += modules * 4.0
    done = 1.0 if on else WITHOUT_CHECKPOINTING
    branches = launched = 0.0
    if entry.trained == "adapters":
        sides = sum((x.inputs + x.outputs) * number for layer, number in kinds for x in layer.linears)
        branches, launched = ADAPTER_BYTES * sides * done, ADAPTER_LAUNCHES * modules * done
        traffic = max(traffic, 1.2 * branches)
    kernels *= 2.0 + (1.0 if on else 0.0)
    return (flops, attention, fixed, traffic, kernels, branches, launched, loop_launches(shape, on))


def loop_launches(shape: Shape, checkpointing: bool) -> float:
    """Launches per position of layers that loop over the sequence in Python."""
    loops = sum(number for layer, number in shape.kinds.items() if layer.kind == "linear_attention")
    return LOOP_LAUNCHES / LOOP_CHUNK * loops * (1.0 if checkpointing else WITHOUT_CHECKPOINTING)


def quantise_row(row: Row) -> Row:
    """A row in bytes → a row in published units, rounded up so that rounding never hides memory."""
    return (*(float(-(-value // unit)) for value, unit in zip(row[:6], ROW_UNITS, strict=True)), row[6])  # type: ignore[return-value]


ROW_DIGITS = (5, 3, 4, 3, 3, 3)
"""Significant digits of a published row; rounding up by them adds less than 0.1 % to a peak."""


def round_up(value: float, digits: int) -> float:
    """The next larger number of so many significant digits, or the next larger whole number."""
    if value <= 0:
        return 0.0
    step = 10.0 ** max(math.floor(math.log10(value)) - digits + 1, 0)
    return float(math.ceil(value / step - 1e-9) * step)


def shorten_row(row: Sequence[float]) -> Row:
    """A traced row in bytes → published units, short, and never smaller than it was."""
    values = (value / unit for value, unit in zip(row[:6], ROW_UNITS, strict=True))
    return (*(round_up(value, n) for value, n in zip(values, ROW_DIGITS, strict=True)), float(row[6]))  # type: ignore[return-value]


def quantise_speed(speed: Sequence[float]) -> Speed:
    return tuple(float(f"{value / unit:.3g}") for value, unit in zip(speed, SPEED_UNITS, strict=True))  # type: ignore[return-value]


def supports(shape: Shape, set_name: str) -> bool:
    """Whether the recipe exists for the architecture: `lean` needs Liger kernels for it."""
    return not set_name.startswith("lean/") or shape.model_type in LIGER_TYPES


def approximate(shape: Shape, sets: tuple[CoefficientSet, ...], known: Container[str] = ()) -> Architecture:
    """Coefficients of one architecture in every set, in closed form; sets whose id is ``known`` get no cell."""
    weights = weight_bytes(shape)
    cells = {
        index: Cell(
            tuple(quantise_row(row) for row in _rows(shape, entry, weights)), quantise_speed(_speed(shape, entry)), 2
        )
        for index, entry in enumerate(sets)
        if entry.id not in known and supports(shape, entry.id)
    }
    linears: dict[str, tuple[int, int]] = {}
    for layer, number in shape.kinds.items():
        for x in layer.linears:
            old = linears.get(x.name, (0, 0))
            linears[x.name] = (old[0] + (x.inputs + x.outputs) * number, old[1] + x.inputs * number)
    return Architecture(
        len(shape.layers), shape.vocab, shape.hidden, -(-shape.vocab // shape.hidden), shape.text_parameters,
        shape.lora_parameters_per_rank, VIRTUAL_TOKENS * shape.hidden, shape.model_type not in UNFUSED_TYPES,
        {kind: float(-(-value // ROW_UNITS[0])) for kind, value in weights.items()}, linears, cells,
    )  # fmt: skip
