"""Which models of a listing are notable: open, of a size that people fine-tune, new in themselves, and asked for."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from generator.hub.architectures import known_types
from generator.hub.border import Border
from generator.hub.discovered import Reason
from generator.hub.facts import read_info

LEAST_TRENDING = 10
LEAST_DOWNLOADS = 50_000
LEAST_DOWNLOADS_OF_A_MAKER = 1_000
PARAMETERS = (20_000_000, 500_000_000_000)
"""Sizes that anybody fine-tunes, by the Hub's total of stored parameters."""

_CONVERTED = re.compile(
    r"(gguf|ggml|awq|gptq|mlx|fp8|fp4|nvfp4|mxfp4|int4|int8|bnb|exl2|exl3|onnx|w4a16|w8a8|4bit|8bit)"
)
_DERIVED = ("base_model:quantized:", "base_model:adapter:", "base_model:merge:")
_MINOR_LIBRARIES = {"mlx", "gguf", "peft", "onnx", "transformers.js", "ctranslate2"}


@dataclass(frozen=True)
class Candidate:
    """A notable model, by what its row of the listing says."""

    hub_id: str
    downloads: int
    trending: int | None
    notable: tuple[Reason, ...]


def choose(
    rows: Mapping[str, dict[str, Any]], listed: Collection[str], makers: Collection[str], left_out: Counter[str]
) -> list[Candidate]:
    """The notable ones, most notable first; ``left_out`` counts the others by reason."""
    known = {hub_id.lower() for hub_id in listed}
    owners = {maker.lower() for maker in makers}
    chosen = []
    for hub_id, row in rows.items():
        candidate = judge(hub_id, row, known, owners)
        if isinstance(candidate, str):
            left_out[candidate] += 1
        else:
            chosen.append(candidate)
    return sorted(chosen, key=lambda c: (-(c.trending or 0), -c.downloads, c.hub_id.lower(), c.hub_id))


def judge(hub_id: str, row: dict[str, Any], known: set[str], owners: set[str]) -> Candidate | str:
    """A candidate, or why the model is none."""
    border = Border()
    facts = read_info(row, border)
    owner, _, name = hub_id.lower().partition("/")
    tags = facts["tags"] or []
    shape = row.get("config")
    kind = shape.get("model_type") if isinstance(shape, dict) else None
    if hub_id.lower() in known:
        return "in the catalog"
    if row.get("private") is True or row.get("disabled") is True:
        return "private or disabled"
    if not isinstance(kind, str) or kind not in known_types():
        return "architecture not known to transformers"
    converted = any(_CONVERTED.fullmatch(word) for word in re.split(r"[-_.]", name))
    if converted or facts["library_name"] in _MINOR_LIBRARIES or any(tag.startswith(_DERIVED) for tag in tags):
        return "a conversion, adapter or merge of another model"
    bases = [base.split("/")[0].lower() for base in facts["base_models"] or ()]
    if any(base != owner for base in bases) and owner not in owners:
        return "a fine-tune of another maker's model"
    stored = facts["parameters_hub"]
    if stored is None or not PARAMETERS[0] <= stored <= PARAMETERS[1]:
        return "size unknown or out of range"
    if facts["licence"] is None:
        return "no licence named"
    downloads = facts["downloads"] or 0
    trending = border.count(row.get("trendingScore"), "trendingScore", 10**9)
    notable: list[Reason] = []
    if (trending or 0) >= LEAST_TRENDING:
        notable.append("trending")
    if downloads >= LEAST_DOWNLOADS:
        notable.append("downloads")
    if owner in owners and downloads >= LEAST_DOWNLOADS_OF_A_MAKER:
        notable.append("maker")
    return Candidate(hub_id, downloads, trending, tuple(notable)) if notable else "too few downloads"
