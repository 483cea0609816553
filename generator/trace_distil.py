"""One architecture × recipe × method × checkpointing → rows, speed terms, allocator ratios; nothing is fitted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .architecture import Shape
from .estimate import CoefficientSet, Row, chunk_tokens
from .estimate_closed import loop_launches
from .records import Case
from .trace_allocator import LOADED, replay, smallest_cap
from .trace_depth import plan_depths, trace_whole
from .trace_model import NotTraceable
from .trace_points import REFERENCE, loops_over_length, trace_points
from .trace_recorder import Events
from .trace_repeat import Copies, two_steps
from .trace_symbolic import (
    GRID_RANKS,
    LENGTH_PRIMES,
    LENGTH_STEP,
    RANK_PRIMES,
    SHORT_STEP,
    Primes,
    SharedFactor,
    choose_rows,
    count_work,
    decode,
    moments,
    size_at,
)

LIBRARIES = ("torch", "transformers", "peft", "accelerate", "bitsandbytes", "liger_kernel")


@dataclass
class Traced:
    """A symbolic trace of the whole depth."""

    events: Events
    copies: Copies
    primes: Primes
    repeats: int


def pick_primes(shape: Shape) -> list[Primes]:
    """Lengths and ranks that divide no dimension of the model, best first; parameters that the shape does not name may
    still share a factor with them."""
    sizes = {shape.hidden, shape.vocab}
    for layer in set(shape.layers):
        sizes |= {layer.heads, layer.head_dim, layer.expert_inner, layer.experts_per_token}
        sizes |= {size for linear in layer.linears for size in (linear.inputs, linear.outputs)}

    def free(primes: Sequence[int]) -> list[int]:
        return sorted(primes, key=lambda prime: (any(size % prime == 0 for size in sizes if size), prime))

    step = SHORT_STEP if any(layer.kind == "linear_attention" for layer in shape.layers) else LENGTH_STEP
    return [Primes(length, rank, step) for rank in free(RANK_PRIMES) for length in free(LENGTH_PRIMES)]


def trace_symbolically(config: dict[str, Any], case: Case, shape: Shape, chunks: int, virtual: int) -> Traced:
    """Trace one step at prime lengths. Raises NotTraceable."""
    depths = plan_depths(shape)
    for primes in pick_primes(shape)[:6]:
        wanted = case.model_copy(
            update={"micro_batch": 1, "seq_len": primes.tokens - virtual, "lora_rank": primes.rank}
        )
        try:
            events, copies, repeats = trace_whole(config, wanted, depths)
            decode(events, primes, chunks)
        except SharedFactor:
            continue
        return Traced(events, copies, primes, repeats)
    raise NotTraceable("every prime divides a parameter's size")


def distil_set(config: dict[str, Any], shape: Shape, entry: CoefficientSet) -> dict[str, Any]:
    """``rows`` (bytes), ``speed`` and ``ratios`` of one set. Raises NotTraceable."""
    recipe, method, checkpointing = entry.id.split("/")
    case = Case(recipe=recipe, method=method, gradient_checkpointing=checkpointing == "on")  # type: ignore[arg-type]
    chunks = -(-shape.vocab // shape.hidden)
    traced = trace_symbolically(config, case, shape, chunks, entry.virtual_tokens)
    forms = decode(traced.events, traced.primes, chunks)
    if loops_over_length(shape):
        rows, points = trace_points(config, case, entry)
    else:
        points, blocks = replay_points(traced.copies, forms, chunks)
        total, phases = moments(traced.copies, forms, blocks)
        ranks = GRID_RANKS if entry.trained == "adapters" else GRID_RANKS[1:2]
        rows = add_waste(choose_rows(total, phases, chunks, ranks), points, chunks)
    speed = count_work(traced.events, traced.primes, traced.repeats)
    if entry.trained != "all":
        add_optimizer(speed, traced, forms)
    loops = loop_launches(shape, case.gradient_checkpointing)
    speed[4] -= loops * traced.primes.tokens
    return {
        "rows": [[_short(value) for value in row] for row in rows],
        "speed": [_short(value) for value in speed],
        "allocator": [[tokens, *(round(size / 1024) * 1024 for size in sizes)] for tokens, *sizes in points],
    }


def _short(value: float) -> float | int:
    """Six digits: the file stays small and the rest is noise."""
    rounded = float(f"{value:.6g}")
    return int(rounded) if rounded.is_integer() else rounded


def replay_points(copies: Copies, forms: Any, chunks: int) -> tuple[list[list[int]], dict[int, int]]:
    """[tokens, allocated, smallest cap, reserved] in bytes at the reference points, as the allocator counts them with
    what it does not split off, and the allocator's blocks of the first of them."""
    steps = two_steps(copies)
    found: list[list[int]] = []
    blocks: dict[int, int] = {}
    for batch, seq in REFERENCE:
        numbers = size_at(forms, batch * seq, seq, 16, chunks).round().astype(int).tolist()
        sizes = [numbers[i] for i in steps.source]
        taken = blocks if not blocks else None
        peaks, reserved = replay(sizes, steps.order, steps.marks, blocks=taken)
        allocated = max(size for phase, size in peaks.items() if phase not in (LOADED, "build", "end"))
        cap = smallest_cap(sizes, steps.order, steps.marks, allocated, reserved)
        found.append([batch * seq, allocated, cap, reserved])
    return found, blocks


def add_waste(rows: list[Row], points: list[list[int]], chunks: int) -> list[Row]:
    """Rows with what the allocator leaves unsplit in the blocks of activations: half of it at the reference points,
    the part that every length has."""
    gaps = []
    for (tokens, allocated, *_), (_, seq) in zip(points, REFERENCE, strict=True):
        point = np.array([1, 16, tokens, 16 * tokens, tokens * seq, chunk_tokens(tokens, chunks)])
        gaps.append(allocated - max(float(np.array(row[:6]) @ point) for row in rows))
    waste = max(sum(gaps) / len(gaps), 0.0)
    return [(row[0] + waste, *row[1:]) for row in rows]  # type: ignore[misc]


def add_optimizer(speed: list[float], traced: Traced, forms: Any) -> None:
    """The optimiser of adapters, which is not traced: what it reads and writes of parameters, gradients and states."""
    at = {phase: position for position, phase in traced.copies.marks}
    made = traced.copies.order[at["workspaces"] : at["prepared"]]
    states = sum(float(forms[traced.copies.source[i]] @ [1, 16, 0, 0, 0, 0]) for i in made)
    speed[2] += 3.5 * states
    speed[4] += len(made) / 3 / 24


def library_versions() -> dict[str, str]:
    """Versions of the libraries that a trace runs through."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in LIBRARIES:
        try:
            found[name.replace("_", "-")] = version(name.replace("_", "-"))
        except PackageNotFoundError:
            continue
    return found
