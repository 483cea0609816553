"""Refreshes 500 models from a local Hub twice and prints what it took: ``python -m benchmarks.hub_refresh``.

Once with a Hub that answers at once, once with one that takes 150 ms for each answer, as one on another continent does.
Each refresh runs in a process of its own, so that its peak memory is the client's alone.
"""

from __future__ import annotations

import multiprocessing
import resource
import tempfile
import time
from datetime import date
from pathlib import Path

from generator.architecture import count_active_parameters, count_parameters
from generator.hub.client import HubClient
from generator.hub.refresh import refresh
from generator.hub.snapshot import read_snapshot
from tests.hub_server import FakeHub

MODELS = 500
LATENCIES_SECONDS = (0.0, 0.15)
ROOT = Path(__file__).parents[1]


def measure(endpoint: str, folder: Path, ids: list[str]) -> tuple[float, int, int, int, int, int, float]:
    """One refresh: seconds, requests, answers 304, bytes read, files written, models unread, peak MiB."""
    client = HubClient(endpoint=endpoint, cache=folder / "cache")
    start = time.perf_counter()
    summary = refresh(
        folder / "hub", ids, client, today=date(2026, 11, 20), count=count_parameters,
        count_active=count_active_parameters,
    )  # fmt: skip
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    t = summary.tally
    return seconds, t.requests, t.not_modified, t.bytes_read, summary.written, len(summary.unread), peak


def main() -> None:
    """Serve configurations of the committed snapshot under 500 ids; print one row per refresh."""
    configs = [facts.config for facts in read_snapshot(ROOT / "catalog" / "hub")[0].values() if facts.config]
    hub = FakeHub()
    for i in range(MODELS):
        hub.add(f"maker/model-{i}", configs[i % len(configs)], tags=[f"tag-{n}" for n in range(30)])
    processes = multiprocessing.get_context("spawn")
    print("| latency | refresh | seconds | requests | 304 | bytes read | files written | unread | peak MiB | tree |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for latency in LATENCIES_SECONDS:
        hub.latency_seconds = latency
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            before: dict[str, bytes] = {}
            for title in ("first", "second"):
                with processes.Pool(1) as pool:
                    row = pool.apply(measure, (hub.endpoint, folder, sorted(hub.models)))
                after = {path.name: path.read_bytes() for path in (folder / "hub").glob("*")}
                tree = "new" if not before else "unchanged" if before == after else "CHANGED"
                before = after
                seconds, requests, not_modified, size, written, unread, peak = row
                counts = f"{requests:,} | {not_modified:,} | {size:,} | {written} | {unread}"
                print(f"| {latency * 1e3:.0f} ms | {title} | {seconds:.1f} | {counts} | {peak:.0f} | {tree} |")
    hub.close()


if __name__ == "__main__":
    main()
