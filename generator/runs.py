"""Measured runs: ``measurements/results/**/*.json`` → ``Run`` records."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from .json_places import place_in
from .records import Case, Problem, Run

SCHEMA = 1
PARTS = ("cell", "memory", "speed", "environment", "depth")
CURVES = "curves"
"""Folder of loss curves among those of the cards; ``curves.py`` reads it."""


def read_runs(folder: Path) -> tuple[list[Run], list[Problem]]:
    """Every committed run under `folder`, in file order; what is wrong with a file is a problem, not an exception."""
    runs: list[Run] = []
    problems: list[Problem] = []
    for path in sorted(folder.glob("*/*.json")):
        if path.parent.name == CURVES:
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        try:
            runs.append(read_run(json.loads(text), f"{path.parent.name}/{path.stem}"))
        except json.JSONDecodeError as error:
            problems.append(
                Problem(file=str(path), line=error.lineno, column=error.colno, reason=f"not JSON: {error.msg}")
            )
        except KeyError as error:
            problems.append(Problem(file=str(path), line=1, column=1, field=str(error.args[0]), reason="missing"))
        except ValidationError as error:
            first = error.errors()[0]
            line, column = place_of(text, first["loc"])
            where = ".".join(map(str, first["loc"]))
            problems.append(Problem(file=str(path), line=line, column=column, field=where, reason=first["msg"]))
        except (TypeError, ValueError) as error:
            problems.append(Problem(file=str(path), line=1, column=1, reason=str(error)))
    return runs, problems


def place_of(text: str, field: Sequence[int | str]) -> tuple[int, int]:
    """Line and column of a run's field in its file, whose parts (cell, memory, speed …) the record joins in one."""
    places = [place_in(text, tuple(field)), *(place_in(text, (part, *field)) for part in PARTS)]
    return max(places)


def read_run(data: dict[str, Any], run_id: str) -> Run:
    """One result of the harness as the site uses it.

    Raises KeyError for a missing field, ValueError for another schema, ValidationError for a value of the wrong kind.
    """
    if data["schema"] != SCHEMA:
        raise ValueError(f"schema: expected {SCHEMA}, found {data['schema']!r}")
    cell, memory, speed, environment = data["cell"], data["memory"], data["speed"], data["environment"]
    targets, launch, seconds = cell["lora_targets"], speed.get("launch_seconds"), speed["median_step_seconds"]
    case = Case(
        recipe=cell["recipe"],
        method=cell["method"],
        micro_batch=cell["micro_batch"],
        seq_len=cell["seq_len"],
        gradient_checkpointing=cell["gradient_checkpointing"],
        lora_rank=cell["lora_rank"] or 16,
        lora_targets=tuple(targets) if isinstance(targets, list) else targets or "all-linear",
    )
    if data["depth"]["extrapolated"]:  # steps of a few layers say little about the speed of many: up to 92 % off
        speed = dict.fromkeys(speed) | {"gpu_seconds": speed.get("gpu_seconds"), "kernels": speed.get("kernels")}
        launch = seconds = None
    parts = memory["breakdown_bytes"]
    known = {name: size for name, size in parts.items() if size is not None}
    return Run(
        id=run_id,
        hub_id=cell["model"],
        config_sha256=cell["config_sha256"],
        stands_for=cell["stands_for"],
        case=case,
        gpu=environment["gpu_id"],
        gpu_count=cell["gpu_count"],
        sharding=cell["sharding"],
        status=data["status"],
        reason=data["reason"],
        holdout=data["holdout"],
        extrapolated=data["depth"]["extrapolated"],
        repeat=cell["repeat"],
        peak_allocated_bytes=memory["peak_allocated_bytes"],
        peak_reserved_bytes=memory["peak_reserved_bytes"],
        process_bytes=memory["process_bytes"],
        context_bytes=memory["context_bytes"],
        min_cap_bytes=memory["min_cap_bytes"],
        load_peak_bytes=memory["load_peak_bytes"],
        breakdown_bytes=known or None,
        step_seconds=speed["median_step_seconds"],
        launch_share=launch / seconds if launch and seconds else None,
        undisturbed=bool(speed.get("undisturbed")),
        gpu_seconds=speed.get("gpu_seconds"),
        kernels=speed.get("kernels"),
        probe_seconds=speed.get("probe_seconds"),
        tokens_per_second=speed["tokens_per_second"],
        tflops_per_second=speed["tflops_per_second"],
        mfu=speed["mfu"],
        environment=environment,
        date=date.fromisoformat(environment["date"]),
    )
