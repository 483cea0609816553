"""Traced coefficients: ``catalog/traced/<shape>.json``, which ``python -m generator distil`` writes. No torch here.

One file per distinct shape (``coefficients.shape_key``):

    schema      1
    shape       the key; the file's name
    model       Hub id whose configuration was traced, or that and "(stand-in)" (``stand_in.py``)
    model_type  of that configuration
    tracer      ``TRACER``: it changes when a trace's numbers do
    versions    of the libraries that were traced
    date        when
    sets        {"recipe/method/on|off": {rows, speed, allocator}, or {refused: why}}
                rows      bytes [fixed, per rank, per token, per rank and token, per pair, per chunk token], alive
                speed     [matmul FLOPs per token, attention FLOPs per pair, bytes, bytes per token, launches]
                allocator [[tokens, allocated, smallest cap, reserved], …] in bytes, of the replayed allocator

A file whose tracer or versions differ from today's is stale: it is still used, and ``distil`` writes it anew.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from .estimate_closed import make_sets
from .records import Problem

SCHEMA, TRACER = 1, 6
FOLDER = "traced"

Traced = dict[str, Any]
"""Content of one file."""


def read_traced(folder: Path) -> tuple[dict[str, Traced], list[Problem]]:
    """Shape key → content of its file, and what is wrong with the files."""
    found: dict[str, Traced] = {}
    problems: list[Problem] = []
    ids = {entry.id for entry in make_sets()}
    for path in sorted(folder.glob("*.json")):
        file = f"catalog/{FOLDER}/{path.name}"
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            problems.append(Problem(file=file, line=error.lineno, column=error.colno, reason=f"not JSON: {error.msg}"))
            continue
        problem = find_fault(data, path.stem, ids)
        if problem:
            problems.append(Problem(file=file, line=1, column=1, field=problem[0], reason=problem[1]))
        else:
            found[path.stem] = data
    return found, problems


def read_traced_once(folder: Path, digest: str) -> tuple[Mapping[str, Traced], Sequence[Problem]]:
    """`read_traced`, once per state of the inputs (``Dataset.json_digest``; empty = not known, read them now)."""
    return _read_state(folder, digest) if digest else read_traced(folder)


@lru_cache(maxsize=1)
def _read_state(folder: Path, digest: str) -> tuple[Mapping[str, Traced], Sequence[Problem]]:
    return read_traced(folder)


def find_fault(data: Any, key: str, ids: set[str]) -> tuple[str, str] | None:
    """(field, reason) why a file cannot be used, or None. ``ids`` are those of the recipes' sets."""
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        return "schema", f"expected {SCHEMA}"
    if data.get("shape") != key:
        return "shape", f"{data.get('shape')!r} is not the file's name"
    for name, values in (data.get("sets") or {}).items():
        if name not in ids:
            return "sets", f"no recipe has {name!r}"
        if "refused" in values:
            continue
        rows, speed, allocator = values.get("rows"), values.get("speed"), values.get("allocator")
        if not rows or any(len(row) != 7 or min(row) < 0 or row[6] not in (0, 1) for row in rows):
            return f"sets.{name}.rows", "expected seven numbers a row, 0 or more, the last 0 or 1"
        if not speed or len(speed) != 5 or min(speed) < 0:
            return f"sets.{name}.speed", "expected five numbers, 0 or more"
        if not allocator or any(len(point) != 4 or not 0 < point[1] <= point[2] <= point[3] for point in allocator):
            return (
                f"sets.{name}.allocator",
                "expected tokens, allocated, cap and reserved, each at least the one before",
            )
    return None


def is_stale(data: Mapping[str, Any], versions: Mapping[str, str]) -> bool:
    """Whether today's tracer, with libraries of these versions, might say something else."""
    return data.get("tracer") != TRACER or data.get("versions") != dict(versions)
