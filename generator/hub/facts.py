"""From the Hub's answers to one ``HubFacts`` record."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from generator.hub.border import Border
from generator.hub.counting import reconcile
from generator.records import HubFacts, Provenance

Count = Callable[[dict[str, Any]], "int | None"]
"""Parameters of a configuration; None where its architecture is not known."""

EXPAND = (
    "baseModels", "cardData", "createdAt", "disabled", "downloads", "gated", "lastModified", "library_name", "likes",
    "pipeline_tag", "safetensors", "sha", "tags",
)  # fmt: skip
"""What is asked of the Hub for each model."""

FROM_CONFIG = ("config", "context_length", "parameters", "parameters_active", "parameters_check")
"""Fields that come from ``config.json``; all others come from the model's record."""

_REVISION = re.compile(r"[0-9a-f]{40}")
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z]{2,8})?")
_CONTEXT_FIELDS = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length", "model_max_length")


def build_facts(
    hub_id: str,
    info: Any,
    config: Any,
    *,
    today: str,
    count: Count,
    count_active: Count,
    renamed_to: str | None = None,
) -> HubFacts:
    """The record of one complete live read on the day ``today`` (YYYY-MM-DD). Never raises for what the Hub said.

    ``info`` is the answer of ``/api/models/<id>``, ``config`` the content of ``config.json`` (None: there is none).
    """
    border = Border()
    fields = read_info(info, border)
    kept = border.config(config)
    fields.update(read_config(kept, fields["parameters_hub"], border, count, count_active))
    revision = fields["revision"]
    place = f"{hub_id} config.json" + (f" at {revision[:12]}" if revision else "")
    return HubFacts(
        hub_id=hub_id,
        **fields,
        notes=border.notes,
        provenance={
            "config": Provenance(source=place, observed=today),
            "info": Provenance(source="Hub API", observed=today),
        },
        refreshed=today,
        renamed_to=renamed_to,
    )


def read_info(info: Any, border: Border) -> dict[str, Any]:
    """The fields of a record that come from the Hub's model record, each checked on its own."""
    if not isinstance(info, dict):
        border.note("record", "refused: not an object")
        info = {}
    card = info.get("cardData")
    card = card if isinstance(card, dict) else {}
    tags = border.texts(info.get("tags"), "tags")
    stored = info.get("safetensors")
    stored = stored if isinstance(stored, dict) else {}
    revision = info.get("sha")
    return {
        "revision": revision if isinstance(revision, str) and _REVISION.fullmatch(revision) else None,
        "parameters_hub": border.count(stored.get("total"), "safetensors.total"),
        "parameters_hub_by_dtype": _by_dtype(stored.get("parameters"), border),
        "licence": _licence(card, tags, border),
        "gated": _gated(info.get("gated"), border),
        "languages": _languages(card.get("language"), tags, border),
        "tags": tags,
        "pipeline_tag": border.text(info.get("pipeline_tag"), "pipeline_tag", 80),
        "library_name": border.text(info.get("library_name"), "library_name", 80),
        "base_models": _base_models(info.get("baseModels"), card.get("base_model"), border),
        "downloads": border.count(info.get("downloads"), "downloads"),
        "likes": border.count(info.get("likes"), "likes"),
        "created": border.day(info.get("createdAt"), "createdAt"),
        "modified": border.day(info.get("lastModified"), "lastModified"),
    }


def read_config(
    config: dict[str, Any] | None, stored: int | None, border: Border, count: Count, count_active: Count
) -> dict[str, Any]:
    """The fields of a record that come from its configuration, which has passed the border."""
    counted = active = None
    if config is not None:
        try:
            counted, active = count(config), count_active(config)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            border.note("config", "parameters cannot be counted: a size is missing or of a wrong type")
    counted = counted if counted is not None and counted > 0 else None
    return {
        "config": config,
        "context_length": context_length(config),
        "parameters": counted,
        "parameters_active": active if counted is not None and active is not None and 0 < active < counted else None,
        "parameters_check": reconcile(config, counted, stored),
    }


def context_length(config: dict[str, Any] | None) -> int | None:
    """Longest context, in tokens, that the configuration states."""
    config = config or {}
    for part in (config, config.get("text_config"), config.get("llm_config")):
        for name in _CONTEXT_FIELDS:
            value = part.get(name) if isinstance(part, dict) else None
            if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= 1_000_000_000:
                return value
    return None


def _by_dtype(value: Any, border: Border) -> dict[str, int] | None:
    if not isinstance(value, dict) or not value:
        return None
    counts = {str(name): border.count(number, "safetensors.parameters") for name, number in list(value.items())[:20]}
    return {name: n for name, n in counts.items() if n is not None and re.fullmatch(r"[A-Z0-9_]{1,16}", name)} or None


def _licence(card: dict[str, Any], tags: list[str] | None, border: Border) -> str | None:
    """The licence in lower case; ``license_name`` where the Hub's own field only says 'other'."""
    given = card.get("license")
    if isinstance(given, list):
        given = given[0] if given else None
    licence = border.text(given, "license", 80)
    if licence is None:
        licence = next((tag.removeprefix("license:") for tag in tags or () if tag.startswith("license:")), None)
    if licence == "other":
        licence = border.text(card.get("license_name"), "license_name", 80) or "other"
    return licence.lower() if licence else None


def _gated(value: Any, border: Border) -> bool | None:
    if isinstance(value, bool):
        return value
    if value in ("auto", "manual"):
        return True
    if value is not None:
        border.note("gated", "refused an unknown value")
    return None


def _languages(value: Any, tags: list[str] | None, border: Border) -> list[str] | None:
    """Codes the maker names. A false among them is Norwegian: YAML reads a bare ``no`` as false."""
    items = value if isinstance(value, list) else [value]
    named = border.texts(["no" if item is False else item for item in items if item is not None], "language", 40)
    codes = [code for code in named or () if _LANGUAGE.fullmatch(code)]
    if not codes:
        codes = [tag for tag in tags or () if re.fullmatch(r"[a-z]{2}", tag)]
    return codes or None


def _base_models(listed: Any, named: Any, border: Border) -> list[str] | None:
    if isinstance(listed, dict) and isinstance(listed.get("models"), list):
        candidates = [item.get("id") if isinstance(item, dict) else item for item in listed["models"][:50]]
    elif named is not None:
        candidates = named[:50] if isinstance(named, list) else [named]
    else:
        return None
    ids = (border.hub_id(candidate, "base_model") for candidate in candidates)
    return list(dict.fromkeys(item for item in ids if item)) or None
