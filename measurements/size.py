"""A rough guess at the memory a cell needs, to let processes share a GPU. Never recorded, never shown."""

from __future__ import annotations

from typing import Any

from .cells import Cell

MARGIN = 1.1
LEAST_BYTES = 2 << 30
EAGER = ("bloom", "gpt_oss")  # model types without sdpa attention


def read_head_widths(config: Any) -> list[int]:
    """Width of an attention head in every layer; Gemma 4 has wider ones in its global layers."""
    own = config.hidden_size // config.num_attention_heads
    try:
        return [getattr(config, "head_dim", None) or own] * config.num_hidden_layers
    except Exception:  # transformers refuses where the layers differ
        return [layer.head_dim or own for layer in config.per_layer_config]


def guess_parameters(config: Any) -> tuple[int, int]:
    """(in the layers, in embeddings and head) of a model, from its config alone: within some 15 %, on the high side."""
    hidden, layers = config.hidden_size, config.num_hidden_layers
    heads = config.num_attention_heads
    grouped = getattr(config, "num_key_value_heads", None) or heads
    width = max(read_head_widths(config))
    wide = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None) or 4 * hidden
    experts = getattr(config, "num_experts", None) or getattr(config, "num_local_experts", None) or 1
    if experts > 1:
        wide = getattr(config, "moe_intermediate_size", None) or wide
    gates = 2 if config.model_type in ("gpt2", "bloom", "phi", "starcoder2") else 3
    each = hidden * width * 2 * (heads + grouped) + gates * hidden * wide * experts
    embedded = config.vocab_size * hidden * (1 if config.tie_word_embeddings else 2)
    per_layer = getattr(config, "hidden_size_per_layer_input", None) or 0
    return each * layers, embedded + per_layer * layers * config.vocab_size


def guess_bytes(cell: Cell, config: Any, layers: int | None = None) -> int:
    """Bytes the allocator will hold at most, on the high side."""
    full_layers = config.num_hidden_layers
    depth = layers or (cell.depths[1] if cell.depths else full_layers)
    vocabulary, hidden = config.vocab_size, config.hidden_size
    whole, embedded = guess_parameters(config)
    body = whole * depth / full_layers
    tokens = cell.micro_batch * (cell.seq_len + (20 if cell.method == "prompt_tuning" else 0))
    wide = getattr(config, "intermediate_size", None) or 4 * hidden
    lean = cell.recipe == "lean"
    bytes_each = {"full": 16, "full_bf16_adam8bit": 6.5, "qlora": 0.62, "lora_8bit": 1.7}.get(cell.method, 2.0)
    embedding_bytes = {"full": 16, "full_bf16_adam8bit": 12}.get(cell.method, 2 if lean else 4)
    weights = body * bytes_each + embedded * embedding_bytes
    share = (cell.lora_rank or 0) * 2.2 / hidden
    adapters = body * share * 16 if cell.lora_rank else 0
    activation = hidden * 40 + wide * (14 if lean else 18)  # of one layer, bytes per token
    if getattr(config, "num_experts", None) or getattr(config, "num_local_experts", None):
        activation *= 2
        adapters += 8 * whole / full_layers if cell.lora_rank else 0  # one layer's experts with their adapters added
    if cell.gradient_checkpointing:
        layered = tokens * (2 * hidden * depth + activation * 1.5)
    else:
        layered = tokens * activation * depth
    if config.model_type in EAGER:  # scores of every pair of tokens, in bf16 and fp32
        pairs = tokens * cell.seq_len * config.num_attention_heads * 10
        layered += pairs * (1 if cell.gradient_checkpointing else depth)
    if lean and config.model_type != "granite":  # the logits never exist as a whole
        loss = (900 << 20) + tokens * hidden * 12
    else:
        loss = (1 << 28) + tokens * vocabulary * 18
    guess: int = round((weights + adapters + loss + layered) * MARGIN)
    return max(LEAST_BYTES, guess)
