"""What there is: cells per GPU, recipe and method, and how well repeated cells agree. Standard library only."""

from __future__ import annotations

import statistics
from collections import Counter
from pathlib import Path
from typing import Any

from .cells import cell_of_result
from .result import digest, name, read_all


def find_superseded(results: Path) -> list[Path]:
    """Files whose cell was measured again on a later date on the same kind of GPU, so that they say nothing any more.

    Raises InvalidResult when a file is broken.
    """
    files: dict[tuple[str, str], list[tuple[str, Path]]] = {}
    for data in read_all(results):
        gpu_id = data["environment"]["gpu_id"]
        path = results / gpu_id / name(data)
        files.setdefault((gpu_id, cell_of_result(data).key), []).append((data["environment"]["date"], path))
    return sorted(path for found in files.values() for date, path in found if date < max(found)[0])


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
        if data["status"] == "ok" and not data["depth"]["extrapolated"]:
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
