"""A catalog entry drafted from what the Hub says of a model: what a person can say better is said plainly meanwhile."""

from __future__ import annotations

import re
from itertools import takewhile
from typing import Any

import yaml

from generator.catalog import Catalog
from generator.hub.architectures import known_types
from generator.records import HubFacts, slug

_KINDS = (
    ("code", {"code", "coder", "codegen"}),
    ("reasoning", {"thinking", "think", "reasoning", "reasoner", "r1", "qwq"}),
    ("chat", {"instruct", "chat", "it", "sft", "dpo"}),
)

PAGES_OF_THE_FOLDER = {"index", "new"}
"""Names under ``models/`` that no model may take, whatever its maker calls it."""


def draft_entry(facts: HubFacts, catalog: Catalog, why_zh: str = "", why_en: str = "") -> dict[str, Any]:
    """The fields of ``catalog/models/<id>.yaml``. ``family`` is empty where the architecture is not known."""
    name = facts.hub_id.split("/")[1]
    words = set(re.split(r"[-_.]", name.lower()))
    zh, en = describe(facts)
    licence = next((id_ for id_, entry in catalog.licences.items() if facts.licence in (id_, *entry.hub_names)), None)
    taken = name.lower() in catalog.models or name.lower() in PAGES_OF_THE_FOLDER
    return {
        "id": slug(facts.hub_id) if taken else name.lower(),
        "hub_id": facts.hub_id,
        "name": name,
        "family": find_family(facts, catalog) or draft_family_id(facts) or "",
        "variant": next((kind for kind, signs in _KINDS if words & signs), "base"),
        "status": "current",
        "released": facts.created,
        "licence": licence,
        "languages": facts.languages,
        "why": {"zh": why_zh or zh, "en": why_en or en},
        "sources": [
            {
                "title": f"{facts.hub_id} on the Hugging Face Hub",
                "url": f"https://huggingface.co/{facts.hub_id}",
                "observed": facts.refreshed,
            }
        ],
    }


def describe(facts: HubFacts) -> tuple[str, str]:
    """One line in Chinese and in English that says no more than the facts: name, size, downloads and their day."""
    name = facts.hub_id.split("/")[1]
    zh, en = [], []
    if facts.parameters:
        size = _size(facts.parameters)
        zh.append(f"{size} 参数")
        en.append(f"{size} parameters")
    if facts.downloads is not None:
        zh.append(f"近 30 天下载 {facts.downloads:,} 次")
        en.append(f"{facts.downloads:,} downloads in 30 days")
    day = f"（{facts.refreshed}）" if facts.refreshed else ""
    day_en = f" ({facts.refreshed})" if facts.refreshed else ""
    return (
        f"{name}：{'，'.join([*zh, '还没有人写过评语'])}{day}。",
        f"{name}: {', '.join([*en, 'nobody has written about it here yet'])}{day_en}.",
    )


def find_family(facts: HubFacts, catalog: Catalog) -> str | None:
    """The family with this architecture that the model most likely belongs to; None if there is none.

    Makers publish under the architectures of others (a distilled model is a ``qwen2``), so a family of the same maker
    comes first, the one with the most similar Hub ids; else the family that the architecture is named after.
    """
    kind = model_type(facts)
    families = [id_ for id_, entry in catalog.families.items() if kind in entry.model_types]
    own = facts.hub_id.lower()

    def alike(one: str, other: str) -> int:
        return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))

    def likeness(family: str) -> tuple[int, int, int]:
        ids = [model.hub_id.lower() for model in catalog.models.values() if model.family == family]
        same_maker = [alike(own, other) for other in ids if other.split("/")[0] == own.split("/")[0]]
        return max(same_maker, default=0), alike(kind.replace("_", "-"), family), -len(family)

    return max(families, key=likeness, default=None)


def draft_family_id(facts: HubFacts) -> str | None:
    """The id of a family to be made for an architecture that transformers knows and the catalog does not."""
    kind = model_type(facts)
    return kind.replace("_", "-") if kind in known_types() else None


def draft_family(facts: HubFacts) -> dict[str, Any]:
    """The fields of ``catalog/families/<id>.yaml`` for an architecture new to the catalog."""
    kind, owner = model_type(facts), facts.hub_id.split("/")[0]
    return {
        "id": draft_family_id(facts),
        "name": kind,
        "maker": {"zh": owner, "en": owner},
        "about": {
            "zh": f"transformers 里 model_type 为 {kind} 的模型，还没有人写过介绍。",
            "en": f"Models whose model_type in transformers is {kind}; nobody has written about them here yet.",
        },
        "model_types": [kind],
        "needs_remote_code": False,
    }


def model_type(facts: HubFacts) -> str:
    """``model_type`` of the configuration; empty where it names none."""
    kind = (facts.config or {}).get("model_type")
    return kind if isinstance(kind, str) else ""


def format_entry(entry: dict[str, Any]) -> str:
    """An entry as YAML, in the order of its fields."""
    return yaml.safe_dump(entry, sort_keys=False, allow_unicode=True, width=1000)


def format_stub(facts: HubFacts, catalog: Catalog) -> str:
    """The entry as a file to be copied: how to get there by one command, then the YAML."""
    return (
        f"# python -m generator add {facts.hub_id}\n"
        "# writes this entry to catalog/models and the facts to catalog/hub; say in `why` what is true of it alone.\n"
        + format_entry(draft_entry(facts, catalog))
    )


def _size(parameters: int) -> str:
    return f"{parameters / 1e9:.3g}B" if parameters >= 1e9 else f"{parameters / 1e6:.3g}M"
