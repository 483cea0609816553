"""Rows of architectures whose traces hold no formula: steps traced at two sizes and two ranks, and lines between them.

The gated delta rule loops over chunks of the sequence in Python. What a turn of the loop allocates does not grow with
the length, the number of turns does, so the size of an allocation does not say how it scales (``trace_symbolic``).
Between (1 × 1024) and (4 × 2048) tokens the peak of each phase is a line to within a percent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .architecture import Shape
from .estimate import CoefficientSet, Row
from .records import Case
from .trace import STEP_PHASES, trace

REFERENCE = ((1, 1024), (4, 2048))
"""(micro-batch, length) of the traces, and of the points at which the allocator is replayed."""
RANKS = (16, 64)
GRADIENTS_ALIVE = ("backward", "step")


def loops_over_length(shape: Shape) -> bool:
    """Whether the modeling code loops over parts of the sequence."""
    return any(layer.kind == "linear_attention" for layer in shape.layers)


def trace_points(config: dict[str, Any], case: Case, entry: CoefficientSet) -> tuple[list[Row], list[list[int]]]:
    """Rows (bytes), one a phase, and [tokens, allocated, smallest cap, reserved] at the reference points.

    Raises NotTraceable.
    """
    ranks = RANKS if entry.trained == "adapters" else RANKS[:1]
    peaks: dict[tuple[int, int], Mapping[str, int]] = {}
    points = []
    for batch, seq in REFERENCE:
        for rank in ranks:
            size = {"micro_batch": batch, "seq_len": seq, "lora_rank": rank}
            found = trace(config, case.model_copy(update=size), search_cap=rank == RANKS[0])
            peaks[batch * (seq + entry.virtual_tokens), rank] = found["phase_peak_bytes"]
            if rank == RANKS[0]:
                allocated, cap = found["peak_allocated_bytes"], found["min_cap_bytes"]
                points.append([batch * seq, allocated, cap, max(found["peak_reserved_bytes"], cap)])
    return [draw_row(peaks, phase) for phase in STEP_PHASES], points


def draw_row(peaks: Mapping[tuple[int, int], Mapping[str, int]], phase: str) -> Row:
    """The plane through a phase's peaks by (tokens, rank); what would fall with either is constant."""
    tokens, ranks = (sorted({key[i] for key in peaks}) for i in (0, 1))
    value = {key: float(found[phase]) for key, found in peaks.items()}
    slopes = {rank: (value[tokens[-1], rank] - value[tokens[0], rank]) / (tokens[-1] - tokens[0]) for rank in ranks}
    starts = {rank: value[tokens[0], rank] - slopes[rank] * tokens[0] for rank in ranks}
    width = ranks[-1] - ranks[0]
    per_rank_token = max((slopes[ranks[-1]] - slopes[ranks[0]]) / width, 0.0) if width else 0.0
    per_rank = max((starts[ranks[-1]] - starts[ranks[0]]) / width, 0.0) if width else 0.0
    per_token = max(slopes[ranks[0]] - per_rank_token * ranks[0], 0.0)
    first = tokens[0]
    fixed = value[first, ranks[0]] - (per_token + per_rank_token * ranks[0]) * first - per_rank * ranks[0]
    return (max(fixed, 0.0), per_rank, per_token, per_rank_token, 0.0, 0.0, float(phase in GRADIENTS_ALIVE))
