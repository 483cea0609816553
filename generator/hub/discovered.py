"""The committed result of the last search for new models: ``catalog/hub/discovered/index.json`` and a stub for each.

``refresh --discover`` writes it; the dataset reads it. Needs no network and no Hub client.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from generator.hub.snapshot import FileFault, canonical, read_object, write_bytes
from generator.json_places import place_in
from generator.records import HubFacts, Problem, Record, slug

FOLDER = Path("catalog") / "hub" / "discovered"
"""Relative to the repository root."""

INDEX = "index.json"

Reason = Literal["trending", "downloads", "maker"]
"""Why a model is notable: it trends, it is downloaded a lot, or it is by a maker that the catalog lists already."""


class Discovered(Record):
    """One model that the catalog lacks. Its facts are untrusted like all Hub facts."""

    facts: HubFacts
    notable: list[Reason] = Field(min_length=1)
    trending: int | None = Field(None, description="the Hub's trending score on the day of the search")
    first_seen: str = Field(description="day of the search that found it first, YYYY-MM-DD")


class Discovery(Record):
    """What one search came to. Schema 1."""

    schema_version: Literal[1] = 1
    searched: str = Field(description="day of the search, YYYY-MM-DD (or up to a week before a later one like it)")
    seen: int = Field(description="models in the listings, each once")
    left_out: dict[str, int] = Field(description="reason → number of models")
    models: list[Discovered] = Field(description="most notable first")


def read_discovered(folder: Path) -> tuple[Discovery | None, list[Problem]]:
    """The index in ``folder``; ``(None, [])`` if no search was ever made, one located problem each if it is invalid."""
    path = folder / INDEX
    if not path.exists():
        return None, []
    try:
        text, data = read_object(path)
    except FileFault as fault:
        return None, [fault.problem]
    try:
        found = Discovery.model_validate(data)
    except ValidationError as error:
        return None, [
            Problem(
                file=str(path),
                line=(place := place_in(text, e["loc"]))[0],
                column=place[1],
                field=".".join(str(part) for part in e["loc"]),
                reason=e["msg"],
            )
            for e in error.errors(include_url=False, include_input=False)
        ]
    return found, []


def write_discovered(folder: Path, found: Discovery, stubs: Mapping[str, str]) -> int:
    """Write the index and the stubs (Hub id → YAML), drop the stubs of models not listed any more.

    Each file is replaced in one step, the index last. Returns the number of files that changed.
    """
    written = 0
    wanted = {f"{slug(hub_id)}.yaml": text for hub_id, text in stubs.items()}
    for name, text in sorted(wanted.items()):
        written += _replace(folder / name, text)
    written += _replace(folder / INDEX, format_discovered(found))
    for path in sorted(folder.glob("*.yaml")):
        if path.name not in wanted:
            path.unlink()
            written += 1
    return written


def forget(folder: Path, hub_id: str) -> bool:
    """Take one model off the list, because the catalog has it now. Returns whether it was listed."""
    found, _ = read_discovered(folder)
    if found is None or not any(model.facts.hub_id == hub_id for model in found.models):
        return False
    kept = [model for model in found.models if model.facts.hub_id != hub_id]
    write_bytes(folder / INDEX, format_discovered(found.model_copy(update={"models": kept})).encode())
    (folder / f"{slug(hub_id)}.yaml").unlink(missing_ok=True)
    return True


def format_discovered(found: Discovery) -> str:
    """The canonical content of the index. Raises ``ValueError`` for what JSON in UTF-8 cannot hold."""
    text = json.dumps(canonical(found.model_dump()), ensure_ascii=False, indent=2, allow_nan=False) + "\n"
    text.encode("utf-8")
    return text


def without(found: Discovery | None, listed: Iterable[str]) -> tuple[Discovered, ...]:
    """The discovered models that are not among the Hub ids ``listed``, in their order."""
    known = {hub_id.lower() for hub_id in listed}
    return tuple(m for m in (found.models if found else ()) if m.facts.hub_id.lower() not in known)


def _replace(path: Path, text: str) -> bool:
    content = text.encode("utf-8")
    if path.exists() and path.read_bytes() == content:
        return False
    write_bytes(path, content)
    return True
