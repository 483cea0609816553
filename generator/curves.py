"""Loss curves of the two recipes beside each other: ``measurements/results/curves/*.json``."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from .json_places import place_in
from .records import Problem, Record
from .runs import CURVES


class LossCurves(Record):
    """One model trained on the same text, batches and seed in both recipes, as the harness wrote it."""

    schema_: Literal[1] = Field(alias="schema")
    model: str = Field(description="Hub id; its architecture cut to its first `layers` layers, random weights")
    layers: int
    method: str
    micro_batch: int
    seq_len: int
    steps: int
    gradient_checkpointing: bool
    learning_rate: float
    text_sha256: str
    stock: tuple[float, ...] = Field(description="mean loss per token of each step, nats")
    lean: tuple[float, ...]
    stock_reordered: tuple[float, ...] | None = Field(description="stock with the rows of each batch reversed")
    mean_difference: float = Field(description="of |lean - stock| / stock over the steps")
    max_difference: float
    mean_noise: float | None = Field(description="of |stock_reordered - stock| / stock: what rounding alone does")
    final_difference: str = Field(description="of the mean loss of the last ten steps, signed, in percent")
    agree: bool = Field(description="mean_difference is within the tolerance")
    tolerance: float
    environment: dict[str, Any]

    @property
    def day(self) -> date:
        """Day of the run."""
        return date.fromisoformat(self.environment["date"])


def read_curves(results: Path) -> tuple[list[LossCurves], list[Problem]]:
    """The committed comparisons under ``results``, in file order; what is wrong with a file is a problem."""
    curves: list[LossCurves] = []
    problems: list[Problem] = []
    for path in sorted((results / CURVES).glob("*.json")):
        text = path.read_text(encoding="utf-8", errors="replace")
        try:
            found = LossCurves.model_validate_json(text)
            _ = found.day
            curves.append(found)
        except ValidationError as error:
            first = error.errors()[0]
            if first["type"] == "json_invalid":
                problems.append(_not_json(path, text))
                continue
            line, column = place_in(text, first["loc"])
            field = ".".join(map(str, first["loc"]))
            problems.append(Problem(file=str(path), line=line, column=column, field=field, reason=first["msg"]))
        except (KeyError, ValueError, TypeError):
            line, column = place_in(text, ("environment",))
            problems.append(
                Problem(
                    file=str(path), line=line, column=column, field="environment.date", reason="no day (YYYY-MM-DD)"
                )
            )
    return curves, problems


def _not_json(path: Path, text: str) -> Problem:
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return Problem(file=str(path), line=error.lineno, column=error.colno, reason=f"not JSON: {error.msg}")
    return Problem(file=str(path), line=1, column=1, reason="not JSON")
