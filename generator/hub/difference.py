"""What a refresh changed, as a person wants to read it: which model, what kind of change, from what to what."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from generator.records import HubFacts

ORDER = (
    "new", "renamed", "gone", "licence changed", "newly gated", "no longer gated", "new revision", "changed",
    "stale", "fresh again",
)  # fmt: skip
"""Kinds of change, the ones a reviewer must look at first."""

_DATES = ("refreshed", "provenance")
_QUIET = ("stale", "renamed_to", "renamed_from", "notes")
_PLAIN = ("likes", "downloads")


@dataclass(frozen=True)
class Change:
    """One model's change. ``details`` are lines ``field: old → new``."""

    hub_id: str
    kinds: tuple[str, ...]
    details: tuple[str, ...] = ()


def same_facts(old: HubFacts, new: HubFacts) -> bool:
    """Whether two records say the same, whenever they were read."""
    return _undated(old) == _undated(new)


def compare(old: HubFacts | None, new: HubFacts) -> Change | None:
    """The change from ``old`` to ``new``, or None if they say the same."""
    if old is None and new.renamed_from is None:
        size = f"{new.parameters:,} parameters" if new.parameters else "unknown size"
        return Change(new.hub_id, ("new",), (f"{size}, licence {new.licence or 'unknown'}",))
    if old is None or same_facts(old, new):
        return None if old else Change(new.hub_id, ("renamed",), (f"was {new.renamed_from}",))
    kinds: list[str] = []
    if new.renamed_to != old.renamed_to and new.renamed_to:
        kinds.append("renamed")
    if new.renamed_from and new.renamed_from == old.hub_id != new.hub_id:
        kinds.append("renamed")
    if new.stale and new.stale != old.stale:
        kinds.append("gone" if new.stale.startswith("gone") else "stale")
    if old.stale and not new.stale:
        kinds.append("fresh again")
    if old.licence != new.licence:
        kinds.append("licence changed")
    if bool(old.gated) != bool(new.gated):
        kinds.append("newly gated" if new.gated else "no longer gated")
    if old.revision and old.revision != new.revision:
        kinds.append("new revision")
    if not kinds:
        kinds.append("changed")
    return Change(new.hub_id, tuple(sorted(kinds, key=ORDER.index)), tuple(_details(old, new)))


def format_changes(changes: Iterable[Change]) -> str:
    """Plain text for the terminal, one block per model, the weightiest kinds first."""
    lines: list[str] = []
    for change in _sorted(changes):
        lines.append(f"{change.hub_id}: {', '.join(change.kinds)}")
        lines.extend(f"    {detail}" for detail in change.details)
    return "\n".join(lines)


def format_markdown(changes: Iterable[Change], summary: str) -> str:
    """The same for a pull request. Hub text stands in code spans only, where Markdown and HTML mean nothing."""
    listed = _sorted(changes)
    lines = [summary, ""]
    counts = Counter(kind for change in listed for kind in change.kinds)
    lines.extend(f"- {kind}: {counts[kind]}" for kind in ORDER if counts[kind])
    weighty = [change for change in listed if change.kinds != ("changed",)]
    for title, part in (("To review", weighty), ("Figures only", [c for c in listed if c.kinds == ("changed",)])):
        if not part:
            continue
        lines += ["", f"<details><summary>{title}: {len(part)}</summary>", ""]
        for change in part[:300]:
            lines.append(f"- {code(change.hub_id)}: {', '.join(change.kinds)}")
            lines.extend(f"    - {code(detail)}" for detail in change.details[:8])
        lines += ["", "</details>"]
    return "\n".join(lines) + "\n"


def code(text: str) -> str:
    """``text`` as a Markdown code span that nothing inside can leave: it has no backticks and no line breaks."""
    return "`" + re.sub(r"[`\s]+", " ", text)[:300].strip() + "`"


def _sorted(changes: Iterable[Change]) -> list[Change]:
    return sorted(changes, key=lambda change: (ORDER.index(change.kinds[0]), change.hub_id.lower()))


def _undated(facts: HubFacts) -> dict[str, Any]:
    data = facts.model_dump()
    del data["refreshed"]
    data["provenance"] = {name: origin.source for name, origin in facts.provenance.items()}
    return data


def _details(old: HubFacts, new: HubFacts) -> Iterable[str]:
    for name in HubFacts.model_fields:
        before, after = getattr(old, name), getattr(new, name)
        if before == after or name in _DATES:
            continue
        if name == "config":
            yield from _config_details(before or {}, after or {})
        elif name in ("tags", "languages", "base_models"):
            gained = [item for item in after or () if item not in (before or ())]
            lost = [item for item in before or () if item not in (after or ())]
            listed = ", ".join([f"+{item}" for item in gained] + [f"-{item}" for item in lost])
            yield f"{name}: {listed[:200] or 'none, or in another order'}"
        elif name == "notes":
            yield from (f"note: {note}" for note in after if note not in before)
        elif name == "stale":
            yield f"stale: {after}" if after else "read again"
        else:
            yield f"{name}: {_show(before)} → {_show(after)}"


def _config_details(before: dict[str, Any], after: dict[str, Any]) -> Iterable[str]:
    for key in sorted({*before, *after}):
        if before.get(key) != after.get(key):
            yield f"config.{key}: {_show(before.get(key))} → {_show(after.get(key))}"


def _show(value: Any) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."
