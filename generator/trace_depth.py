"""Which layers of a model have to be traced, and the events of its whole depth from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from .architecture import Shape, UnknownArchitecture, describe
from .records import Case
from .trace_recorder import Events
from .trace_repeat import Copies, NotRepeatable, one_step, repeat_middle
from .trace_step import trace_step

LONGEST_PERIOD = 8


@dataclass(frozen=True)
class Depth:
    """Which layers are traced and how often the middle block stands in the whole model."""

    layers: tuple[int, ...]
    blocks: tuple[tuple[int, ...], ...] = ()
    repeats: int = 0


def plan_depths(shape: Shape) -> list[Depth]:
    """Ways to trace a model, cheapest first; the last is its whole depth.

    Layers that differ in their attention window alone allocate alike.
    """
    layers = [replace(layer, window=None) for layer in shape.layers]
    count = len(layers)
    found: list[Depth] = []
    for period in range(1, LONGEST_PERIOD + 1):
        for prefix in range(5):
            whole = (count - prefix) // period
            if whole < 4 or any(layers[i] != layers[i + period] for i in range(prefix, count - period)):
                continue
            last = prefix + 3 * period
            suffix = (count - prefix) % period
            if last + suffix >= count:
                continue
            kept = (*range(last), *range(count - suffix, count))
            blocks = tuple(tuple(range(prefix + k * period, prefix + (k + 1) * period)) for k in range(3))
            found.append(Depth(kept, blocks, whole - 2))
        if found:
            break
    return [*found[:3], Depth(tuple(range(count)))]


def trace_whole(config: dict[str, Any], case: Case, depths: Sequence[Depth]) -> tuple[Events, Copies, int]:
    """One step of the whole model: what was traced, its events at full depth, how often the middle block is in it.

    Raises NotTraceable.
    """
    for depth in depths:
        if not depth.blocks:
            break
        events = trace_step(config, case, depth.layers, 1, depth.blocks, depth.repeats)
        try:
            return events, repeat_middle(events, depth.repeats), depth.repeats
        except NotRepeatable:
            continue
    events = trace_step(config, case, None, 1)
    return events, one_step(events), 1


def depths_of(config: dict[str, Any]) -> list[Depth]:
    """Ways to trace a configuration; only its whole depth where its layers are not known."""
    try:
        return plan_depths(describe(config))
    except UnknownArchitecture:
        return []
