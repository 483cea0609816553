"""The cells one worker still has to measure: takes what is free and fits beside others, writes each result."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from . import measure, record, workload
from .cells import Cell, cell_of_result, read_config
from .oversight import OUTGROWN, REPLACE_PROCESS
from .result import InvalidResult, digest, read, slug, write
from .sharing import CONTEXT_BYTES, Claims, Deaths, Tickets
from .workload import guess_need

PATIENCE_SECONDS = 15.0  # a group that does not fit beside others is passed over so long


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


class Clock:
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


class Worklist:
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
        clock: Clock,
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
        self.outgrown = False  # whether a cell needs more than all processes may take together
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
        return OUTGROWN if self.outgrown else 0

    def _still_open(self, group: list[Cell]) -> list[Cell]:
        if self.shared is None:
            return group
        condemned, finished = self.deaths.condemned(), self.claims.finished()
        found = []
        for cell in select_open(group, find_done(self.results, self.gpu_id, group[0].model)):
            if cell.key in finished:
                continue  # also where it stays open for a later campaign, as a cap that was sought in vain
            if cell.key in condemned:
                self._fail([cell], condemned[cell.key])
            elif self.total is not None and self.claims.too_little(cell.key) >= self.total:
                self.outgrown = True
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
                    if self._is_cramped(data, ticket):
                        self.claims.note_too_little(cell.key, ticket or 0)
                        if ticket == self.total:
                            self.outgrown = True
                        else:
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
            elif len(left) == len(group):  # without a result the next process would come here again, for ever
                self.deaths.note(group[0].key, str(error))
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

    def _is_cramped(self, data: dict[str, Any], ticket: int | None) -> bool:
        """Whether a cell ran out of its share of the card, rather than of the card."""
        computed = str(data["reason"]).startswith("needs ")  # extended from cut depths
        return self.total is not None and ticket is not None and data["status"] == "oom" and not computed

    def _is_clean(self) -> bool:
        try:
            return (self.session.gauge.release() or 0) <= measure.LIBRARY_TABLES_BYTES
        except Exception:  # after a CUDA error every call fails
            return False

    def _fail(self, cells: list[Cell], reason: str) -> None:
        """Write down that cells failed, so that the next process goes on behind them."""
        for cell in cells:
            config = workload.read_model_config(read_config(cell.model)["config"])
            outcome = record.Outcome("failed", reason)
            data = record.make_result(self.session, cell, outcome, config, None, None, None)
            write(data, self.results)
            _tell(cell, data, self.claims)


def _tell(cell: Cell, data: dict[str, Any], claims: Claims) -> None:
    """One line of progress: how far, how long still, what came out and where the time went."""
    done, spent = claims.count(cell.key)
    rest = max(0, claims.cells - done) * spent / done
    peak = data["memory"]["peak_allocated_bytes"]
    size = f"{peak / 2**30:6.2f} GiB" if peak else data["reason"] or "-"
    stages = " ".join(f"{stage} {took:.1f}" for stage, took in data["environment"]["spent_seconds"].items() if took)
    clear = "\r\x1b[K" if sys.stdout.isatty() else ""  # the parent draws a bar there
    progress = f"[{done}/{claims.cells}] {spent:5.0f} s, {rest:4.0f} s to go"
    print(f"{clear}{progress}: {cell}: {data['status']} {size} ({stages})", flush=True)
