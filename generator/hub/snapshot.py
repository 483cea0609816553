"""The committed snapshot of Hub facts: one canonical JSON file per model, ``catalog/hub/<slug>.json``.

``refresh`` writes it, everything else only reads it. The written form is canonical: equal facts are equal bytes, so a
refresh that learns nothing leaves the tree as it was and a review shows facts, never formatting.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from generator.json_places import place_in
from generator.records import HubFacts, Problem, slug

MAX_FILE_BYTES = 2_000_000
"""A larger file was not written by ``refresh``, whose sanitiser keeps records far below this."""


def read_snapshot(folder: Path) -> tuple[dict[str, HubFacts], list[Problem]]:
    """Read every ``*.json`` of ``folder`` in name order.

    Returns the facts by Hub id and one located ``Problem`` for each file that is no valid record; such a file
    contributes no facts. A folder that does not exist is an empty snapshot. Raises nothing for bad contents.
    """
    facts: dict[str, HubFacts] = {}
    problems: list[Problem] = []
    for path in sorted(folder.glob("*.json")):
        record, found = read_facts(path)
        problems.extend(found)
        if record is None:
            continue
        if path.name != f"{slug(record.hub_id)}.json":
            line, column = place_in(path.read_text(encoding="utf-8"), ("hub_id",))
            reason = f"{record.hub_id} belongs in {slug(record.hub_id)}.json"
            problems.append(Problem(file=str(path), line=line, column=column, field="hub_id", reason=reason))
            continue
        facts[record.hub_id] = record
    return facts, problems


class FileFault(Exception):
    """A file that is no JSON object; ``problem`` says where and why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def read_object(path: Path) -> tuple[str, dict[str, Any]]:
    """Text and content of a file that holds one JSON object, read strictly. Raises ``FileFault``."""

    def fault(reason: str, line: int = 1, column: int = 1) -> FileFault:
        return FileFault(Problem(file=str(path), line=line, column=column, reason=reason))

    try:
        raw = path.read_bytes()
        if len(raw) > MAX_FILE_BYTES:
            raise fault(f"{len(raw)} bytes, more than the {MAX_FILE_BYTES} a record may have")
        text = raw.decode("utf-8")
        data = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_refuse_duplicates)
    except json.JSONDecodeError as error:
        raise fault(error.msg, error.lineno, error.colno) from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise fault(f"not UTF-8: {error.reason}", line) from error
    except RecursionError as error:
        raise fault("nested too deeply") from error
    except (OSError, ValueError) as error:
        raise fault(str(error)) from error
    if not isinstance(data, dict):
        raise fault("expected one JSON object")
    return text, data


def read_facts(path: Path) -> tuple[HubFacts | None, list[Problem]]:
    """Read one snapshot file; ``(None, problems)`` if it is not a valid record."""
    try:
        text, data = read_object(path)
    except FileFault as fault:
        return None, [fault.problem]
    try:
        record = HubFacts.model_validate(data)
        json.dumps(data, ensure_ascii=False, allow_nan=False).encode("utf-8")  # what `format_facts` would raise
    except ValidationError as error:
        problems = []
        for e in error.errors(include_url=False, include_input=False):
            line, column = place_in(text, e["loc"])
            where = ".".join(str(part) for part in e["loc"])
            problems.append(Problem(file=str(path), line=line, column=column, field=where, reason=e["msg"]))
        return None, problems
    except ValueError as error:
        return None, [Problem(file=str(path), line=1, column=1, reason=f"cannot be written back: {error}")]
    return record, []


def write_facts(folder: Path, facts: HubFacts) -> bool:
    """Write ``facts`` to its file, atomically. Returns whether the bytes on disk changed.

    Raises ``ValueError`` if the file name belongs to another model already (ids that differ only in a character
    that file names fold), because overwriting would lose that model's facts.
    """
    path = folder / f"{slug(facts.hub_id)}.json"
    new = format_facts(facts).encode("utf-8")
    if path.exists():
        old = path.read_bytes()
        if old == new:
            return False
        owner, _ = read_facts(path)
        if owner is not None and owner.hub_id != facts.hub_id and owner.hub_id != facts.renamed_from:
            raise ValueError(f"{path.name} already holds {owner.hub_id}")
    write_bytes(path, new)
    return True


def write_bytes(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Replace ``path`` by ``content`` in one step: a reader sees the old file or the new one, never a part.

    ``durable`` also waits for the disk, so that a power cut leaves one of the two.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name[:80]}.", suffix=".part", dir=path.parent)
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            if durable:
                stream.flush()
                os.fsync(stream.fileno())
        part.chmod(0o644)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def format_facts(facts: HubFacts) -> str:
    """The canonical file content: fields in the order of the record, inner keys sorted, null for unknown.

    Raises ``ValueError`` for what JSON in UTF-8 cannot hold (NaN, infinities, lone surrogates).
    """
    data = {name: canonical(value) for name, value in facts.model_dump().items()}
    text = json.dumps(data, ensure_ascii=False, indent=2, allow_nan=False) + "\n"
    text.encode("utf-8")
    return text


def canonical(value: Any) -> Any:
    """``value`` with the keys of every object in it sorted."""
    if isinstance(value, dict):
        return {key: canonical(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [canonical(item) for item in value]
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"key {repeated!r} appears twice")
    return data
