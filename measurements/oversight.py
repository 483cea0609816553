"""Starts the workers of a campaign and watches them. Standard library only.

A worker that asks for it, or dies, is replaced; one that is too long at a cell is stopped, and the cell is left out.
Workers die with whoever watches them, so a killed campaign leaves nobody behind on the GPU.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from .sharing import Deaths

REPLACE_PROCESS = 75  # exit status of a worker that wants to be started anew
OUTGROWN = 76  # exit status of a worker that is done, but for cells that need more than it may take beside others
MOST_REPLACED = 200
MOST_BARREN = 3  # workers that may die in one slot without being at a cell
GRACE_SECONDS = 15.0  # to finish the cell at hand after the limit
POLL_SECONDS = 0.1
BAR_WIDTH = 30


def die_with_parent() -> None:
    """Ask Linux to kill this process when its parent dies; elsewhere a worker notices between cells."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def share_processors(gpus: int) -> list[set[int]]:
    """A part of this machine's processors for the workers of each GPU, so that none slows down those of another.

    Empty sets, which mean all of them, for one GPU, where there are too few, and where the system cannot say.
    """
    have = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if gpus < 2 or len(have) < 2 * gpus:
        return [set() for _ in range(gpus)]
    return [set(have[number * len(have) // gpus : (number + 1) * len(have) // gpus]) for number in range(gpus)]


def show_one_gpu(number: int, gpus: int) -> dict[str, str]:
    """The environment in which a worker sees GPU ``number`` of those visible here, and no other.

    Libraries put what has no device of its own on the first GPU they see. Nothing to say where only one is used.
    """
    if gpus < 2:
        return {}
    visible = [part.strip() for part in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if part.strip()]
    return {"CUDA_VISIBLE_DEVICES": visible[number] if visible else str(number)}


def describe_progress(done: int, cells: int, seconds: float) -> str:
    """One line: a bar, how many cells, how fast, and how long still at that pace."""
    share = done / cells if cells else 1.0
    bar = "█" * round(share * BAR_WIDTH) + "░" * (BAR_WIDTH - round(share * BAR_WIDTH))
    if not done or not seconds:
        return f"{bar} {done}/{cells}"
    left = (cells - done) * seconds / done
    to_go = f"{left / 3600:.1f} h" if left >= 5400 else f"{left / 60:.0f} min" if left >= 90 else f"{left:.0f} s"
    return f"{bar} {done}/{cells}, {done * 60 / seconds:.1f} cells/min, {to_go} to go"


def _draw(folder: Path) -> None:
    """The progress of all workers, in place, where somebody watches."""
    with suppress(FileNotFoundError, ValueError):
        cells, begun = (folder / "campaign").read_text().split()
        done = len((folder / "done").read_text().split()) if (folder / "done").exists() else 0
        print(f"\r\x1b[K{describe_progress(done, int(cells), time.time() - float(begun))}", end="", file=sys.stderr)
        sys.stderr.flush()


def oversee(
    arguments: list[str],
    slots: list[int],
    limit_seconds: float | None,
    cell_seconds: float,
    program: tuple[str, ...] = (sys.executable, "-m", "measurements"),
) -> int:
    """Run one worker per slot (its value: which GPU) to the end. Returns the first exit status that is not 0.

    ``arguments``: the command line, to which each worker's own is added.
    """
    begin = time.monotonic()
    environment = dict(os.environ)
    environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // len(slots))))
    shares = share_processors(len(set(slots)))
    with tempfile.TemporaryDirectory() as folder:
        deaths = Deaths(Path(folder))
        running: dict[int, subprocess.Popen[bytes]] = {}
        excused: dict[int, float] = {}  # until when a worker was seen waiting for others
        stopped: set[int] = set()
        barren = [0] * len(slots)
        worst, replaced = 0, 0
        watched, drawn = sys.stderr.isatty(), 0.0

        def start(slot: int) -> None:
            command = [*program, *arguments, "--worker", folder]
            command += ["--device", str(slots[slot]), "--slot", str(slot)]
            if limit_seconds is not None:
                command += ["--limit-s", str(limit_seconds), "--begun", str(time.time() - (time.monotonic() - begin))]
            own = shares[sorted(set(slots)).index(slots[slot])]

            def settle() -> None:
                die_with_parent()
                if own:
                    os.sched_setaffinity(0, own)

            running[slot] = subprocess.Popen(
                command, env=environment | show_one_gpu(slots[slot], len(set(slots))), preexec_fn=settle
            )

        def watch(slot: int, process: subprocess.Popen[bytes]) -> None:
            """Stop a worker that is too long at its cell, or still there long after the limit."""
            if slot in stopped:
                return
            mark = deaths.mark(slot)
            if mark is not None and mark.exists():
                excused[slot] = time.monotonic()
            at_it = min(deaths.seconds_at_it(slot), time.monotonic() - excused.get(slot, 0.0))
            late = limit_seconds is not None and time.monotonic() - begin > limit_seconds + GRACE_SECONDS
            if at_it > cell_seconds or late:
                print(f"stopping worker {slot}: {'the limit is over' if late else 'no end'}", file=sys.stderr)
                stopped.add(slot)
                process.kill()

        def bury(slot: int, status: int) -> bool:
            """A worker died; whether to start another."""
            at_cell = deaths.seconds_at_it(slot) > 0
            barren[slot] = 0 if at_cell else barren[slot] + 1
            was_stopped = slot in stopped
            stopped.discard(slot)
            reason = f"no end after {cell_seconds:.0f} s" if was_stopped else f"the process died (status {status})"
            deaths.bury(slot, reason, was_stopped)
            return barren[slot] < MOST_BARREN

        try:
            for slot in range(len(slots)):
                start(slot)
            while running:
                for slot, process in list(running.items()):
                    status = process.poll()
                    if status is None:
                        watch(slot, process)
                        continue
                    del running[slot]
                    for other in running.values():  # it may have died while it had stopped them
                        other.send_signal(signal.SIGCONT)
                    over = limit_seconds is not None and time.monotonic() - begin > limit_seconds
                    if status in (0, 2, OUTGROWN):  # done; or it cannot be done at all, or not by this worker
                        worst = worst or status
                        continue
                    again = status == REPLACE_PROCESS or bury(slot, status)
                    if again and not over and replaced < MOST_REPLACED:
                        replaced += 1
                        start(slot)
                    elif not over:
                        worst = worst or 1
                if watched and time.monotonic() - drawn > 1:
                    drawn = time.monotonic()
                    _draw(Path(folder))
                time.sleep(POLL_SECONDS)
            if watched:
                print(file=sys.stderr)
        finally:
            for process in running.values():
                process.kill()
    return worst
