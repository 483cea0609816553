"""Why the Hub's parameter total is not the parameter count, and by exactly what it differs.

``safetensors.total`` adds up everything that is stored: a tied output head stored twice, GPT-2's attention masks,
rotary frequencies, extra layers for multi-token prediction, packed 4-bit values. The count comes from the
configuration; this module names the difference, to the last parameter where it can.
"""

from __future__ import annotations

from typing import Any


def reconcile(config: dict[str, Any] | None, counted: int | None, stored: int | None) -> str | None:
    """One line that relates the Hub's total (``stored``) to the count from the configuration (``counted``)."""
    if counted is None:
        return None if stored is None else "no arithmetic for this architecture"
    if stored is None:
        return "counted only, the Hub gives no total"
    difference = stored - counted
    if difference == 0:
        return "exact"
    for surplus, name in _known_surplus(config or {}):
        if difference == surplus:
            return f"exact: Hub total = counted, plus {name}"
    if (config or {}).get("quantization_config"):
        return f"Hub total {difference:+,}: stored quantised, packed values are counted"
    if difference > 0 and _prediction_layers(config or {}):
        return f"Hub total {difference:+,}: the stored layers for multi-token prediction, which training leaves out"
    return f"{100 * difference / counted:+.4f}% ({difference:+,} in the Hub total)"


def _known_surplus(config: dict[str, Any]) -> list[tuple[int, str]]:
    """Sizes of what is stored beside the parameters, with names."""
    inner = config.get("text_config")
    config = {**config, **inner} if isinstance(inner, dict) else config

    def size(*names: str) -> int:
        values = (config.get(name) for name in names)
        return next((v for v in values if isinstance(v, int) and not isinstance(v, bool) and v > 0), 0)

    hidden, vocabulary = size("hidden_size", "n_embd"), size("vocab_size", "padded_vocab_size")
    layers, heads = size("num_hidden_layers", "n_layer", "num_layers"), size("num_attention_heads", "n_head")
    positions = size("n_ctx", "n_positions")
    head = size("head_dim") or (hidden // heads if heads else 0)
    masks = layers * positions * positions
    tied = vocabulary * hidden
    frequencies = head // 2
    known = [
        (tied, "tied lm_head also stored"),
        (masks, "attention-mask buffers (attn.bias)"),
        (masks + layers, "attention-mask buffers (attn.bias, attn.masked_bias)"),
        (frequencies, "rotary inv_freq buffer"),
        (layers * frequencies, "rotary inv_freq buffers"),
        (tied + layers * frequencies, "tied lm_head and rotary inv_freq buffers"),
        (tied + masks, "tied lm_head and attention-mask buffers"),
    ]
    return [(surplus, name) for surplus, name in known if surplus > 0]


def _prediction_layers(config: dict[str, Any]) -> bool:
    names = ("num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_layers")
    inner = config.get("text_config")
    return any(part.get(name) for part in (config, inner) if isinstance(part, dict) for name in names)
