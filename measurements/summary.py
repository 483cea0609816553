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


GPU_BOUND = 0.9  # share of a step in which the GPU works, from which on it sets the pace
LAUNCH_BOUND = 0.985  # where that was not measured: share of a step in which the processor launches


def waits_for_processor(data: dict[str, Any]) -> bool | None:
    """Whether the speed of this result is that of the processor rather than of the GPU; None where not recorded."""
    speed = data["speed"]
    if speed.get("gpu_seconds") is not None and speed["median_step_seconds"]:
        return bool(speed["gpu_seconds"] < GPU_BOUND * speed["median_step_seconds"])
    launch = speed.get("launch_seconds")
    return None if launch is None else launch >= LAUNCH_BOUND * speed["median_step_seconds"]


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
    paced = [
        [{"speed": {"paced": data["speed"]["tokens_per_second"] * data["speed"]["probe_seconds"]}} for data in found]
        for found in whole.values()
        if all(waits_for_processor(data) and data["speed"].get("probe_seconds") for data in found)
    ]
    lines += _spread("the same where the processor is, at its pace", "speed", "paced", paced)
    lines += _spread("repeat error of gpu_seconds", "speed", "gpu_seconds", whole.values())
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
        values = [data[tier][field] for data in group if data[tier].get(field)]
        if len(values) > 1:
            errors.append(max(values) / min(values) - 1)
    if not errors:
        return []
    return [f"{name}: median {statistics.median(errors):.3%}, worst {max(errors):.3%}, {len(errors)} cells"]
