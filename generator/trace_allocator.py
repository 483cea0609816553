"""A model of PyTorch's caching allocator: replays a trace and says what is allocated, reserved and needed.

The rules are those of ``c10/cuda/CUDACachingAllocator.cpp`` (PyTorch 2.11, default settings): sizes are rounded up to
512 bytes; up to 1 MiB comes from segments of 2 MiB, more from segments of 20 MiB, from 10 MiB on from a segment of its
own, rounded up to 2 MiB; the smallest free block that is large enough is taken, of equal ones that of the lowest
address, and split, unless 1 MiB or less (512 bytes in small segments) would be left over, which then counts as
allocated; free neighbours are joined; when a new segment would pass the cap, all wholly free segments are given back
first. Where the driver puts a segment is not known: each is taken to lie above those before it.

The smallest cap is searched as the harness does it (``measurements/caps.py``): what works under one cap may fail under
a larger one, because the allocator then splits memory differently, and each search finds what it meets.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

MIB = 1 << 20
ROUND = 512
SMALL, SMALL_SEGMENT = MIB, 2 * MIB
LARGE_SEGMENT, OWN_SEGMENT = 20 * MIB, 10 * MIB
LEAST_RESOLUTION, RESOLUTION = 8 * MIB, 0.004
"""Bytes and share of the peak at which the search for the smallest cap stops."""
MOST_TRIES = 7
LOADED = "loaded"
"""Mark of a moment before the end of the phase ``build`` at which the cache is emptied."""


class OutOfMemory(Exception):
    """The cap is too small for the sequence."""


@dataclass(eq=False, slots=True)
class Block:
    """A piece of a segment; ``before`` and ``after`` are its neighbours in it."""

    size: int
    small: bool
    address: int
    free: bool = True
    before: Block | None = None
    after: Block | None = None


@dataclass
class Allocator:
    """Replays one sequence. ``allocated`` and ``reserved`` are bytes now, the peaks since the last ``reset``."""

    cap: int | None = None
    allocated: int = 0
    reserved: int = 0
    peak_allocated: int = 0
    peak_reserved: int = 0
    pools: tuple[list[tuple[int, int]], list[tuple[int, int]]] = field(default_factory=lambda: ([], []))
    """(size, address) of the free blocks of small and of large segments."""
    blocks: dict[int, Block] = field(default_factory=dict)
    top: int = 0
    """The first address above all segments."""

    def reset(self) -> None:
        """Forget the peaks."""
        self.peak_allocated, self.peak_reserved = self.allocated, self.reserved

    def allocate(self, size: int) -> Block:
        """A block of at least ``size`` bytes. Raises OutOfMemory."""
        size = max(ROUND, -(-size // ROUND) * ROUND)
        small = size <= SMALL
        pool = self.pools[not small]
        place = bisect_left(pool, (size, -1))
        block = self.blocks[pool.pop(place)[1]] if place < len(pool) else self._segment(size, small)
        rest = block.size - size
        if rest >= ROUND if small else rest > SMALL:
            self._split(block, size)
        block.free = False
        self.allocated += block.size
        self.peak_allocated = max(self.peak_allocated, self.allocated)
        return block

    def release(self, block: Block) -> None:
        """Free a block and join it with its free neighbours."""
        self.allocated -= block.size
        block.free = True
        pool = self.pools[not block.small]
        before, after = block.before, block.after
        if before is not None and before.free:
            pool.pop(bisect_left(pool, (before.size, before.address)))
            self._join(before, block)
            block = before
        if after is not None and after.free:
            pool.pop(bisect_left(pool, (after.size, after.address)))
            self._join(block, after)
        insort(pool, (block.size, block.address))

    def give_back(self) -> None:
        """Return every wholly free segment to the driver (``empty_cache``)."""
        for pool in self.pools:
            for size, address in list(pool):
                block = self.blocks[address]
                if block.before is None and block.after is None:
                    pool.remove((size, address))
                    del self.blocks[address]
                    self.reserved -= size

    def _segment(self, size: int, small: bool) -> Block:
        own = -(-size // (2 * MIB)) * 2 * MIB
        total = SMALL_SEGMENT if small else LARGE_SEGMENT if size < OWN_SEGMENT else own
        if self.cap is not None and self.reserved + total > self.cap:
            self.give_back()
            if self.reserved + total > self.cap:
                raise OutOfMemory
        self.reserved += total
        self.peak_reserved = max(self.peak_reserved, self.reserved)
        block = self.blocks[self.top] = Block(total, small, self.top)
        self.top += total
        return block

    def _split(self, block: Block, size: int) -> None:
        rest = Block(block.size - size, block.small, block.address + size)
        self.blocks[rest.address] = rest
        rest.before, rest.after = block, block.after
        if rest.after is not None:
            rest.after.before = rest
        block.after, block.size = rest, size
        insort(self.pools[not block.small], (rest.size, rest.address))

    def _join(self, block: Block, other: Block) -> None:
        """``other``, the next piece of the segment, becomes part of ``block``."""
        del self.blocks[other.address]
        block.size += other.size
        block.after = other.after
        if block.after is not None:
            block.after.before = block


def replay(
    sizes: Sequence[int],
    order: Iterable[int],
    marks: Sequence[tuple[int, str]],
    cap: int | None = None,
    blocks: dict[int, int] | None = None,
) -> tuple[dict[str, int], int]:
    """Peak allocated bytes of each phase and the reserved peak of everything after the phase ``build``.

    ``blocks`` is filled with the size of the block that each allocation got. Raises OutOfMemory when ``cap`` bytes are
    not enough for what follows that phase.
    """
    allocator = Allocator()
    held: dict[int, Block] = {}
    peaks: dict[str, int] = {}
    reserved = 0
    waiting = list(marks)[::-1]
    for position, item in enumerate(order):
        while waiting and position >= waiting[-1][0]:
            phase = waiting.pop()[1]
            peaks[phase] = max(peaks.get(phase, 0), allocator.peak_allocated)
            if phase in (LOADED, "build"):
                allocator.give_back()
                allocator.cap = cap if phase == "build" else None
            else:
                reserved = max(reserved, allocator.peak_reserved)
            allocator.reset()
        if item >= 0:
            held[item] = block = allocator.allocate(sizes[item])
            if blocks is not None:
                blocks[item] = block.size
        else:
            gone = held.pop(~item, None)
            if gone is not None:
                allocator.release(gone)
    return peaks, max(reserved, allocator.peak_reserved)


def smallest_cap(
    sizes: Sequence[int], order: Sequence[int], marks: Sequence[tuple[int, str]], low: int, high: int
) -> int:
    """The smallest cap (bytes) that the harness would find for the sequence, whose peaks of allocated and reserved
    memory without a cap are ``low`` and ``high``.

    Where working is not monotone a search may fall into a hole of a few MiB, in which a measurement, whose sizes are a
    little different, does not fall: so this is the median of three searches, one resolution apart.
    """

    def works(cap: int) -> bool:
        try:
            replay(sizes, order, marks, cap)
        except OutOfMemory:
            return False
        return True

    resolution = max(LEAST_RESOLUTION, round(low * RESOLUTION))
    found = [
        search_cap(works, max(low + shift, 0), max(high + shift, low + 1), resolution)
        for shift in (-resolution, 0, resolution)
    ]
    return min(max(low, sorted(found)[1]), high)


def search_cap(works: Callable[[int], bool], low: int, high: int, resolution: int) -> int:
    """The cap at which ``measurements.caps.search_min_cap`` ends, on a card that is large enough."""
    tries, failed, shown = 0, low, False
    while True:
        while high - failed > resolution and tries < MOST_TRIES:
            tries += 1
            middle = failed + (high - failed) // 3
            if works(middle):
                high, shown = middle, True
            else:
                failed = middle
        if shown or works(high):
            return high
        tries += 1
        if tries >= 2 * MOST_TRIES:
            return high
        failed, high = high, round(high * 1.02)
