"""Every measured cell as one flat row, with what the estimate says of it: ``/api/v1/cells.json`` and the explorer.

The file is ``{version, data_date, cells: [MeasuredCell, …]}``, cells ordered by id; its schema is published as
``/api/v1/schema/cell.json``. Rows are flat, so that the CSV of the explorer has the same columns under the same names.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from pydantic import Field

from ..accuracy import errors_of, usable
from ..coefficients import CONTEXT_BYTES
from ..dataset import Dataset
from ..records import Record, Run
from ..stand_in import NAMES
from .cells import cells_of

VERSION = 1
ADAPTERS = ("lora", "qlora", "lora_8bit", "dora", "rslora")


class MeasuredCell(Record):
    """One measured training step. Sizes are bytes, times seconds; null = not measured or not applicable."""

    id: str = Field(description="path of the result file under measurements/results, without .json")
    model: str | None = Field(description="id of the model in this guide; null = not in its catalog")
    hub_id: str
    name: str
    measured_as: str | None = Field(
        description="class with the same sizes that was measured because the model needs code from its repository"
    )
    gpu: str
    gpu_name: str
    gpu_count: int
    method: str
    recipe: str
    gradient_checkpointing: bool
    micro_batch: int
    seq_len: int
    lora_rank: int | None = Field(description="null for methods without adapters")
    lora_targets: str | None = Field(description="all-linear, or names of layers; null for methods without adapters")
    status: str = Field(description="ok, or why there are no figures: oom, failed, skipped")
    holdout: bool = Field(description="kept out of every fit; drawn by the hash of the cell")
    extrapolated: bool = Field(description="measured on fewer layers and extended to all")
    repeat: int = Field(description="0 = first measurement of the cell, 1 = second …")
    date: str
    torch: str | None
    transformers: str | None
    peft: str | None
    peak_allocated_bytes: int | None
    peak_reserved_bytes: int | None
    min_cap_bytes: int | None = Field(description="smallest allocator limit under which the step finishes")
    needed_bytes: int | None = Field(description="min_cap_bytes plus the CUDA context: what a card must have free")
    step_seconds: float | None
    gpu_seconds: float | None = Field(description="of the step, in which the GPU worked")
    processor_pace: float | None = Field(
        description="how long the processor took to launch kernels meanwhile, over what the reference host takes"
    )
    tokens_per_second: float | None
    mfu: float | None = Field(description="share of the card's peak rate that the step used")
    estimated_allocated_bytes: int | None
    estimated_tokens_per_second: float | None = Field(
        description="at processor_pace; null where that is unknown and the GPU did not set the pace"
    )
    error_allocated: float | None = Field(description="estimate / measurement - 1")
    error_speed: float | None = Field(description="estimate / measurement - 1")


def name_targets(targets: str | Sequence[str]) -> str:
    return targets if isinstance(targets, str) else " ".join(targets)


@lru_cache(maxsize=1)
def measured_cells(dataset: Dataset) -> Sequence[MeasuredCell]:
    """Every run in the order of its id. Estimates come from the formula alone, never from the run itself."""
    table = cells_of(dataset).estimator.table
    errors = {record["run"]: record for record in errors_of(table, usable(dataset.runs, table))}
    names = {model.hub_id: model for model in dataset.catalog.models.values()}
    rows = []
    for run in sorted(dataset.runs, key=lambda run: run.id):
        model, gpu = names.get(run.hub_id), dataset.catalog.gpus.get(run.gpu)
        error = errors.get(run.id, {})
        allocated, speed = error.get("allocated", {}), error.get("speed", {})
        cap = run.min_cap_bytes
        versions = {name: run.environment.get(name) for name in ("torch", "transformers", "peft")}
        rows.append(
            MeasuredCell(
                id=run.id,
                model=model.id if model else None,
                hub_id=run.hub_id,
                name=name_run(run, model.name if model else run.hub_id.rpartition("/")[2]),
                measured_as=name_class(run),
                gpu=run.gpu,
                gpu_name=gpu.name if gpu else run.gpu,
                gpu_count=run.gpu_count,
                method=run.case.method,
                recipe=run.case.recipe,
                gradient_checkpointing=run.case.gradient_checkpointing,
                micro_batch=run.case.micro_batch,
                seq_len=run.case.seq_len,
                lora_rank=run.case.lora_rank if run.case.method in ADAPTERS else None,
                lora_targets=name_targets(run.case.lora_targets) if run.case.method in ADAPTERS else None,
                status=run.status,
                holdout=run.holdout,
                extrapolated=run.extrapolated,
                repeat=run.repeat,
                date=str(run.date),
                **{name: str(value) if value else None for name, value in versions.items()},
                peak_allocated_bytes=run.peak_allocated_bytes,
                peak_reserved_bytes=run.peak_reserved_bytes,
                min_cap_bytes=cap,
                needed_bytes=cap + int(run.context_bytes or CONTEXT_BYTES) if cap else None,
                step_seconds=run.step_seconds,
                gpu_seconds=run.gpu_seconds,
                processor_pace=run.processor_pace,
                tokens_per_second=run.tokens_per_second,
                mfu=run.mfu,
                estimated_allocated_bytes=round(allocated["estimated"]) if allocated else None,
                estimated_tokens_per_second=round(speed["estimated"], 3) if speed else None,
                error_allocated=round(allocated["error"], 5) if allocated else None,
                error_speed=round(speed["error"], 5) if speed else None,
            )
        )
    return rows


def name_class(run: Run) -> str | None:
    """The class that was measured in place of code from the model's repository, if so."""
    words = re.findall(r"\w+", run.stands_for or "") if run.on_stand_in else []
    return next((name for name in NAMES.values() if name in words), None)


def name_run(run: Run, model: str) -> str:
    """The model's name; where something else was measured in its place, with that."""
    kind = name_class(run)
    return f"{model} ≈ {kind}" if kind else model


def cells_document(dataset: Dataset) -> dict[str, Any]:
    """The document of ``/api/v1/cells.json``."""
    cells = [cell.model_dump() for cell in measured_cells(dataset)]
    return {"version": VERSION, "data_date": dataset.data_date, "cells": cells}
