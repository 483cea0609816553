"""What there is: cells per GPU, recipe and method, and how well repeated cells agree. Standard library only."""

from __future__ import annotations

import statistics
from collections import Counter
from typing import Any

from .cells import cell_of_result
from .result import digest


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


def _repeat_lines(results: list[dict[str, Any]]) -> list[str]:
    pairs: dict[str, list[dict[str, Any]]] = {}
    for data in results:
        if data["status"] == "ok":
            knobs = cell_of_result(data).knobs() | {"repeat": 0, "gpu": data["environment"]["gpu_id"]}
            pairs.setdefault(digest(knobs), []).append(data)
    lines = []
    for tier, field in (("memory", "peak_allocated_bytes"), ("speed", "tokens_per_second")):
        errors = []
        for group in pairs.values():
            values = [data[tier][field] for data in group if data[tier][field]]
            if len(values) > 1:
                errors.append(max(values) / min(values) - 1)
        if errors:
            median, worst = statistics.median(errors), max(errors)
            lines.append(f"repeat error of {field}: median {median:.3%}, worst {worst:.3%}, {len(errors)} cells")
    return lines
