"""The weights by which the picker orders models: ``catalog/ranking.yaml``, shown to readers as it stands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from .catalog import read_entry
from .records import Problem, Record

Share = Annotated[float, Field(ge=0, le=1)]


class Weights(Record):
    """Weight of each part of a model's rank; only their proportions matter."""

    fit: float = Field(ge=0)
    quality: float = Field(ge=0)
    size: float = Field(ge=0)
    start: float = Field(ge=0)
    language: float = Field(ge=0)
    licence: float = Field(ge=0)
    recency: float = Field(ge=0)
    popularity: float = Field(ge=0)


class Quality(Record):
    """How published scores become one figure (see ``evidence``)."""

    without_evidence: Share
    least_compared: int = Field(ge=2)
    ridge: float = Field(gt=0)
    bridge: Share


class Ranking(Record):
    """``catalog/ranking.yaml``."""

    id: str
    weights: Weights
    quality: Quality
    language_unknown: Share
    recency_months: int = Field(gt=0)
    popularity_full: int = Field(gt=1)
    superseded: Share


def read_ranking(root: Path) -> tuple[Ranking | None, list[Problem]]:
    """The ranking of the repository at `root`, or what is wrong with its file."""
    path = root / "catalog" / "ranking.yaml"
    if not path.is_file():
        return None, [Problem(file="catalog/ranking.yaml", line=1, column=1, reason="is missing")]
    return read_entry(root, path, Ranking)


def load_ranking(root: Path) -> Ranking:
    """As `read_ranking`. Raises ValueError naming file, line, column and field."""
    ranking, problems = read_ranking(root)
    if ranking is None:
        raise ValueError("\n".join(map(str, problems)))
    return ranking
