"""Works through a plan: groups cells that share a base model, skips what is done, writes each result as it comes."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from . import measure, recipes, workload
from .cells import Cell, PlanError, cell_of_result, read_config
from .environment import describe_environment
from .result import InvalidResult, read, write

RESULTS = Path(__file__).parent / "results"
REPLACE_PROCESS = 75  # exit status: start me again, I am not clean


def find_done(results: Path, gpu_id: str) -> dict[str, dict[str, Any]]:
    """Results of this kind of GPU by cell key; a broken file counts as not done."""
    done = {}
    for path in (results / gpu_id).glob("*.json"):
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


def group_cells(cells: list[Cell]) -> list[list[Cell]]:
    """Cells by (model, recipe, weights), groups in the order of their first cell."""
    groups: dict[tuple[str, str, str], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.model, cell.recipe, cell.weights), []).append(cell)
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


def run(cells: list[Cell], results: Path, device: torch.device, limit_seconds: float | None = None) -> int:
    """Measure what is open. Returns an exit status: 0, or REPLACE_PROCESS when a fresh process must go on."""
    begin = time.monotonic()
    gpu_id = describe_environment(device)["gpu_id"]
    waiting = drop_impossible(select_open(cells, find_done(results, gpu_id)), device)
    print(f"{len(waiting)} of {len(cells)} cells to measure on {gpu_id}", file=sys.stderr)
    session = measure.Session(device)
    written = 0
    for group in group_cells(waiting):
        left = {cell.key: cell for cell in group}
        spent = time.monotonic() - begin
        if limit_seconds is not None and spent > limit_seconds:
            print(f"stopped at the limit of {limit_seconds:.0f} s; the same command goes on", file=sys.stderr)
            return 0
        try:
            for cell, data in measure.measure_group(session, group):
                path = write(data, results)
                left.pop(cell.key, None)
                written += 1
                spent = time.monotonic() - begin
                rest = (len(waiting) - written) * spent / written
                peak = data["memory"]["peak_allocated_bytes"]
                size = f"{peak / 2**30:6.2f} GiB" if peak else data["reason"] or "-"
                print(
                    f"[{written}/{len(waiting)}] {spent:5.0f} s, {rest:4.0f} s to go: {cell}: {data['status']} {size}"
                )
                sys.stdout.flush()
                del path
                if limit_seconds is not None and spent > limit_seconds:
                    print("stopped at the limit; the same command goes on", file=sys.stderr)
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
    return 0


def _give_up_on_first(
    session: measure.Session, cells: list[Cell], reason: str, results: Path, every: bool = False
) -> None:
    """Write down that the cell at hand failed, so that the next process goes on behind it."""
    for cell in cells if every else cells[:1]:
        config = workload.read_model_config(read_config(cell.model)["config"])
        outcome = measure.Outcome("failed", reason)
        write(measure.make_result(session, replace(cell), outcome, config, None, None, None), results)
