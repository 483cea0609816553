"""The time of a training step: that of three stretches, one after the other.

In each, the card works on kernels while the processor launches the next ones, and the slower of both decides:

    layers  card: matmul FLOPs, attention FLOPs and moved bytes over the card's rates, times the set's factor of work,
            and a moment per kernel; processor: (launches·seconds per launch + layers·seconds per layer)·factor·pace.
            They overlap almost wholly: (card⁸ + processor⁸)^⅛
    loss    a fused loss works through the tokens in chunks and reads the head's weights for each: head FLOPs, bytes of
            all chunks and 6 bytes a logit, or the chunks' launches·pace
    update  bytes that the optimiser moves per trained parameter (of adapters this is part of the layers)

``pace`` is how long the processor takes for a fixed piece of launching, over what it takes on the reference host.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

from .records import Pace


@dataclass(frozen=True)
class Work:
    """What a step does, before factors: FLOPs, bytes, kernel launches. ``loss`` is that of a fused loss."""

    matmul: float
    attention: float
    moved: float
    launches: float
    layers: int
    loss_flops: float
    loss_moved: float
    loss_launches: float
    update_moved: float


def time_step(
    work: Work, factors: tuple[float, float], rates: tuple[float, float, float, float, float, float], pace: float
) -> tuple[float, Pace]:
    """Seconds of a step, and what takes longer in it. ``rates``: ``GpuFigures.rates``."""
    matmul, attention, bandwidth, kernel, launch, layer = rates
    card = work.matmul / matmul + work.attention / attention + work.moved / bandwidth
    card = card * factors[0] + work.launches * kernel
    host = (work.launches * launch + work.layers * layer) * factors[1] * pace
    a, b = card * card, host * host
    a, b = a * a, b * b
    seconds = sqrt(sqrt(sqrt(a * a + b * b)))
    loss = work.loss_flops / matmul + work.loss_moved / bandwidth
    launched = work.loss_launches * launch * pace
    update = work.update_moved / bandwidth
    seconds += max(loss, launched) + update
    return seconds, "processor" if host + launched > card + loss + update else "gpu"
