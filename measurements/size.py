"""A rough guess at the memory a cell needs, to let processes share a GPU. Never recorded, never shown."""

from __future__ import annotations

from typing import Any

from .cells import Cell

MARGIN = 1.1
LEAST_BYTES = 2 << 30


def guess_bytes(cell: Cell, config: Any, parameters: int, layers: int | None = None) -> int:
    """Bytes the allocator will hold at most, on the high side. ``parameters``: of the whole model."""
    full_layers = config.num_hidden_layers
    depth = layers or (cell.depths[1] if cell.depths else full_layers)
    vocabulary, hidden = config.vocab_size, config.hidden_size
    embedded = vocabulary * hidden * (1 if config.tie_word_embeddings else 2)
    body = max(parameters - embedded, 0) * depth / full_layers
    tokens = cell.micro_batch * (cell.seq_len + (20 if cell.method == "prompt_tuning" else 0))
    wide = getattr(config, "intermediate_size", None) or 4 * hidden
    lean = cell.recipe == "lean"
    bytes_each = {"full": 16, "full_bf16_adam8bit": 6.5, "qlora": 0.62, "lora_8bit": 1.1}.get(cell.method, 2.0)
    embedding_bytes = {"full": 16, "full_bf16_adam8bit": 12}.get(cell.method, 2 if lean else 4)
    weights = body * bytes_each + embedded * embedding_bytes
    share = (cell.lora_rank or 0) * 3.5 / hidden
    adapters = body * share * 16 if cell.lora_rank else 0
    activation = hidden * 40 + wide * (14 if lean else 18)  # of one layer, bytes per token
    if getattr(config, "num_experts", None) or getattr(config, "num_local_experts", None):
        activation *= 2
    if cell.gradient_checkpointing:
        layered = tokens * (2 * hidden * depth + activation * 1.5)
    else:
        layered = tokens * activation * depth * (1.6 if cell.lora_rank else 1.1)
    loss = (2 << 30) + tokens * vocabulary if lean else tokens * vocabulary * 18
    guess: int = round((weights + adapters + loss + layered) * MARGIN)
    return max(LEAST_BYTES, guess)
