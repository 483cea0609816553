"""Loss curves of the two recipes beside each other: ``measurements/results/curves/*.json``.

Of each file, an object, only these fields are read: ``model`` (Hub id), ``method``, ``steps`` (of training), ``agree``
(whether the curves of stock and lean agree, true or false) and ``date`` (YYYY-MM-DD). A file without them compares
nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .runs import CURVES


@dataclass(frozen=True)
class CurveComparison:
    """One real training run in both recipes."""

    model: str
    method: str
    steps: int
    agree: bool
    date: str


def read_curves(root: Path) -> tuple[CurveComparison, ...]:
    """The comparisons of the repository at `root`, in file order; files that say something else are passed over."""
    return tuple(_comparisons(root / "measurements" / "results" / CURVES))


def _comparisons(folder: Path) -> Iterator[CurveComparison]:
    for path in sorted(folder.glob("*.json")):
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except json.JSONDecodeError:
            continue
        if not isinstance(data, dict) or not isinstance(data.get("agree"), bool):
            continue
        try:
            yield CurveComparison(
                str(data["model"]), str(data["method"]), int(data["steps"]), data["agree"], str(data["date"])
            )
        except (KeyError, TypeError, ValueError):
            continue
