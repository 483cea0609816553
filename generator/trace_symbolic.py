"""One trace → the size of every allocation as a formula in tokens and rank, and the peak of a step as a few rows.

The trace is made with lengths that no parameter shares a prime factor with: the sequence is 256 times a prime, the rank
another prime. How often the primes divide a size says how often tokens and rank are factors of it; what is left is the
coefficient. Tokens per chunk of Liger's fused loss, a power of two, are told by where the allocation is made. Sums over
the events give one linear form per moment of the step; the forms that are the largest somewhere on a grid of lengths
and ranks, and are missed by more than 0.1 % when left out, become the rows of ``estimate.Cell``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .estimate import WORK_RANK, Row, chunk_tokens
from .trace_libraries import FUSED_LOSS
from .trace_recorder import BIASED, PRODUCT, Events
from .trace_repeat import Copies

LENGTH_PRIMES = (37, 41, 47, 53, 59, 43)
RANK_PRIMES = (61, 67, 71, 73)
LENGTH_STEP, SHORT_STEP = 256, 64
"""Chunked scans pad sequences to multiples of this (Mamba 2; the gated delta rule, which loops over its chunks); a
length that is such a multiple needs no padding."""
NEAR = 24
"""A dimension this close to the length is the length with something added: a convolution's padding, a prompt."""
GRID_TOKENS = tuple(2**n for n in range(7, 18))
GRID_RANKS = (8, 16, 64, 256)
TOLERANCE = 0.001
PAIR_FLOPS = 150.0
"""FLOPs in the time of one byte, on the cards that were measured: their attention rate over their bandwidth."""
ALIVE = ("backward_first", "backward_rest", "step")
"""Phases in which gradients are alive."""

Forms = np.ndarray[Any, np.dtype[np.float64]]
"""Bytes [fixed, per rank, per token, per rank and token, per pair, per chunk token] of each allocation."""


class SharedFactor(Exception):
    """A parameter's size is divisible by one of the primes; take others."""


@dataclass(frozen=True)
class Primes:
    """The lengths of a symbolic trace."""

    length: int
    rank: int
    step: int = LENGTH_STEP

    @property
    def tokens(self) -> int:
        return self.length * self.step

    def split(self, value: float) -> tuple[float, int, int]:
        """(coefficient, power of tokens, power of rank) of a product of sizes."""
        powers = ranks = 0
        whole = round(value)
        while whole and powers < 2 and whole % self.length == 0:
            whole //= self.length
            powers += 1
        if whole and whole % self.rank == 0:
            ranks = 1
        return value / float(self.tokens) ** powers / float(self.rank) ** ranks, powers, ranks


def decode(events: Events, primes: Primes, chunks: int) -> Forms:
    """The form of every allocation of a trace. Raises SharedFactor."""
    forms = np.zeros((len(events.sizes), 6))
    built = events.built
    chunk = chunk_tokens(primes.tokens, chunks)
    made = {item: position for position, item in enumerate(events.order) if item >= 0}
    for index, (size, shape) in enumerate(zip(events.sizes, events.shapes, strict=True)):
        if index in events.chunked and shape and shape[0] <= chunk and chunk < primes.tokens:
            forms[index, 5] = size / shape[0]
            continue
        value, powers, ranks = primes.split(size)
        if not powers:
            near = [d for d in shape if 0 < abs(d - primes.tokens) <= NEAR]
            if near:
                value, powers = value / near[0], 1
        if made[index] < built and (powers or (ranks and all(d % primes.rank for d in shape))):
            raise SharedFactor
        column = {(0, 0): 0, (0, 1): 1, (1, 0): 2, (1, 1): 3, (2, 0): 4, (2, 1): 4}[(powers, ranks)]
        forms[index, column] = value
    return forms


def size_at(forms: Forms, tokens: int, seq: int, rank: int, chunks: int) -> Forms:
    """Bytes of each form at one point."""
    point = np.array([1, rank, tokens, rank * tokens, tokens * seq, chunk_tokens(tokens, chunks)], dtype=float)
    sizes: Forms = forms @ point
    return sizes


def moments(copies: Copies, forms: Forms, blocks: dict[int, int]) -> tuple[Forms, list[str]]:
    """The form of what is allocated after every allocation of the step, and the phase it falls into.

    ``blocks`` are bytes of the allocator's blocks of allocations that depend on nothing, where they are known.
    """
    source = np.array(copies.source)
    own = forms[source].copy()
    constant = ~own[:, 1:].any(axis=1)
    own[constant, 0] = np.maximum(np.ceil(own[constant, 0] / 512), 1) * 512
    for index, size in blocks.items():
        if index < len(constant) and constant[index]:
            own[index, 0] = size
    order = np.array(copies.order)
    sign = np.where(order >= 0, 1.0, -1.0)
    steps = own[np.where(order >= 0, order, ~order)] * sign[:, None]
    total = np.cumsum(steps, axis=0)
    phases = np.empty(len(order), dtype=object)
    begin = 0
    for position, phase in copies.marks:
        if phase not in (PRODUCT, BIASED):
            phases[begin:position] = phase
            begin = position
    built = next(position for position, phase in copies.marks if phase == "build")
    wanted = np.flatnonzero(order >= 0)
    wanted = wanted[wanted >= built]
    return total[wanted], list(phases[wanted])


def make_grid(forms: Forms, chunks: int, ranks: Sequence[int]) -> Forms:
    """Points [1, rank, tokens, rank·tokens, pairs, chunk], one a row."""
    batches = (1, 8) if forms[:, 4].any() else (1,)
    return np.array(
        [
            [1, rank, tokens, rank * tokens, tokens * tokens / batch, chunk_tokens(tokens, chunks)]
            for tokens in GRID_TOKENS
            for rank in ranks
            for batch in batches
        ],
        dtype=float,
    )


def choose_rows(total: Forms, phases: Sequence[str], chunks: int, ranks: Sequence[int]) -> list[Row]:
    """The few moments (bytes, and whether gradients are alive) that give the peak to 0.1 % everywhere on the grid."""
    grid = make_grid(total, chunks, ranks)
    values = total @ grid.T
    top = values.max(axis=0)
    kept = sorted(set(values.argmax(axis=0).tolist()))
    covers = values[kept] >= top[None, :] * (1 - TOLERANCE)
    chosen: list[int] = []
    open_points = np.ones(len(grid), dtype=bool)
    while open_points.any():  # greedy cover, deterministic: the first of the best
        gain = covers[:, open_points].sum(axis=1)
        best = int(gain.argmax())
        chosen.append(best)
        open_points &= ~covers[best]
    rows = []
    for index in sorted(chosen):
        form = total[kept[index]]
        rows.append((*(float(round(x, 3)) for x in form), float(phases[kept[index]] in ALIVE)))
    return rows  # type: ignore[return-value]


def count_work(events: Events, primes: Primes, repeats: int) -> list[float]:
    """[matmul FLOPs per token, attention FLOPs per pair, bytes, bytes per token, launches] of a step, rank 16.

    What fused attention leaves to element-wise kernels where it cannot be used (scores, masks) counts as attention at
    ``PAIR_FLOPS`` per byte. The fused loss, whose chunks depend on the length, is left to ``estimate.evaluate``.
    """
    flops, attention, moved = np.zeros(3), 0.0, np.zeros(3)
    launches = 0.0
    for place, work in events.work.items():
        times = repeats if place is not None and place[1] == 1 else 1
        if place == FUSED_LOSS:
            continue
        launches += times * work.launches
        flops += times * _by_power(work.products, primes)
        moved += times * _by_power(work.moved, primes)
        moved[0] += times * _by_power(work.matrices, primes)[0]
        attention += times * _by_power(work.attention, primes)[2]
    return [flops[1], attention + flops[2] + PAIR_FLOPS * moved[2], moved[0], moved[1], launches]


def _by_power(values: Sequence[float], primes: Primes) -> Forms:
    """Sums of the coefficients that go with no, one and two factors of tokens."""
    found = np.zeros(3)
    if not values:
        return found
    whole = np.array(values, dtype=np.int64)
    powers = np.zeros(len(whole), dtype=np.int64)
    rest = whole.copy()
    for _ in range(2):
        divisible = (rest % primes.length == 0) & (rest > 0)
        powers += divisible & (powers == _)
        rest = np.where(divisible, rest // primes.length, rest)
    scale = np.where((whole % primes.rank == 0) & (whole > 0), WORK_RANK / primes.rank, 1.0)
    for power in range(3):
        found[power] = (whole * scale)[powers == power].sum() / float(primes.tokens) ** power
    return found
