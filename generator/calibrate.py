"""Corrects the estimate by measurement, and says how wrong it still is. ``python -m generator fit`` writes
``catalog/calibration.json``; the same inputs always give the same file.

*Memory* in closed form. Per recipe × method × checkpointing, four numbers correct the rows of ``estimate``: bytes per
logit and a factor on everything else per token where the loss is the peak; a factor on the bytes per token and bytes
per hidden unit and token where a layer is. They are fitted by ridge regression of the relative error towards no
correction, on runs that are not held out. A set with fewer than three such runs takes the correction of its nearest
relative. *Smallest cap and reserved memory* of such cells are the allocated peak times the median measured ratio. Cells
that were traced (``traced.py``) take none of this: nothing of their memory is fitted. *Speed* is fitted in
``calibrate_speed.py``. Cards that were not measured take the fitted shares of their published rates.

*Intervals* are conformal: every model is left out in turn, everything is fitted on the others, and the 90 % quantile
(with the finite-sample correction) of the absolute log errors on the model left out is the half-width. *Errors* are
published on the hold-out alone, which no step above has seen.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from .accuracy import QUANTITIES, clean, errors_of, locate, summarise, usable
from .calibrate_speed import FALLBACK, fit_speed
from .coefficients import build_coefficients, correct_rows, unfused_logits
from .estimate import ROW_UNITS, Architecture, Cell, Coefficients, CoefficientSet, evaluate
from .records import GpuEntry, HubFacts, Run
from .traced import FOLDER, read_traced

LEAST_RUNS = 3
LEAST_WIDTH = {"estimated": 0.005, "closed": 0.08}
"""Half-widths of intervals at least: measurements of one cell differ by as much when repeated, and what stays in closed
form are the architectures least like those it is fitted to."""
ENOUGH = 20
"""Errors from which on a set has intervals of its own: the 90 % quantile of fewer is nearly their largest."""
RIDGE = 0.0003
FIGURES = ("matmul_flops", "attention_flops", "bandwidth", "kernel_seconds", "launch_seconds", "layer_seconds")
PACES = (0.05, 0.95)
"""Quantiles of the paces of the hosts that were measured, between which the pace of an unknown one is taken to be."""


def _row_values(entry: CoefficientSet, architecture: Architecture, cell: Cell, run: Run) -> list[float]:
    """Bytes of every row, each evaluated alone."""
    return [
        evaluate(entry, architecture, Cell((row,), cell.speed, cell.basis), run.case).allocated for row in cell.rows
    ]


def fit_rows(base: Coefficients, runs: Sequence[Run]) -> dict[str, list[float]]:
    """Set id → [bytes per logit, factor, factor, bytes per hidden unit, constant bytes] (see ``correct_rows``)."""
    by_set: dict[str, list[Run]] = {}
    for run in runs:
        by_set.setdefault(locate(base, run)[0].id, []).append(run)
    found: dict[str, list[float]] = {}
    for name, members in sorted(by_set.items()):
        if len(members) < LEAST_RUNS:
            continue
        values = [0.0, 0.0, 0.0, 0.0, 0.0]
        for _ in range(6):
            matrix, target = [], []
            for run in members:
                entry, architecture, cell = locate(base, run)
                rows = tuple(correct_rows(row, values, entry, architecture) for row in cell.rows)
                sizes = _row_values(entry, architecture, Cell(rows, cell.speed, cell.basis), run)
                index = max(range(len(sizes)), key=sizes.__getitem__)
                row = cell.rows[index]
                measured = float(run.peak_allocated_bytes or 1)
                plain = _row_values(entry, architecture, cell, run)[index]
                tokens = run.case.micro_batch * (run.case.seq_len + entry.virtual_tokens)
                per_token = row[2] * ROW_UNITS[2]
                logits = architecture.vocab * float(tokens)
                hidden = architecture.hidden * float(tokens)
                rest = (per_token - architecture.vocab * entry.logit_bytes) * tokens
                loss = not row[6] and entry.logit_bytes
                corrected = (per_token - unfused_logits(row, architecture)) * tokens
                features = [logits, rest, 0, 0] if loss else [0, 0, corrected, hidden]
                matrix.append([value / measured for value in (*features, 64.0 * 1024**2)])
                target.append((measured - plain) / measured)
            x, y = np.array(matrix), np.array(target)
            scale = np.array([1.0, 0.3, 0.3, 10.0, 3.0])
            xs = x * scale
            solved = np.linalg.solve(xs.T @ xs + RIDGE * np.eye(5), xs.T @ y)
            fresh = [float(v) for v in solved * scale]
            if max(abs(a - b) for a, b in zip(fresh, values, strict=True)) < 1e-6:
                break
            values = fresh
        values[4] *= 64.0 * 1024**2
        found[name] = [float(f"{v:.5g}") for v in values]
    return found


def borrow(fitted: Mapping[str, Any], ids: Iterable[str]) -> dict[str, Any]:
    """Every set's own fit, or that of its nearest relative of the same recipe and checkpointing."""
    found = {}
    for name in ids:
        recipe, method, checkpointing = name.split("/")
        for candidate in (method, *FALLBACK[method]):
            if f"{recipe}/{candidate}/{checkpointing}" in fitted:
                found[name] = fitted[f"{recipe}/{candidate}/{checkpointing}"]
                break
    return found


def fit_ratios(runs: Sequence[Run], base: Coefficients, field: str) -> dict[str, float]:
    """Set id → median of ``field`` over the allocated peak; sets without such runs take their recipe's median."""
    by_set: dict[str, list[float]] = {}
    for run in runs:
        value = getattr(run, field)
        if value and run.peak_allocated_bytes:
            by_set.setdefault(locate(base, run)[0].id, []).append(value / run.peak_allocated_bytes)
    own = {name: median(values) for name, values in by_set.items() if len(values) >= 2}
    everything = [value for values in by_set.values() for value in values]
    found = {}
    for entry in base.sets:
        recipe, _, checkpointing = entry.id.split("/")
        like = [v for n, values in by_set.items() for v in values if n.startswith(recipe) and n.endswith(checkpointing)]
        known = own.get(entry.id) or borrow(own, [entry.id]).get(entry.id)
        if known or like or everything:
            found[entry.id] = known or median(like or everything)
    return found


def fit_values(
    closed: Coefficients, base: Coefficients, runs: Sequence[Run], gpus: Mapping[str, GpuEntry]
) -> dict[str, Any]:
    """Everything but the intervals, from ``runs``, none of which may be held out.

    ``closed`` is the table in closed form alone, whose rows are corrected; ``base`` the one with traced cells, whose
    rows are not: nothing of a trace's memory is fitted.
    """
    assert not any(run.holdout for run in runs)
    ids = [entry.id for entry in base.sets]
    rows = borrow(fit_rows(closed, runs), ids)
    caps, reserves = fit_ratios(runs, base, "min_cap_bytes"), fit_ratios(runs, base, "peak_reserved_bytes")
    figures, factors = fit_speed(closed, base, runs, gpus)
    sets: dict[str, dict[str, Any]] = {}
    for name in ids:
        values: dict[str, Any] = {}
        if name in rows:
            values["rows"] = rows[name]
        if name in caps:
            values["cap"] = [0.0, float(f"{max(caps[name], 1.0):.5g}"), 0.0]
        if name in reserves:
            values["reserved"] = [0.0, float(f"{max(reserves[name], 1.0):.5g}"), 0.0]
        values["factors"] = factors[name]
        sets[name] = values
    found: dict[str, Any] = {"sets": sets, "gpus": {}, "shares": {}}
    paces = [run.processor_pace for run in runs if run.processor_pace]
    if paces:
        found["pace"] = [float(f"{value:.3g}") for value in np.quantile(paces, PACES)]
    for gpu, figured in figures.items():
        contexts = [run.context_bytes for run in runs if run.gpu == gpu and run.context_bytes]
        named = dict(zip(FIGURES, figured, strict=True))
        named["context_bytes"] = float(median(contexts)) if contexts else 0.6 * 1024**3
        found["gpus"][gpu] = named
        entry = gpus.get(gpu)
        if entry and entry.bf16_dense_tflops and entry.bandwidth_gb_s and not found["shares"]:
            peak = entry.bf16_dense_tflops * 1e12
            found["shares"] = {name: named[name] for name in (*FIGURES[3:], "context_bytes")} | {
                "matmul": float(f"{named['matmul_flops'] / peak:.4g}"),
                "attention": float(f"{named['attention_flops'] / peak:.4g}"),
                "bandwidth": float(f"{named['bandwidth'] / entry.bandwidth_gb_s / 1e9:.4g}"),
            }
    return found


def conformal(errors: Sequence[float], level: float = 0.9) -> float:
    """Half-width in log units that covers ``level`` of exchangeable errors (split conformal)."""
    ordered = sorted(abs(error) for error in errors)
    return ordered[min(len(ordered) - 1, math.ceil(level * (len(ordered) + 1)) - 1)]


Logs = dict[str, dict[str, list[float]]]
"""Set id → quantity → log errors on models left out."""


def at_any_pace(band: Sequence[float], pace: Sequence[float]) -> list[float]:
    """The interval of a speed that the processor sets when its pace is not known: both spreads are independent."""
    low = math.hypot(math.log(band[0]), math.log(pace[1]))
    high = math.hypot(math.log(band[1]), math.log(pace[0]))
    return [float(f"{math.exp(-low):.4g}"), float(f"{math.exp(high):.4g}")]


def fit_bands(logs: Logs, ids: Iterable[str], least: float, pace: Sequence[float]) -> dict[str, dict[str, list[float]]]:
    """Set id → quantity → [low, high]. A set with too few errors takes those of its recipe, or of all."""
    found: dict[str, dict[str, list[float]]] = {}
    for name in ids:
        recipe, _, checkpointing = name.split("/")
        bands = {}
        for quantity in (*QUANTITIES, "launch"):
            groups = [
                logs.get(name, {}).get(quantity, []),
                [
                    error for other, group in logs.items() for error in group.get(quantity, [])
                    if other.startswith(recipe) and other.endswith("/" + checkpointing)
                ],
                [error for group in logs.values() for error in group.get(quantity, [])],
            ]  # fmt: skip
            own = next((group for group in groups if len(group) >= ENOUGH), groups[-1])
            if own:
                width = max(conformal(own), least if len(own) >= ENOUGH else 0.15)
                bands[quantity] = [float(f"{math.exp(-width):.4g}"), float(f"{math.exp(width):.4g}")]
        if "launch" in bands:
            bands["processor"] = at_any_pace(bands["launch"], pace)
        found[name] = bands
    return found


def fit(
    facts: Sequence[HubFacts],
    gpus: Mapping[str, GpuEntry],
    runs: Sequence[Run],
    traced: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """The calibration: values, intervals and, on the hold-out, the bounds that tests enforce."""
    cards = list(gpus.values())
    closed, _ = build_coefficients(facts, cards, None)
    base, _ = build_coefficients(facts, cards, None, traced)
    known = usable(runs, base)
    train = clean([run for run in known if not run.holdout], base)
    values = fit_values(closed, base, train, gpus)
    logs: dict[str, Logs] = {"estimated": {}, "closed": {}}
    for model in sorted({run.hub_id for run in train}):
        others = fit_values(closed, base, [run for run in train if run.hub_id != model], gpus)
        for basis, files in (("estimated", traced), ("closed", None)):
            table, _ = build_coefficients([f for f in facts if f.hub_id == model], cards, others, files)
            for record in errors_of(table, [run for run in train if run.hub_id == model]):
                if basis == "estimated" and traced and record["basis"] != "traced":
                    continue
                group = logs[basis].setdefault(record["set"], {})
                for name in QUANTITIES:
                    if name in record:
                        band = "launch" if name == "speed" and record["estimated_pace"] == "processor" else name
                        group.setdefault(band, []).append(math.log(1 + record[name]["error"]))
    bands = {
        basis: fit_bands(found, values["sets"], LEAST_WIDTH[basis], values.get("pace", (1.0, 1.0)))
        for basis, found in logs.items()
    }
    for name, entry in values["sets"].items():
        entry["bands"] = {"estimated": bands["estimated"][name], "closed": bands["closed"][name],
                          "interpolated": bands["estimated"][name]}  # fmt: skip
    values["runs"] = {"fitted": len(train), "held_out": sum(run.holdout for run in known)}
    table, _ = build_coefficients(facts, cards, values, traced)
    values["bounds"] = summarise(errors_of(table, [run for run in known if run.holdout]))
    return values


def write_calibration(values: Mapping[str, Any], path: Path) -> None:
    """Write the file whole or not at all."""
    handle, temporary = tempfile.mkstemp(prefix=".", suffix=".part", dir=path.parent)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(json.dumps(values, indent=1, sort_keys=True) + "\n")
    Path(temporary).chmod(0o644)
    Path(temporary).replace(path)


def run_fit(arguments: Any) -> int:
    from .dataset import require_dataset

    dataset = require_dataset(arguments.root)
    traced, problems = read_traced(arguments.root / "catalog" / FOLDER)
    for problem in problems:
        print(problem)
    values = fit(list(dataset.hub.values()), dataset.catalog.gpus, dataset.runs, traced)
    write_calibration(values, arguments.root / "catalog" / "calibration.json")
    print(f"{values['runs']['fitted']} runs fitted, {values['runs']['held_out']} held out")
    for name, figures in values["bounds"].items():
        print(name, ", ".join(f"{key} {value}" for key, value in figures.items()))
    return 0


def register(commands: Any) -> None:
    """Add ``fit`` to the command line."""
    command = commands.add_parser("fit", help="fit the estimate to the measured runs; writes catalog/calibration.json")
    command.set_defaults(run=run_fit)
