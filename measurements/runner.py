"""Works through a plan: groups cells that share a base model, skips what is done, writes each result as it comes."""

from __future__ import annotations

import gc
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

import torch

from . import measure, recipes, workload
from .cells import Cell, cell_of_result, read_config
from .environment import describe_environment
from .result import InvalidResult, digest, read, slug, write
from .sharing import CONTEXT_BYTES, Claims, Deaths, Tickets, Turns
from .size import guess_bytes

RESULTS = Path(__file__).parent / "results"
OVERSIZE = 2.0  # guesses are up to 1.9 times what is measured
PATIENCE_SECONDS = 15.0  # a group that does not fit beside others is passed over so long
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
    fsdp_methods = ("full", "lora")
    dtype = recipes.choose_compute_dtype(device)
    said: set[str] = set()
    possible = []
    for cell in cells:
        model_type = _shape(cell.model).model_type
        obstacle = recipes.find_obstacle(cell, model_type, dtype)
        if cell.gpu_count > 1 and obstacle is None and cell.method not in fsdp_methods:
            obstacle = f"on several GPUs only {' and '.join(fsdp_methods)} are measured; the rest is skipped"
        if obstacle is None:
            possible.append(cell)
        elif obstacle not in said:
            said.add(obstacle)
            print(f"skipped: {obstacle}", file=sys.stderr)
    return possible


def drop_oversized(cells: list[Cell], device: torch.device) -> list[Cell]:
    """The cells that may fit on the card, generously: near its edge, running out of memory is a finding, too."""
    if device.type != "cuda":
        return cells
    total = torch.cuda.get_device_properties(device).total_memory
    found = [cell for cell in cells if guess_need(cell) <= OVERSIZE * total]
    if len(found) < len(cells):
        print(f"{len(cells) - len(found)} cells are far too large for this card and left out", file=sys.stderr)
    return found


def find_open(cells: list[Cell], results: Path, device: torch.device) -> list[Cell]:
    """The cells that this machine can measure and that have no result yet."""
    gpu_id = describe_environment(device)["gpu_id"]
    found = drop_impossible(select_open(cells, find_done(results, gpu_id)), device)
    print(f"{len(found)} of {len(cells)} cells to measure on {gpu_id}", file=sys.stderr)
    return found


def run(
    cells: list[Cell],
    results: Path,
    device: torch.device,
    limit_seconds: float | None = None,
    shared: Path | None = None,
    processes: int = 1,
    slot: int = 0,
) -> int:
    """Measure what is open. Returns an exit status: 0, or REPLACE_PROCESS when a fresh process must go on.

    ``shared``: the folder through which the workers of this campaign agree; ``processes`` of them use the same GPU and
    this one is number ``slot`` of all. A cell that runs out of its share of the memory gets a larger one.
    """
    gpu_id = describe_environment(device)["gpu_id"]
    waiting = find_open(cells, results, device)
    gpu_folder = None if shared is None or processes == 1 else shared / f"gpu{device.index or 0}"
    if gpu_folder is not None:
        gpu_folder.mkdir(exist_ok=True)
    deaths = Deaths(shared, slot)
    session = measure.Session(device, Turns(gpu_folder, deaths.mark(slot)), processes)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns at every step of an 8-bit layer
    gc.collect()
    gc.freeze()  # what is alive now stays: no later pass over the heap has to look at it
    return _Queue(session, waiting, results, gpu_id, _Clock(limit_seconds, shared is not None), shared, deaths).work()


class _Clock:
    """Whether to go on: until the limit, and while whoever started this worker is alive."""

    def __init__(self, limit_seconds: float | None, overseen: bool) -> None:
        self.begin, self.limit = time.monotonic(), limit_seconds
        self.parent = os.getppid() if overseen else None
        self.said = False

    def is_over(self) -> bool:
        if self.parent is not None and os.getppid() != self.parent:
            return True
        if self.limit is None or time.monotonic() - self.begin <= self.limit:
            return False
        if not self.said:
            print("time is over; the same command goes on where this one stops", file=sys.stderr)
        self.said = True
        return True


class _Queue:
    """The groups of cells that are open, from which every worker takes the first that is free and fits beside others.

    A group that does not fit is passed over, but no longer than PATIENCE_SECONDS: then this worker books its memory and
    waits, and the others get only what leaves room for it.
    """

    def __init__(
        self,
        session: measure.Session,
        waiting: list[Cell],
        results: Path,
        gpu_id: str,
        clock: _Clock,
        shared: Path | None,
        deaths: Deaths,
    ) -> None:
        self.session, self.results, self.gpu_id, self.clock = session, results, gpu_id, clock
        self.shared, self.deaths, self.claims = shared, deaths, Claims(shared)
        self.claims.announce(len(waiting))
        folder = session.gauge.turns.folder
        self.total = None
        if folder is not None and session.total is not None:
            self.total = session.total - session.processes * CONTEXT_BYTES
        self.tickets = Tickets(self.total, folder)
        self.passed_over: dict[str, float] = {}  # since when
        self.groups = {
            digest([group[0].model, group[0].recipe, group[0].weights, self._is_heavy(group[0])])[:16]: group
            for group in group_cells(waiting, self._is_heavy)
        }

    def _is_heavy(self, cell: Cell) -> bool:
        return self.total is not None and guess_need(cell) > self.total / 3

    def work(self) -> int:
        """Until nothing is open or time is over. Returns an exit status."""
        while self.groups and not self.clock.is_over():
            progress = False
            for name in list(self.groups):
                if self.clock.is_over():
                    return 0
                with self.claims.claim(name) as mine:
                    if not mine:
                        continue
                    group = self._still_open(self.groups[name])
                    if group:
                        try:
                            left = self._measure(name, group)
                        except measure.NotClean as error:
                            print(f"replacing the process: {error}", file=sys.stderr)
                            return REPLACE_PROCESS
                        if left is None:
                            continue
                        progress = True
                    if not self.clock.is_over():
                        del self.groups[name]
                if progress:
                    break  # whatever was passed over before may fit now
            if not progress:
                time.sleep(0.1)
        return 0

    def _still_open(self, group: list[Cell]) -> list[Cell]:
        if self.shared is None:
            return group
        condemned = self.deaths.condemned()
        found = []
        for cell in select_open(group, find_done(self.results, self.gpu_id, group[0].model)):
            if cell.key in condemned:
                self._fail([cell], condemned[cell.key])
            else:
                found.append(cell)
        return found

    def _measure(self, name: str, group: list[Cell]) -> bool | None:
        """True when the group was worked through, as far as time allowed; None when it does not fit now."""
        share = max(self._need(cell) for cell in group) if self.total is not None else 0

        def patience() -> bool:
            since = self.passed_over.setdefault(name, time.monotonic())
            return time.monotonic() - since > PATIENCE_SECONDS and not self.clock.is_over()

        while group and not self.clock.is_over():
            begun = time.perf_counter()
            with self.tickets.take(share, patience) as ticket:
                if ticket is None and self.total is not None:
                    return None
                self.passed_over.pop(name, None)
                self.session.before["memory"] += time.perf_counter() - begun
                group = self._measure_in(ticket, group)
            share = max((self._need(cell) for cell in group), default=0)
        return True

    def _need(self, cell: Cell) -> int:
        """Bytes to reserve for a cell: twice as much as where it ran out before."""
        return max(guess_need(cell), 2 * self.claims.too_little(cell.key))

    def _measure_in(self, ticket: int | None, group: list[Cell]) -> list[Cell]:
        """Measures a group in its share of the memory; returns the cells that want a larger one. Raises NotClean."""
        gauge, again = self.session.gauge, []
        gauge.cap = ticket if self.total is not None else None
        gauge.set_cap(None)
        left = {cell.key: cell for cell in group}
        self.deaths.begin(group[0].key)
        try:
            with closing(measure.measure_group(self.session, group)) as found:
                for cell, data in found:
                    left.pop(cell.key, None)
                    if data["status"] == "oom" and ticket and self.total and ticket < self.total:
                        self.claims.note_too_little(cell.key, ticket)
                        again.append(cell)
                    else:
                        write(data, self.results)
                        _tell(cell, data, self.claims)
                    if self.clock.is_over():
                        return []
                    if left:
                        self.deaths.begin(next(iter(left)))
        except measure.NotClean as error:
            if error.blamed and left:
                self._fail(list(left.values())[:1], str(error))
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0][:300]
            print(f"failed: {group[0]}: {reason}", file=sys.stderr)
            self._fail(list(left.values()), reason)
            traceback.clear_frames(error.__traceback__)  # they hold the model
            if not self._is_clean():
                raise measure.NotClean(f"memory stays allocated after {group[0]}", blamed=False) from error
        finally:
            self.deaths.end()
        return again

    def _is_clean(self) -> bool:
        try:
            return (self.session.gauge.release() or 0) <= measure.LIBRARY_TABLES_BYTES
        except Exception:  # after a CUDA error every call fails
            return False

    def _fail(self, cells: list[Cell], reason: str) -> None:
        """Write down that cells failed, so that the next process goes on behind them."""
        for cell in cells:
            config = workload.read_model_config(read_config(cell.model)["config"])
            outcome = measure.Outcome("failed", reason)
            data = measure.make_result(self.session, cell, outcome, config, None, None, None)
            write(data, self.results)
            _tell(cell, data, self.claims)


@cache
def _shape(model: str) -> Any:
    return workload.read_model_config(read_config(model)["config"])


def guess_need(cell: Cell) -> int:
    """Bytes to reserve for a cell."""
    return guess_bytes(cell, _shape(cell.model))


def _tell(cell: Cell, data: dict[str, Any], claims: Claims) -> None:
    """One line of progress: how far, how long still, what came out and where the time went."""
    done, spent = claims.count()
    rest = max(0, claims.cells - done) * spent / done
    peak = data["memory"]["peak_allocated_bytes"]
    size = f"{peak / 2**30:6.2f} GiB" if peak else data["reason"] or "-"
    stages = " ".join(f"{stage} {took:.1f}" for stage, took in data["environment"]["spent_seconds"].items() if took)
    print(
        f"[{done}/{claims.cells}] {spent:5.0f} s, {rest:4.0f} s to go: {cell}: {data['status']} {size} ({stages})",
        flush=True,
    )
