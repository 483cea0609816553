"""The published form of the coefficients, ``/api/v1/coefficients.json``: what it holds is told in ``estimate.py``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .estimate import (
    BASES,
    ROW_UNITS,
    SPEED_UNITS,
    VERSION,
    Architecture,
    Cell,
    Coefficients,
    CoefficientSet,
    GpuFigures,
    NotEstimable,
)


def to_json(table: Coefficients) -> dict[str, Any]:
    """The published form of the table; see the module's docstring."""
    return {
        "version": VERSION,
        "row_units": list(ROW_UNITS),
        "speed_units": list(SPEED_UNITS),
        "bases": list(BASES),
        "sets": [
            {
                **{name: getattr(entry, name) for name in _SET_FIELDS},
                "reserved": list(entry.reserved),
                "cap": list(entry.cap),
                "factors": {basis: list(pair) for basis, pair in entry.factors.items()},
                "bands": {basis: {k: list(v) for k, v in bands.items()} for basis, bands in entry.bands.items()},
            }
            for entry in table.sets
        ],
        "architectures": [
            {
                **{name: getattr(item, name) for name in _ARCHITECTURE_FIELDS},
                "weights": {k: _short(v) for k, v in item.weights.items()},
                "linears": {k: list(v) for k, v in item.linears.items()},
                "cells": {
                    str(index): [
                        [[_short(x) for x in row] for row in cell.rows],
                        _trim(cell.speed),
                        cell.basis,
                        *([[_short(x) for x in cell.extra]] if cell.extra else []),
                    ]
                    for index, cell in item.cells.items()
                },
            }
            for item in table.architectures
        ],
        "models": dict(table.models),
        "gpus": {key: vars(gpu) for key, gpu in table.gpus.items()},
        "pace": list(table.pace),
    }


_SET_FIELDS = (
    "id", "weights", "trained", "parameter_bytes", "gradient_bytes", "optimizer_bytes", "logit_bytes",
    "virtual_tokens", "target_bytes", "layer_target_bytes", "loss_bytes", "loss_launches", "update_bytes", "rank_bytes",
)  # fmt: skip
_ARCHITECTURE_FIELDS = ("layers", "vocab", "hidden", "chunks", "parameters", "per_rank", "prompt", "fused_loss")


def _short(value: float) -> float | int:
    return int(value) if float(value).is_integer() else value


def _trim(values: tuple[float, ...]) -> list[float | int]:
    """Without the zeros at the end."""
    kept = max((i + 1 for i, value in enumerate(values) if value), default=0)
    return [_short(value) for value in values[:kept]]


def from_json(data: Mapping[str, Any]) -> Coefficients:
    """The table behind its published form. Raises NotEstimable for another version."""
    if data.get("version") != VERSION:
        raise NotEstimable(f"coefficients are version {data.get('version')}, this reads version {VERSION}")
    sets = tuple(
        CoefficientSet(
            **{name: entry[name] for name in _SET_FIELDS},
            reserved=tuple(entry["reserved"]),
            cap=tuple(entry["cap"]),
            factors={basis: (pair[0], pair[1]) for basis, pair in entry["factors"].items()},
            bands={basis: {k: (v[0], v[1]) for k, v in bands.items()} for basis, bands in entry["bands"].items()},
        )
        for entry in data["sets"]
    )
    architectures = tuple(
        Architecture(
            **{name: item[name] for name in _ARCHITECTURE_FIELDS},
            weights=item["weights"],
            linears={k: (v[0], v[1]) for k, v in item["linears"].items()},
            cells={
                int(index): Cell(
                    tuple(tuple(row) for row in rows),
                    (*speed, *[0.0] * (len(SPEED_UNITS) - len(speed))),
                    basis,
                    tuple(extra[0]) if extra else None,
                )
                for index, (rows, speed, basis, *extra) in item["cells"].items()
            },
        )
        for item in data["architectures"]
    )
    gpus = {key: GpuFigures(**value) for key, value in data["gpus"].items()}
    return Coefficients(sets, architectures, data["models"], gpus, (data["pace"][0], data["pace"][1]))
