"""Lets several processes of one campaign share a GPU without spoiling each other's figures. Standard library only.

Most of the time of a cell is the processor's (describing the model, attaching adapters, launching kernels), so one
process leaves a GPU mostly idle. The allocator's figures are those of one process and need no care. Time needs it:
steps are timed while no other process touches the GPU (``Turns``) or the processor (``Peers``). Memory is handed out by
size (``Tickets``), so no process runs out because of another. All of it is files under ``flock``, which the kernel
releases when a process dies; a kill leaves nothing to repair. What a process was at when it died is in its ``Deaths``.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import IO, Any

CONTEXT_BYTES = 1 << 30  # left for the CUDA context and the kernels of each process (0.7 to 0.8 GiB seen on an H100)
POLL_SECONDS = 0.02


def _lock_now(file: IO[Any]) -> bool:
    """Whether the lock of the file is ours, without waiting; it is released when the file is closed."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class Peers:
    """The processes that share a GPU. Small steps take as long as the processor needs to launch them, and twice as long
    where others compute beside it: so whoever times steps has the others stopped meanwhile.

    Each holds the lock of a file named after it; a file whose lock can be had is that of a dead process.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.own = _write_locked(folder / f"{os.getpid()}.peer", "")

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """All others stand still. Should this process be killed meanwhile, ``oversight`` wakes them."""
        others = []
        for path in self.folder.glob("*.peer"):
            if path.name != Path(self.own.name).name:
                with suppress(FileNotFoundError), path.open("r+") as file:
                    if _lock_now(file):
                        path.unlink(missing_ok=True)
                    else:
                        others.append(int(path.stem))
        try:
            _signal(others, signal.SIGSTOP)
            yield
        finally:
            _signal(others, signal.SIGCONT)


def _signal(processes: list[int], number: signal.Signals) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, number)


class Turns:
    """Who may use a GPU now: many ``together``, or one ``alone``. Without a folder nobody else is there.

    Whoever waits holds the gate, so that one who wants to be alone is not passed by those who come later.
    """

    def __init__(self, folder: Path | None = None, mark: Path | None = None) -> None:
        self.folder = folder
        self.peers = None if folder is None else Peers(folder)
        self.mark = mark  # a file that is there while this process waits, for who watches it
        self.waited = 0.0  # seconds spent waiting for others, ever

    @contextmanager
    def _turn(self, kind: int) -> Iterator[None]:
        if self.folder is None:
            yield
            return
        begin = time.perf_counter()
        with (self.folder / "room").open("a") as room:
            with (self.folder / "gate").open("a") as gate:
                if self.mark is not None:
                    self.mark.touch()
                fcntl.flock(gate, fcntl.LOCK_EX)
                fcntl.flock(room, kind)
                if self.mark is not None:
                    self.mark.unlink(missing_ok=True)
            self.waited += time.perf_counter() - begin
            yield

    def together(self) -> AbstractContextManager[None]:
        """Use the GPU beside others; finish what was launched before leaving."""
        return self._turn(fcntl.LOCK_SH)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Use the GPU while nobody else does, and while nobody who shares it computes."""
        with self._turn(fcntl.LOCK_EX), self.peers.stopped() if self.peers else nullcontext():
            yield


class Tickets:
    """Hands out ``total`` bytes of a GPU to the processes that share it.

    A ticket is a file that its owner keeps locked: one whose lock can be had belongs to nobody any more. One process at
    a time may book what does not fit yet: from then on others get only what leaves room for it.
    """

    def __init__(self, total: int | None, folder: Path | None = None) -> None:
        self.total, self.folder = total, folder

    @contextmanager
    def take(self, size: int, patience: Callable[[], bool] = lambda: True) -> Iterator[int | None]:
        """Yields how many bytes are this process's (at least ``size``, or all there are); None: it got none.

        ``patience`` is asked again and again while others hold too much: True books the memory and waits, False gives
        up; so does who finds another booking. Take one at a time: whoever waits while holding another could wait for
        ever.
        """
        if self.folder is None or self.total is None:
            yield self.total
            return
        size = min(size, self.total)
        ticket = self._queue(self.folder, size, patience)
        if ticket is None:
            yield None
            return
        try:
            yield size
        finally:
            _tear_up(ticket)

    def _queue(self, folder: Path, size: int, patience: Callable[[], bool]) -> IO[str] | None:
        """The ticket, locked, or None when patience ended."""
        assert self.total is not None
        booking: IO[str] | None = None
        try:
            while True:
                with (folder / "window").open("a") as window:
                    fcntl.flock(window, fcntl.LOCK_EX)
                    booked = 0 if booking else sum(number for number, _ in _living(folder, "*.booking"))
                    held = _living(folder, "*.ticket")
                    since = sum(number for number, late in held if late)
                    if sum(number for number, _ in held) + size <= self.total and since + booked + size <= self.total:
                        return _write_locked(folder / f"{os.getpid()}.ticket", f"{size} {int(booked > 0)}")
                    wait = patience()
                    if wait and booking is None and not booked:
                        booking = _write_locked(folder / f"{os.getpid()}.booking", f"{size} 0")
                if not wait or booking is None:
                    return None
                time.sleep(POLL_SECONDS)
        finally:
            if booking is not None:
                _tear_up(booking)


def _write_locked(path: Path, text: str) -> IO[str]:
    """A new file, locked for as long as it is open. Nobody looks for it meanwhile: the window is held."""
    file = path.open("w+")
    fcntl.flock(file, fcntl.LOCK_EX)
    file.write(text)
    file.flush()
    return file


def _tear_up(file: IO[str]) -> None:
    Path(file.name).unlink(missing_ok=True)
    file.close()


def _living(folder: Path, pattern: str) -> list[tuple[int, bool]]:
    """(bytes, whether handed out while a booking stood) of each file that a living process keeps locked."""
    found = []
    for path in folder.glob(pattern):
        with suppress(FileNotFoundError, ValueError), path.open("r+") as file:
            if _lock_now(file):
                path.unlink(missing_ok=True)  # its owner was killed
            else:
                number, late = file.read().split()
                found.append((int(number), late == "1"))
    return found


class Claims:
    """Which group of cells a process works on, so that no other takes it, and how far all of them are."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self.own: list[str] = []
        self.cells, self.begun = 0, time.time()

    def announce(self, cells: int) -> None:
        """So many cells are to be done. What the first process of the campaign says holds for all."""
        self.cells = cells
        if self.folder is None:
            return
        path = self.folder / "campaign"
        part = self.folder / f"campaign.{os.getpid()}"
        part.write_text(f"{cells} {self.begun}")
        with suppress(FileExistsError):
            os.link(part, path)
        part.unlink()
        number, begun = path.read_text().split()
        self.cells, self.begun = int(number), float(begun)

    @contextmanager
    def claim(self, name: str) -> Iterator[bool]:
        """Whether the group is this process's for the duration."""
        if self.folder is None:
            yield True
            return
        with (self.folder / f"{name}.claim").open("a") as file:
            yield _lock_now(file)

    def note_too_little(self, key: str, share: int) -> None:
        """A cell ran out of so many bytes; whoever comes to it next, in this process or a later one, takes more."""
        if self.folder is not None:
            (self.folder / f"{key[:16]}.share").write_text(str(share))

    def too_little(self, key: str) -> int:
        """The share in which a cell ran out of memory, or 0."""
        path = None if self.folder is None else self.folder / f"{key[:16]}.share"
        return int(path.read_text()) if path is not None and path.exists() else 0

    def count(self, key: str) -> tuple[int, float]:
        """This cell is done; returns how many all processes have done, and the seconds since the first began."""
        self.own.append(key)
        spent = time.time() - self.begun
        if self.folder is None:
            return len(self.own), spent
        line = f"{key}\n".encode()
        with (self.folder / "done").open("ab", buffering=0) as file:
            file.write(line)
            return os.fstat(file.fileno()).st_size // len(line), spent

    def finished(self) -> set[str]:
        """Keys of the cells that this campaign has done."""
        path = None if self.folder is None else self.folder / "done"
        return set(path.read_text().split()) if path is not None and path.exists() else set(self.own)


class Deaths:
    """What each worker is at, so that a cell that kills its process, or never ends, is found and left out.

    A worker notes the cell it begins; who watches it writes down the note of one that died. A cell that two processes
    died of, or that had to be stopped, is condemned: whoever comes to it records a failure instead of measuring it.
    """

    TRIES = 2

    def __init__(self, folder: Path | None, slot: int = 0) -> None:
        self.folder, self.slot = folder, slot

    def _note(self, slot: int) -> Path:
        assert self.folder is not None
        return self.folder / f"{slot}.note"

    def mark(self, slot: int) -> Path | None:
        """The file that is there while the worker waits for its turn on the GPU."""
        return None if self.folder is None else self.folder / f"{slot}.waiting"

    def begin(self, key: str) -> None:
        """This worker begins the cell with this key; the next call says that it ended."""
        if self.folder is not None:
            note = self._note(self.slot)
            part = note.with_suffix(".part")
            part.write_text(json.dumps({"key": key, "since": time.time()}))
            part.replace(note)

    def end(self) -> None:
        """This worker is between cells."""
        if self.folder is not None:
            self._note(self.slot).unlink(missing_ok=True)

    def seconds_at_it(self, slot: int) -> float:
        """How long a worker has been at its cell; 0 between cells."""
        with suppress(FileNotFoundError, ValueError):
            return max(0.0, time.time() - float(json.loads(self._note(slot).read_text())["since"]))
        return 0.0

    def bury(self, slot: int, reason: str, stopped: bool) -> None:
        """Worker ``slot`` died: write down of which cell, if it was at one. ``stopped``: it would not end."""
        assert self.folder is not None
        with suppress(FileNotFoundError, ValueError):
            self.note(json.loads(self._note(slot).read_text())["key"], reason, stopped)
        self._note(slot).unlink(missing_ok=True)
        (self.folder / f"{slot}.waiting").unlink(missing_ok=True)

    def note(self, key: str, reason: str, stopped: bool = False) -> None:
        """A process has to be replaced because of this cell, and the cell has no result."""
        if self.folder is not None:
            with (self.folder / "deaths").open("a") as file:
                file.write(json.dumps({"key": key, "reason": reason, "stopped": stopped}) + "\n")

    def condemned(self) -> dict[str, str]:
        """Key and reason of every cell that is not to be tried again in this campaign."""
        if self.folder is None or not (self.folder / "deaths").exists():
            return {}
        deaths: dict[str, list[dict[str, Any]]] = {}
        for line in (self.folder / "deaths").read_text().splitlines():
            death = json.loads(line)
            deaths.setdefault(death["key"], []).append(death)
        return {
            key: found[-1]["reason"]
            for key, found in deaths.items()
            if len(found) >= self.TRIES or any(death["stopped"] for death in found)
        }
