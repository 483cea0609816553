"""A model of PyTorch's caching allocator: replays a trace and says what is allocated, reserved and needed.

The rules are those of ``c10/cuda/CUDACachingAllocator.cpp`` (PyTorch 2.11, default settings): sizes are rounded up to
512 bytes; up to 1 MiB comes from segments of 2 MiB, more from segments of 20 MiB, from 10 MiB on from a segment of its
own, rounded up to 2 MiB; the smallest free block that is large enough is taken and split, unless 1 MiB or less (512
bytes in small segments) would be left over, which then counts as allocated; free neighbours are joined; when a new
segment would pass the cap, all wholly free segments are given back first.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

MIB = 1 << 20
ROUND = 512
SMALL, SMALL_SEGMENT = MIB, 2 * MIB
LARGE_SEGMENT, OWN_SEGMENT = 20 * MIB, 10 * MIB


class OutOfMemory(Exception):
    """The cap is too small for the sequence."""


@dataclass(eq=False)
class Block:
    """A piece of a segment; ``before`` and ``after`` are its neighbours in it."""

    size: int
    small: bool
    number: int
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
    blocks: dict[int, Block] = field(default_factory=dict)
    made: int = 0

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
        for other in (block.before, block.after):
            if other is not None and other.free:
                pool.pop(bisect_left(pool, (other.size, other.number)))
                del self.blocks[other.number]
                block.size += other.size
                if other is block.before:
                    block.before = other.before
                    if block.before is not None:
                        block.before.after = block
                else:
                    block.after = other.after
                    if block.after is not None:
                        block.after.before = block
        insort(pool, (block.size, block.number))

    def give_back(self) -> None:
        """Return every wholly free segment to the driver (``empty_cache``)."""
        for pool in self.pools:
            for size, number in list(pool):
                block = self.blocks[number]
                if block.before is None and block.after is None:
                    pool.remove((size, number))
                    del self.blocks[number]
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
        return self._block(total, small)

    def _block(self, size: int, small: bool) -> Block:
        block = Block(size, small, self.made)
        self.blocks[self.made] = block
        self.made += 1
        return block

    def _split(self, block: Block, size: int) -> None:
        rest = self._block(block.size - size, block.small)
        rest.before, rest.after = block, block.after
        if rest.after is not None:
            rest.after.before = rest
        block.after, block.size = rest, size
        insort(self.pools[not block.small], (rest.size, rest.number))


def replay(
    sizes: Sequence[int],
    order: Iterable[int],
    marks: Sequence[tuple[int, str]],
    cap: int | None = None,
    blocks: dict[int, int] | None = None,
) -> tuple[dict[str, int], int]:
    """Peak allocated bytes of each phase and the reserved peak of everything after the phase ``build``.

    ``blocks`` is filled with the size of the block that each allocation got. Raises OutOfMemory when ``cap`` bytes are
    not enough.
    """
    allocator = Allocator(cap)
    held: dict[int, Block] = {}
    peaks: dict[str, int] = {}
    reserved = 0
    waiting = list(marks)[::-1]
    for position, item in enumerate(order):
        while waiting and position >= waiting[-1][0]:
            phase = waiting.pop()[1]
            peaks[phase] = max(peaks.get(phase, 0), allocator.peak_allocated)
            if phase == "build":
                allocator.give_back()
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
    sizes: Sequence[int],
    order: Sequence[int],
    marks: Sequence[tuple[int, str]],
    low: int,
    high: int,
    share: float = 0.0025,
) -> int:
    """The smallest cap (bytes, to ``share``) under which the sequence finishes, between ``low`` and ``high``."""
    resolution = max(8 * MIB, round(low * share))
    while high - low > resolution:
        middle = (low + high) // 2
        try:
            replay(sizes, order, marks, middle)
            high = middle
        except OutOfMemory:
            low = middle
    return high
