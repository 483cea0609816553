"""Lets several processes of one campaign share a GPU without spoiling each other's figures. Standard library only.

Most of the time of a cell is the processor's (describing the model, attaching adapters, launching kernels), so one
process leaves a GPU mostly idle. The allocator's figures are those of one process and need no care. Time needs it:
steps are timed while no other process touches the GPU (``Turns``). Memory is handed out first come, first served
(``Tickets``), so no process runs out because of another. All of it is files under ``flock``, which the kernel releases
when a process dies; a kill leaves nothing to repair.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

CONTEXT_BYTES = 1 << 30  # left for the CUDA context and the kernels of each process (0.7 to 0.8 GiB seen on an H100)
POLL_SECONDS = 0.02


@contextmanager
def _held(path: Path, kind: int) -> Iterator[bool]:
    """A file lock for the duration; False when ``kind`` asks not to wait and another process holds it."""
    with path.open("a") as file:
        try:
            fcntl.flock(file, kind)
        except BlockingIOError:
            yield False
            return
        yield True


class Turns:
    """Who may use a GPU now: many ``together``, or one ``alone``. Without a folder nobody else is there.

    Whoever waits holds the gate, so that one who wants to be alone is not passed by those who come later.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self.waited = 0.0  # seconds spent waiting for others, ever

    @contextmanager
    def _turn(self, kind: int) -> Iterator[None]:
        if self.folder is None:
            yield
            return
        begin = time.perf_counter()
        with (self.folder / "room").open("a") as room:
            with _held(self.folder / "gate", fcntl.LOCK_EX):
                fcntl.flock(room, kind)
            self.waited += time.perf_counter() - begin
            yield

    def together(self) -> AbstractContextManager[None]:
        """Use the GPU beside others; finish what was launched before leaving."""
        return self._turn(fcntl.LOCK_SH)

    def alone(self) -> AbstractContextManager[None]:
        """Use the GPU while nobody else does."""
        return self._turn(fcntl.LOCK_EX)


class Tickets:
    """Hands out ``total`` bytes of a GPU to the processes that share it, first come, first served."""

    def __init__(self, total: int | None, folder: Path | None = None) -> None:
        self.total, self.folder = total, folder

    @contextmanager
    def take(self, size: int | None) -> Iterator[int | None]:
        """Waits until ``size`` bytes (None: all) are free, and yields how many they are; None when nobody counts.

        Take one at a time: whoever waits while holding another could wait for ever.
        """
        if self.folder is None or self.total is None:
            yield self.total
            return
        size = self.total if size is None else min(size, self.total)
        mine = self.folder / f"{os.getpid()}.ticket"
        with _held(self.folder / "window", fcntl.LOCK_EX):
            while self._taken() + size > self.total:
                time.sleep(POLL_SECONDS)
            mine.write_text(str(size))
        try:
            yield size
        finally:
            mine.unlink(missing_ok=True)

    def _taken(self) -> int:
        assert self.folder is not None
        taken = 0
        for path in self.folder.glob("*.ticket"):
            try:
                os.kill(int(path.stem), 0)
            except ProcessLookupError:  # its owner was killed
                path.unlink(missing_ok=True)
                continue
            with suppress(FileNotFoundError, ValueError):
                taken += int(path.read_text())
        return taken


class Claims:
    """Which group of cells a process works on, so that no other takes it, and how much all of them have done."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self.own = 0

    @contextmanager
    def claim(self, name: str) -> Iterator[bool]:
        """Whether the group is this process's for the duration."""
        if self.folder is None:
            yield True
            return
        with _held(self.folder / f"{name}.claim", fcntl.LOCK_EX | fcntl.LOCK_NB) as mine:
            yield mine

    def count(self) -> int:
        """One more is done; returns how many all processes have done."""
        self.own += 1
        if self.folder is None:
            return self.own
        with (self.folder / "done").open("ab", buffering=0) as file:
            file.write(b".")
            return os.fstat(file.fileno()).st_size
