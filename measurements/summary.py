"""What there is: cells per GPU, recipe and method, and how well repeated cells agree. Standard library only."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .cells import cell_of_result
from .result import digest, name, read_all


def find_superseded(results: Path) -> list[Path]:
    """Files that say nothing any more: the same cell was measured again on the same kind of GPU, on a later date or
    with more readings, and no figure is missing there that the file has.

    Raises InvalidResult when a file is broken.
    """
    found: dict[tuple[str, str], list[tuple[tuple[str, bool], frozenset[str], Path]]] = {}
    for data in read_all(results):
        gpu_id = data["environment"]["gpu_id"]
        tells = frozenset(
            field for tier in ("memory", "speed") for field, value in data[tier].items() if value is not None
        )
        later = (data["environment"]["date"], "probe_seconds" in tells)
        place = (gpu_id, cell_of_result(data).key)
        found.setdefault(place, []).append((later, tells, results / gpu_id / name(data)))
    return sorted(
        path
        for group in found.values()
        for later, tells, path in group
        if any(other > later and tells <= more for other, more, _ in group)
    )


def summarise(results: list[dict[str, Any]]) -> str:
    """A plain table of counts by status, then seconds per cell and repeat errors."""
    lines = []
    counts: Counter[tuple[str, str, str]] = Counter()
    good: Counter[tuple[str, str, str]] = Counter()
    for data in results:
        place = (data["environment"]["gpu_id"], data["cell"]["recipe"], data["cell"]["method"])
        counts[place] += 1
        good[place] += data["status"] == "ok"
    lines += [f"{' '.join(place):50} {good[place]:4} ok of {count}" for place, count in sorted(counts.items())]
    seconds = [data["environment"]["wall_seconds"] for data in results if data["status"] == "ok"]
    if seconds:
        lines.append(f"{len(results)} results, {statistics.mean(seconds):.2f} s per cell, model building left out")
    lines += _repeat_lines(results)
    return "\n".join(lines)


LAUNCH_BOUND = 0.985  # share of a step in which the processor launches, from which on the GPU waits for it


def waits_for_processor(data: dict[str, Any]) -> bool | None:
    """Whether the speed of this result is that of the processor rather than of the GPU; None where not recorded."""
    launch = data["speed"].get("launch_seconds")
    return None if launch is None else launch >= LAUNCH_BOUND * data["speed"]["median_step_seconds"]


def _repeat_lines(results: list[dict[str, Any]]) -> list[str]:
    """How far results of the same cell are apart, memory and speed; speed also where the GPU, not the processor, sets
    it; and how far cut depths are from the whole model."""
    whole: dict[str, list[dict[str, Any]]] = {}
    cut: dict[str, list[dict[str, Any]]] = {}
    for data in results:
        if data["status"] == "ok":
            knobs = cell_of_result(data).knobs() | {"repeat": 0, "gpu": data["environment"]["gpu_id"]}
            (cut if data["depth"]["extrapolated"] else whole).setdefault(digest(knobs), []).append(data)
    busy = {key: found for key, found in whole.items() if all(waits_for_processor(data) is False for data in found)}
    lines = []
    for field in ("peak_allocated_bytes", "min_cap_bytes"):
        lines += _spread(f"repeat error of {field}", "memory", field, whole.values())
    alone = [[data for data in found if data["speed"].get("undisturbed")] for found in whole.values()]
    lines += _spread("repeat error of tokens_per_second, timed undisturbed", "speed", "tokens_per_second", alone)
    lines += _spread("the same where the GPU is busy", "speed", "tokens_per_second", busy.values())
    for tier, field in (("memory", "peak_allocated_bytes"), ("speed", "tokens_per_second")):
        pairs = [
            [_median(whole[key], tier, field), data] for key, found in cut.items() if key in whole for data in found
        ]
        lines += _spread(f"cut depth against whole, {field}", tier, field, pairs)
    return lines


def _median(found: list[dict[str, Any]], tier: str, field: str) -> dict[str, Any]:
    values = [data[tier][field] for data in found if data[tier][field]]
    return {tier: {field: statistics.median(values) if values else None}}


def _spread(name: str, tier: str, field: str, groups: Iterable[list[dict[str, Any]]]) -> list[str]:
    errors = []
    for group in groups:
        values = [data[tier][field] for data in group if data[tier][field]]
        if len(values) > 1:
            errors.append(max(values) / min(values) - 1)
    if not errors:
        return []
    return [f"{name}: median {statistics.median(errors):.3%}, worst {max(errors):.3%}, {len(errors)} cells"]
