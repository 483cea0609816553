"""Traces every measured single-card run and writes how far trace and measurement are apart.

``python -m benchmarks.trace_agreement`` writes ``benchmarks/trace_agreement.json``; it needs ``pip install '.[gpu]'``
(no GPU) and takes some seconds a run. Nothing in a trace is fitted, so every run is a test. Runs of a process that
still held something of an earlier cell are counted apart (``accuracy.clean``).
"""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from generator.accuracy import clean, usable
from generator.architecture import describe
from generator.calibrate import write_calibration
from generator.coefficients import build_coefficients
from generator.dataset import load_dataset
from generator.stand_in import stand_in
from generator.trace import trace

ROOT = Path(__file__).parents[1]
QUANTITIES = {"allocated": "peak_allocated_bytes", "reserved": "peak_reserved_bytes", "cap": "min_cap_bytes"}


def summarise(errors: list[float]) -> dict[str, float]:
    sizes = sorted(map(abs, errors))
    p95 = quantiles(sizes, n=20, method="inclusive")[-1] if len(sizes) > 1 else sizes[0]
    return {"count": len(sizes), "median": round(median(sizes), 5), "p95": round(p95, 5), "worst": round(sizes[-1], 5)}


def main() -> int:
    dataset, problems = load_dataset(ROOT)
    if problems:
        print(*problems, sep="\n", file=sys.stderr)
        return 1
    table, _ = build_coefficients(dataset.hub.values(), dataset.catalog.gpus.values())
    runs = usable(dataset.runs, table)
    sound = {run.id for run in clean(runs, table)}
    found: dict[str, dict[str, list[float]]] = {"clean": {}, "unclean": {}}
    cells: list[dict[str, Any]] = []
    for run in runs:
        try:
            config = dict(dataset.hub[run.hub_id].config or {})
            config = stand_in(describe(config)) or config if run.on_stand_in else config
            traced = trace(config, run.case, bool(run.min_cap_bytes))
        except (ValueError, RuntimeError) as error:
            print(f"{run.id}: {error}", file=sys.stderr)
            continue
        kind = "clean" if run.id in sound else "unclean"
        cell: dict[str, Any] = {"run": run.id, "process": kind}
        for name, field in QUANTITIES.items():
            if measured := getattr(run, field):
                cell[name] = round(traced[field] / measured - 1, 5)
                found[kind].setdefault(name, []).append(cell[name])
        cells.append(cell)
        print(cell, file=sys.stderr, flush=True)
    summary = {
        kind: {name: summarise(values) for name, values in errors.items()} for kind, errors in found.items() if errors
    }
    write_calibration({"summary": summary, "cells": cells}, ROOT / "benchmarks" / "trace_agreement.json")
    print(summary)
    return 0


if __name__ == "__main__":
    sys.exit(main())
