"""Refreshes 500 models from a local Hub twice and prints what it took: ``python -m benchmarks.hub_refresh``."""

from __future__ import annotations

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
ROOT = Path(__file__).parents[1]


def main() -> None:
    """Serve configurations of the committed snapshot under 500 ids; print one row per refresh."""
    configs = [facts.config for facts in read_snapshot(ROOT / "catalog" / "hub")[0].values() if facts.config]
    hub = FakeHub()
    for i in range(MODELS):
        hub.add(f"maker/model-{i}", configs[i % len(configs)], tags=[f"tag-{n}" for n in range(30)])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print("| refresh | seconds | requests | 304 | bytes read | files written | peak MiB (with server) |")
        print("|---|---|---|---|---|---|---|")
        for title in ("first", "second"):
            before = {path.name: path.read_bytes() for path in (folder / "hub").glob("*")}
            client = HubClient(endpoint=hub.endpoint, cache=folder / "cache")
            start = time.perf_counter()
            summary = refresh(
                folder / "hub", sorted(hub.models), client, today=date(2026, 11, 20), count=count_parameters,
                count_active=count_active_parameters,
            )  # fmt: skip
            seconds = time.perf_counter() - start
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            t = summary.tally
            print(
                f"| {title} | {seconds:.1f} | {t.requests} | {t.not_modified} | {t.bytes_read:,} | "
                f"{summary.written} | {peak:.0f} |"
            )
        same = before == {path.name: path.read_bytes() for path in (folder / "hub").glob("*")}
        print(f"\ntree after the second refresh: {'unchanged' if same else 'CHANGED'}")
    hub.close()


if __name__ == "__main__":
    main()
