"""Works through a plan: groups cells that share a base model, skips what is done, writes each result as it comes."""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from . import measure, recipes, workload
from .cells import Cell, PlanError, cell_of_result, read_config
from .environment import describe_environment
from .result import InvalidResult, digest, read, slug, write
from .sharing import CONTEXT_BYTES, Claims, Tickets, Turns
from .size import guess_bytes

RESULTS = Path(__file__).parent / "results"
REPLACE_PROCESS = 75  # exit status: start me again, I am not clean


def find_done(results: Path, gpu_id: str, model: str | None = None) -> dict[str, dict[str, Any]]:
    """Results of this kind of GPU (of one model) by cell key; a broken file counts as not done."""
    done = {}
    for path in (results / gpu_id).glob(f"{slug(model)}--*.json" if model else "*.json"):
        try:
            data = read(path)
        except InvalidResult as error:
            print(f"{path}: {error}", file=sys.stderr)
            continue
        done[cell_of_result(data).key] = data
    return done


def select_open(cells: list[Cell], done: dict[str, dict[str, Any]]) -> list[Cell]:
    """The cells without a result; one whose result lacks a wanted min_cap is open again."""

    def is_open(cell: Cell) -> bool:
        data = done.get(cell.key)
        if data is None:
            return True
        return cell.min_cap and data["status"] == "ok" and data["memory"]["min_cap_bytes"] is None

    return [cell for cell in cells if is_open(cell)]


def group_cells(cells: list[Cell], heavy: Callable[[Cell], bool] = lambda cell: False) -> list[list[Cell]]:
    """Cells by (model, recipe, weights), groups in the order of their first cell; ``heavy`` ones apart."""
    groups: dict[tuple[str, str, str, bool], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.model, cell.recipe, cell.weights, heavy(cell)), []).append(cell)
    return list(groups.values())


def drop_impossible(cells: list[Cell], device: torch.device) -> list[Cell]:
    """The cells this machine can measure; each obstacle is said once."""
    dtype = recipes.choose_compute_dtype(device)
    said: set[str] = set()
    possible = []
    for cell in cells:
        model_type = workload.read_model_config(read_config(cell.model)["config"]).model_type
        obstacle = recipes.find_obstacle(cell, model_type, dtype)
        if cell.gpu_count > 1:
            obstacle = "cells of several GPUs cannot be measured yet; they are skipped"
        if obstacle is None:
            possible.append(cell)
        elif obstacle not in said:
            said.add(obstacle)
            print(f"skipped: {obstacle}", file=sys.stderr)
    return possible


def run(
    cells: list[Cell],
    results: Path,
    device: torch.device,
    limit_seconds: float | None = None,
    shared: Path | None = None,
    processes: int = 1,
) -> int:
    """Measure what is open. Returns an exit status: 0, or REPLACE_PROCESS when a fresh process must go on.

    ``shared``: the folder through which the ``processes`` of this campaign that use the same GPU agree. A cell that
    runs out of its share of the memory is measured again with all of it.
    """
    begin = time.monotonic()
    gpu_id = describe_environment(device)["gpu_id"]
    waiting = drop_impossible(select_open(cells, find_done(results, gpu_id)), device)
    print(f"{len(waiting)} of {len(cells)} cells to measure on {gpu_id}", file=sys.stderr)
    gpu_folder = None if shared is None or processes == 1 else shared / f"gpu{device.index or 0}"
    if gpu_folder is not None:
        gpu_folder.mkdir(exist_ok=True)
    session = measure.Session(device, Turns(gpu_folder), processes)
    total = None if session.total is None else session.total - processes * CONTEXT_BYTES
    tickets, claims = Tickets(total, gpu_folder), Claims(shared)
    needs = _Needs()
    gc.collect()
    gc.freeze()  # what is alive now stays: no later pass over the heap has to look at it

    parent = os.getppid()

    def out_of_time() -> bool:
        if shared is not None and os.getppid() != parent:
            return True  # whoever started the workers was killed
        if limit_seconds is None or time.monotonic() - begin <= limit_seconds:
            return False
        print(f"stopped at the limit of {limit_seconds:.0f} s; the same command goes on", file=sys.stderr)
        return True

    def heavy(cell: Cell) -> bool:
        return gpu_folder is not None and total is not None and needs.guess(cell) > total / 3

    for group in group_cells(waiting, heavy):
        if out_of_time():
            return 0
        name = digest([group[0].model, group[0].recipe, group[0].weights, heavy(group[0])])[:16]
        with claims.claim(name) as mine:
            if not mine:
                continue
            if shared is not None:
                group = select_open(group, find_done(results, gpu_id, group[0].model))
            share: int | None = max((needs.guess(cell) for cell in group), default=0) if gpu_folder else None
            while group:
                again: list[Cell] = []
                left = {cell.key: cell for cell in group}
                try:
                    with tickets.take(share) as ticket:
                        session.gauge.cap = ticket if gpu_folder else None
                        session.gauge.set_cap(None)
                        for cell, data in measure.measure_group(session, group):
                            left.pop(cell.key, None)
                            if data["status"] == "oom" and ticket is not None and total and ticket < total:
                                again.append(cell)
                            else:
                                write(data, results)
                                _tell(cell, data, claims.count(), len(waiting), time.monotonic() - begin)
                            if out_of_time():
                                return 0
                except measure.NotClean as error:
                    print(f"replacing the process: {error}", file=sys.stderr)
                    _give_up_on_first(session, list(left.values()), str(error), results)
                    return REPLACE_PROCESS
                except (PlanError, RuntimeError, ValueError, TypeError, AttributeError, KeyError) as error:
                    reason = f"{type(error).__name__}: {error}".splitlines()[0][:300]
                    print(f"failed: {group[0]}: {reason}", file=sys.stderr)
                    _give_up_on_first(session, list(left.values()), reason, results, every=True)
                    if session.gauge.release():
                        return REPLACE_PROCESS
                group, share = again, None
    return 0


class _Needs:
    """Guesses of what cells need; a model is described once."""

    def __init__(self) -> None:
        self.models: dict[str, tuple[Any, int]] = {}

    def guess(self, cell: Cell) -> int:
        if cell.model not in self.models:
            config = workload.read_model_config(read_config(cell.model)["config"])
            self.models[cell.model] = config, workload.count_parameters(config)["total"]
        return guess_bytes(cell, *self.models[cell.model])


def _tell(cell: Cell, data: dict[str, Any], done: int, every: int, spent: float) -> None:
    """One line of progress: how far, how long still, what came out and where the time went."""
    rest = max(0, every - done) * spent / done
    peak = data["memory"]["peak_allocated_bytes"]
    size = f"{peak / 2**30:6.2f} GiB" if peak else data["reason"] or "-"
    stages = " ".join(f"{stage} {took:.1f}" for stage, took in data["environment"]["spent_seconds"].items() if took)
    print(
        f"[{done}/{every}] {spent:5.0f} s, {rest:4.0f} s to go: {cell}: {data['status']} {size} ({stages})", flush=True
    )


def _give_up_on_first(
    session: measure.Session, cells: list[Cell], reason: str, results: Path, every: bool = False
) -> None:
    """Write down that the cell at hand failed, so that the next process goes on behind it."""
    for cell in cells if every else cells[:1]:
        config = workload.read_model_config(read_config(cell.model)["config"])
        outcome = measure.Outcome("failed", reason)
        write(measure.make_result(session, replace(cell), outcome, config, None, None, None), results)
