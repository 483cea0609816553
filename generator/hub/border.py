"""The border between the Hub and us: what may enter a record, and in which form.

Anyone can publish a model, so every value is hostile until it has passed here. Values stay data: markup is kept as it
is and escaped where it is shown. What can never be right is not kept: control and bidirectional characters, lone
surrogates, over-long text, a wrong type, numbers outside any sensible range, a configuration too deep or too large. A
value refused becomes null (unknown) with a note that names the field and the reason, never the value.
"""

from __future__ import annotations

import math
import re
import unicodedata
from datetime import date
from typing import Any

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
MAX_TEXT = 200
MAX_ITEMS = 200
MAX_NOTES = 20
MAX_COUNT = 10**15
"""Largest believable count: parameters, downloads, bytes."""

MAX_CONFIG_NODES = 20_000
MAX_CONFIG_DEPTH = 10
MAX_CONFIG_TEXT = 2_000

SIZES: dict[str, int] = {
    **dict.fromkeys(("num_hidden_layers", "n_layer", "num_layers", "n_layers", "depth", "encoder_layers"), 2_000),
    **dict.fromkeys(("num_attention_heads", "num_key_value_heads", "n_head", "num_heads", "n_heads"), 10_000),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "n_shared_experts"), 100_000),
    **dict.fromkeys(("num_experts_per_tok", "moe_topk", "experts_per_token", "multi_query_group_num"), 100_000),
    **dict.fromkeys(("hidden_size", "intermediate_size", "n_embd", "n_inner", "d_model", "head_dim"), 10_000_000),
    **dict.fromkeys(("ffn_hidden_size", "moe_intermediate_size", "kv_lora_rank", "q_lora_rank"), 10_000_000),
    **dict.fromkeys(("shared_expert_intermediate_size", "kv_channels", "v_head_dim"), 10_000_000),
    **dict.fromkeys(("vocab_size", "padded_vocab_size", "n_positions", "n_ctx", "seq_length"), 1_000_000_000),
    **dict.fromkeys(("max_position_embeddings", "sliding_window", "max_sequence_length"), 1_000_000_000),
    **dict.fromkeys(("first_k_dense_replace", "max_window_layers", "num_nextn_predict_layers"), 2_000),
    **dict.fromkeys(("mtp_num_hidden_layers", "num_kv_shared_layers", "qk_nope_head_dim", "qk_rope_head_dim"), 10_000),
}
"""Configuration fields that are sizes, with the largest value that is not nonsense: code loops over some of them."""

WORDS = frozenset({"model_type", "torch_dtype", "dtype", "hidden_act", "activation_function"})
"""Configuration fields that must be text where they are given."""

_HIDDEN_CATEGORIES = frozenset({"Cc", "Cs", "Cn", "Co"})
_BIDI = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff\u2028\u2029")


def clean(text: str) -> str:
    """``text`` on one line without characters that hide or reorder what a person sees."""
    if text.isascii() and text.isprintable():
        return text.strip()
    kept = (
        " " if c in "\t\r\n\u2028\u2029" else c
        for c in text
        if c in "\t\r\n\u2028\u2029" or (c not in _BIDI and unicodedata.category(c) not in _HIDDEN_CATEGORIES)
    )
    return " ".join("".join(kept).split())


class Border:
    """Checks the values of one answer; ``notes`` says what was refused or altered."""

    def __init__(self) -> None:
        self._notes: dict[str, None] = {}
        self._nodes = 0

    @property
    def notes(self) -> list[str]:
        """What was refused, in order, each once."""
        notes = list(self._notes)
        if len(notes) > MAX_NOTES:
            return [*notes[:MAX_NOTES], f"and {len(notes) - MAX_NOTES} more values refused"]
        return notes

    def note(self, field: str, reason: str) -> None:
        """Record why a value of ``field`` was refused; ``field`` itself may come from the Hub."""
        self._notes[f"{clean(field)[:60]}: {reason}"] = None

    def text(self, value: Any, field: str, limit: int = MAX_TEXT) -> str | None:
        """One line of visible text of at most ``limit`` characters, or None."""
        if value is None:
            return None
        if not isinstance(value, str):
            self.note(field, f"refused a {type(value).__name__} where text is expected")
            return None
        if len(value) > limit * 4 or len(cleaned := clean(value)) > limit:
            self.note(field, f"refused text of {len(value)} characters, more than {limit}")
            return None
        if cleaned != value:
            self.note(field, "removed control characters or surplus space")
        return cleaned or None

    def texts(self, value: Any, field: str, limit: int = MAX_TEXT) -> list[str] | None:
        """A list of texts without repetition, in the order given; a lone text counts as a list of one."""
        if value is None:
            return None
        if isinstance(value, str):
            value = [value]
        if not isinstance(value, list):
            self.note(field, f"refused a {type(value).__name__} where a list is expected")
            return None
        if len(value) > MAX_ITEMS:
            self.note(field, f"kept the first {MAX_ITEMS} of {len(value)} items")
        kept = (self.text(item, field, limit) for item in value[:MAX_ITEMS])
        return list(dict.fromkeys(item for item in kept if item))

    def count(self, value: Any, field: str, most: int = MAX_COUNT) -> int | None:
        """A whole number from 0 to ``most``, or None."""
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            self.note(field, f"refused a {type(value).__name__} where a whole number is expected")
            return None
        if not 0 <= value <= most:
            self.note(field, "refused a number out of range")
            return None
        return value

    def day(self, value: Any, field: str) -> str | None:
        """The date part (YYYY-MM-DD) of an ISO 8601 time, or None."""
        if value is None:
            return None
        if isinstance(value, str):
            try:
                return date.fromisoformat(value[:10]).isoformat()
            except ValueError:
                pass
        self.note(field, "refused what is not an ISO 8601 date")
        return None

    def hub_id(self, value: Any, field: str) -> str | None:
        """A Hub id ``maker/name``, or None."""
        if value is None:
            return None
        if isinstance(value, str) and len(value) <= 140 and HUB_ID.fullmatch(value):
            return value
        self.note(field, "refused what is not a Hub id")
        return None

    def config(self, value: Any) -> dict[str, Any] | None:
        """A model configuration in JSON types, within the limits above; None if it is no JSON object or too large."""
        if value is None:
            return None
        if not isinstance(value, dict):
            self.note("config", f"refused a {type(value).__name__} where an object is expected")
            return None
        self._nodes = 0
        kept = self._value(value, "config", 0)
        if self._nodes > MAX_CONFIG_NODES:
            self.note("config", f"refused: more than {MAX_CONFIG_NODES} values")
            return None
        return kept if isinstance(kept, dict) else None

    def _value(self, value: Any, field: str, depth: int) -> Any:
        self._nodes += 1
        if self._nodes > MAX_CONFIG_NODES or depth > MAX_CONFIG_DEPTH:
            if depth > MAX_CONFIG_DEPTH:
                self.note(field, f"refused what lies more than {MAX_CONFIG_DEPTH} levels deep")
            return None
        if isinstance(value, dict):
            return self._mapping(value, depth)
        if isinstance(value, list):
            return [self._value(item, field, depth + 1) for item in value]
        if isinstance(value, str):
            return self.text(value, field, MAX_CONFIG_TEXT) or ""
        if isinstance(value, bool) or value is None:
            return value
        if isinstance(value, int) and abs(value) <= 2**63:
            return value
        if isinstance(value, float) and math.isfinite(value):
            return value
        self.note(field, "refused a number that JSON cannot hold")
        return None

    def _mapping(self, value: dict[Any, Any], depth: int) -> dict[str, Any]:
        kept: dict[str, Any] = {}
        for key, inner in value.items():
            name = clean(str(key))
            if not name or name != key or len(name) > 100:
                self.note("config", "refused a key that is over-long or holds control characters")
            elif name in SIZES and isinstance(inner, int | float | str) and not self._is_size(name, inner):
                self.note(name, "refused: not a sensible size")
                kept[name] = None
            elif name in WORDS and inner is not None and not isinstance(inner, str):
                self.note(name, f"refused a {type(inner).__name__} where text is expected")
                kept[name] = None
            else:
                kept[name] = self._value(inner, name, depth + 1)
        return kept

    @staticmethod
    def _is_size(name: str, value: float | str) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and -1 <= value <= SIZES[name]
