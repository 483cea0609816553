"""What published scores say of a model for one task, comparing only scores that may be compared.

A *column* is one benchmark in one setting and mode of one published table. Scores of different columns are never
compared: each column gets an offset of its own, and only the differences between the models inside it count. With y the
log-odds of a score, the least squares of y(model, column) = strength(model) + offset(column), with a ridge on both,
joins the columns through the models they share. Few tables hold a task's own benchmarks, so the other columns of all
tables take part with a small weight: they say which group of tables is the stronger one where no model of the task's
own columns does. Models that no chain of columns joins to the others have no comparable evidence, nor have models
without a score in a column of the task itself.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .records import BenchmarkGroup

Column = tuple[str, str, str, str, str]


@dataclass(frozen=True)
class Citation:
    """One score of a model, with its place in its own column (1 = best)."""

    group: str
    benchmark: str
    setting: str
    score: float
    place: int
    compared: int


@dataclass(frozen=True)
class Evidence:
    """Comparable evidence for one model and task. `standing`: share of the compared models it is not below, 0 to 1."""

    standing: float
    citations: tuple[Citation, ...]


def columns_of(groups: Iterable[BenchmarkGroup], least: int) -> dict[Column, dict[str, float]]:
    """Column → model → score, for columns that compare at least `least` models."""
    columns: dict[Column, dict[str, float]] = defaultdict(dict)
    for group in groups:
        for score in group.scores:
            key = (group.id, score.benchmark, score.setting or "", score.mode or "", score.kind or "")
            columns[key].setdefault(score.model, score.score)
    return {key: scores for key, scores in columns.items() if len(scores) >= least and 0 < max(scores.values()) <= 100}


@lru_cache(maxsize=8192)
def log_odds(score: float, full: float) -> float:
    """Log-odds of a score out of `full`, kept off the ends where they would be infinite."""
    share = min(max(score / full, 0.01), 0.99)
    return math.log(share / (1 - share))


def joined(columns: Mapping[Column, Mapping[str, float]]) -> set[str]:
    """The largest set of models that chains of shared columns join (first by name among equals)."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        parent.setdefault(name, name)
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for scores in columns.values():
        first, *others = scores
        for other in others:
            parent[root(other)] = root(first)
    parts: dict[str, set[str]] = defaultdict(set)
    for name in list(parent):
        parts[root(name)].add(name)
    return max(parts.values(), key=lambda part: (len(part), sorted(part)), default=set())


def weigh(
    columns: Mapping[Column, Mapping[str, float]],
    benchmarks: Sequence[str],
    known: Iterable[str],
    ridge: float,
    bridge: float = 0.0,
) -> dict[str, Evidence]:
    """Hub id → evidence, for the models in `known` that comparable scores of `benchmarks` (of all when empty) join.

    `bridge` is the weight of columns of other benchmarks beside the 1 of the task's own; with 0 they take no part.
    """
    own = {key: scores for key, scores in columns.items() if not benchmarks or key[1] in benchmarks}
    if not bridge:
        columns = own
    models = sorted(joined(columns))
    if not models or not own:
        return {}
    row_of = {name: i for i, name in enumerate(models)}
    normal, target = np.diag(np.full(len(models), ridge)), np.zeros(len(models))
    citations: dict[str, list[Citation]] = defaultdict(list)
    for key, scores in columns.items():
        if next(iter(scores)) not in row_of:
            continue
        full = 10.0 if max(scores.values()) <= 10 else 100.0
        weight = 1.0 if key in own else bridge
        rows = np.array([row_of[name] for name in scores])
        y = np.array([log_odds(score, full) for score in scores.values()])
        # The column's offset stands in this column's equations alone and is eliminated from them at once: what is left
        # to solve has a row per model, not one per model and column.
        share = weight / (weight * len(rows) + ridge)
        normal[rows, rows] += weight
        normal[rows[:, None], rows] -= weight * share
        target[rows] += weight * (y - share * y.sum())
        if key in own:
            descending = sorted(scores.values(), reverse=True)
            for name, score in scores.items():
                place = descending.index(score) + 1
                citations[name].append(Citation(key[0], key[1], " ".join(key[2:4]).strip(), score, place, len(scores)))
    strength = np.linalg.solve(normal, target)
    found = {name: float(strength[row_of[name]]) for name in known if name in citations}
    ordered = np.sort(np.array(list(found.values())))
    return {
        name: Evidence(
            round(float(np.searchsorted(ordered, value + 1e-9)) / len(ordered), 3),
            tuple(sorted(citations[name], key=lambda c: (-c.compared, c.group, c.benchmark, c.setting, c.place))),
        )
        for name, value in found.items()
    }
