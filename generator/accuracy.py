"""How wrong the estimate is, on the runs that are held out: errors by group, the worst cells, false promises.

``python -m generator accuracy`` prints what the accuracy page shows. Nothing here is fitted; ``calibrate.py`` takes
from here only what an error is.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from .estimate import ROW_UNITS, Architecture, Cell, Coefficients, CoefficientSet, evaluate, speed_band
from .records import Run

if TYPE_CHECKING:
    from rich.console import Console

STALE_WEIGHTS = 1.1
QUANTITIES = ("allocated", "cap", "reserved", "speed")
PUBLISHED = (*QUANTITIES, "speed_anywhere")
"""The last: speed on a host whose pace is not known."""


def usable(runs: Iterable[Run], table: Coefficients) -> list[Run]:
    """Complete single-card runs of models and sets that have coefficients, in a fixed order."""
    found = [
        run
        for run in runs
        if run.status == "ok" and run.gpu_count == 1 and run.peak_allocated_bytes and run.hub_id in table.models
        and table.set_index(run.case) in built(table, run).cells
    ]  # fmt: skip
    return sorted(found, key=lambda run: run.id)


def clean(runs: Iterable[Run], table: Coefficients) -> list[Run]:
    """Runs whose resting weights are those of the model; in others the process still held something of a cell before.

    No fit uses those; the hold-out keeps them.
    """
    return [run for run in runs if holds_its_own_weights(table, run)]


def holds_its_own_weights(table: Coefficients, run: Run) -> bool:
    entry, architecture, _ = locate(table, run)
    expected = architecture.weights[entry.weights] * ROW_UNITS[0]
    return (run.breakdown_bytes or {}).get("weights", 0) <= STALE_WEIGHTS * expected


def built(table: Coefficients, run: Run) -> Architecture:
    """What was measured: the model's own architecture, or that of its stand-in."""
    own = table.architectures[table.models[run.hub_id]]
    return table.stand_ins.get(run.hub_id, own) if run.on_stand_in else own


def locate(table: Coefficients, run: Run) -> tuple[CoefficientSet, Architecture, Cell]:
    architecture = built(table, run)
    index = table.set_index(run.case)
    return table.sets[index], architecture, architecture.cells[index]


def is_timed(run: Run) -> bool:
    """Whether the run's speed can be compared with an estimate: timed undisturbed, and either set by the GPU or beside
    the probe that tells how quick the processor was meanwhile."""
    return bool(run.undisturbed and run.step_seconds and (run.processor_pace or run.paced_by == "gpu"))


def errors_of(table: Coefficients, runs: Iterable[Run]) -> list[dict[str, Any]]:
    """One record per run: what was estimated, what was measured (bytes; tokens per second), the relative errors."""
    found = []
    for run in runs:
        entry, architecture, cell = locate(table, run)
        case = run.case.model_copy(update={"processor_pace": run.processor_pace})
        answer = evaluate(entry, architecture, cell, case, table.gpus.get(run.gpu))
        tokens = run.case.micro_batch * run.case.seq_len
        rate = tokens / answer.step_seconds if answer.step_seconds else None
        anywhere = evaluate(entry, architecture, cell, run.case, table.gpus.get(run.gpu))
        record: dict[str, Any] = {
            "run": run.id, "model": run.hub_id, "recipe": run.case.recipe, "method": run.case.method, "gpu": run.gpu,
            "checkpointing": run.case.gradient_checkpointing, "micro_batch": run.case.micro_batch,
            "seq_len": run.case.seq_len, "set": entry.id, "parameters": architecture.parameters,
            "family": run.hub_id.split("/")[-1].split("-")[0],
            "basis": "closed" if cell.basis == 2 else "traced", "date": run.date.isoformat(),
            "clean": holds_its_own_weights(table, run), "pace": run.paced_by or "unknown",
            "stand_in": run.on_stand_in,
            "estimated_pace": answer.pace,
        }  # fmt: skip
        pairs = (
            ("allocated", answer.allocated, run.peak_allocated_bytes), ("cap", answer.cap, run.min_cap_bytes),
            ("reserved", answer.reserved, run.peak_reserved_bytes),
            ("speed", rate, run.tokens_per_second if is_timed(run) else None),
            ("speed_anywhere", tokens / anywhere.step_seconds if anywhere.step_seconds else None,
             run.tokens_per_second if is_timed(run) else None),
        )  # fmt: skip
        bands = entry.bands.get("closed" if cell.basis == 2 else "estimated", {})
        for name, value, measured in pairs:
            if value and measured:
                band = bands.get(name)
                if name.startswith("speed") and "speed" in bands:
                    known = name == "speed"
                    band = speed_band(bands, answer.pace if known else anywhere.pace, known)
                low, high = band or (0.0, math.inf)
                record[name] = {
                    "estimated": value, "measured": measured, "error": value / measured - 1,
                    "inside": value * low <= measured <= value * high,
                }  # fmt: skip
        found.append(record)
    return found


def summarise(records: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Median, 95th percentile and worst absolute error and the share inside the interval, per quantity."""
    found = {}
    for name in PUBLISHED:
        own = [record[name] for record in records if name in record]
        if own:
            errors = sorted(abs(item["error"]) for item in own)
            found[name] = {
                "count": len(own),
                "median": round(median(errors), 5),
                "p95": round(float(np.quantile(errors, 0.95)), 5),
                "worst": round(errors[-1], 5),
                "inside": round(sum(item["inside"] for item in own) / len(own), 4),
            }
    return found


def accuracy(table: Coefficients, runs: Sequence[Run]) -> dict[str, Any]:
    """Plain data of the accuracy page: errors on the hold-out by method, recipe, size and GPU, and the worst ten."""
    records = errors_of(table, [run for run in usable(runs, table) if run.holdout])
    measured = {run.hub_id for run in runs if run.status == "ok" and not run.holdout}

    def size(record: Mapping[str, Any]) -> str:
        billions = record["parameters"] / 1e9
        return "< 2 B" if billions < 2 else "2–6 B" if billions < 6 else "6–10 B" if billions < 10 else "> 10 B"

    groups: dict[str, Callable[[Mapping[str, Any]], str]] = {
        "method": lambda r: r["method"], "recipe": lambda r: r["recipe"], "gpu": lambda r: r["gpu"], "size": size,
        "checkpointing": lambda r: "on" if r["checkpointing"] else "off", "model": lambda r: r["model"],
        "pace": lambda r: r["pace"],
        "family": lambda r: r["family"],
        "basis": lambda r: r["basis"],
        "known": lambda r: "measured" if r["model"] in measured else "config_only",
    }  # fmt: skip
    tables = {}
    for name, key in groups.items():
        parts: dict[str, list[Mapping[str, Any]]] = {}
        for record in records:
            parts.setdefault(key(record), []).append(record)
        tables[name] = {part: summarise(members) for part, members in sorted(parts.items())}
    worst = sorted((r for r in records if "allocated" in r), key=lambda r: -abs(r["allocated"]["error"]))[:10]
    return {
        "overall": summarise(records),
        "by": tables,
        "worst": [{**record, "reason": explain(record, measured)} for record in worst],
        "promises": {
            "checked": sum("cap" in record for record in records),
            "broken": sum("cap" in record and record["cap"]["error"] < -0.02 for record in records),
        },
        "records": records,
    }


def explain(record: Mapping[str, Any], measured: set[str]) -> str:
    """What is unusual about a cell that is off: a likely reason, not a proven one. An id that pages turn into words."""
    if not record["clean"]:
        return "measured_in_an_unclean_process"
    if record["model"] not in measured:
        return "model_not_measured"
    if not record["checkpointing"]:
        return "activations_without_checkpointing"
    if record["micro_batch"] * record["seq_len"] <= 1024:
        return "fixed_temporaries_weigh_more_in_small_steps"
    return "not_explained"


def run_accuracy(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from .dataset import require_dataset
    from .estimate_command import build_estimator

    dataset = require_dataset(arguments.root)
    catalog = arguments.root / "catalog"
    table = build_estimator(dataset.hub.values(), dataset.catalog.gpus.values(), (), catalog).table
    print_accuracy(accuracy(table, dataset.runs), Console())
    return 0


def print_accuracy(found: Mapping[str, Any], console: Console) -> None:
    """Errors on the hold-out as tables."""
    from rich.table import Table

    for title, parts in (("nothing", {"all": found["overall"]}), *found["by"].items()):
        table = Table(title, "quantity", "cells", "median", "p95", "worst", "inside", title=f"held out, by {title}")
        for part, quantities in parts.items():
            for name, figures in quantities.items():
                shown = [f"{figures[key]:.1%}" for key in ("median", "p95", "worst", "inside")]
                table.add_row(str(part), name, str(figures["count"]), *shown)
        console.print(table)
    for record in found["worst"]:
        item = record["allocated"]
        console.print(f"{item['error']:+.1%} {record['run']} ({record['reason']})")
    promise = found["promises"]
    console.print(
        f"said to fit under a measured cap but needed > 2 % more: {promise['broken']} of {promise['checked']}"
    )


def register(commands: Any) -> None:
    """Add ``accuracy`` to the command line."""
    command = commands.add_parser("accuracy", help="how wrong the estimate is on the runs that are held out")
    command.set_defaults(run=run_accuracy)
