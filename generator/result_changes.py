"""What new result files change on the site: the estimate that each cell showed before, and what was measured."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from .dataset import Dataset, require_dataset
from .estimate import NotEstimable
from .estimate_command import build_estimator
from .records import GIB, Run
from .runs import read_run


def read_results(paths: Sequence[Path]) -> tuple[list[Run], list[str]]:
    """The runs of ``paths`` in their order, and one line for each file that is none."""
    runs: list[Run] = []
    faults: list[str] = []
    for path in paths:
        try:
            runs.append(read_run(json.loads(path.read_text(encoding="utf-8")), f"{path.parent.name}/{path.stem}"))
        except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
            faults.append(f"{path.name}: no result: {type(error).__name__}")
    return runs, faults


def describe_changes(dataset: Dataset, runs: Sequence[Run]) -> Iterator[str]:
    """One line in ASCII per run, then a line that sums up. ``dataset`` may hold the runs already."""
    new = {run.id for run in runs}
    before = replace(dataset, runs=tuple(run for run in dataset.runs if run.id not in new))
    gpus = dataset.catalog.gpus
    estimator = build_estimator(dataset.hub.values(), gpus.values(), before.runs, dataset.root / "catalog")
    inside = outside = 0
    for run in runs:
        case = run.case
        title = (
            f"{run.hub_id}, {case.recipe} {case.method}, {case.micro_batch} x {case.seq_len}, "
            f"checkpointing {'on' if case.gradient_checkpointing else 'off'}, {run.gpu}"
        )
        measured, gpu = run.peak_reserved_bytes, gpus.get(run.gpu)
        if run.status != "ok" or measured is None:
            yield f"{title}: {run.status}"
            continue
        try:
            shown = estimator.estimate(run.hub_id, case, gpu)
        except NotEstimable as reason:
            yield f"{title}: {measured / GIB:.2f} GiB reserved; nothing was shown before ({reason})"
            continue
        was = shown.peak_reserved_bytes
        within = was.low <= measured <= was.high
        inside, outside = inside + within, outside + (not within)
        yield (
            f"{title}: {was.value / GIB:.2f} GiB reserved ({was.low / GIB:.2f} to {was.high / GIB:.2f}, {shown.basis}) "
            f"-> {measured / GIB:.2f} GiB measured ({measured / was.value - 1:+.1%}, "
            f"{'inside' if within else 'OUTSIDE'} the interval)"
        )
    models = {run.hub_id for run in runs} - {run.hub_id for run in before.runs}
    yield (
        f"{len(runs)} results: {inside} inside the interval shown before, {outside} outside; "
        f"first measurement of {len(models)} models" + (f" ({', '.join(sorted(models))})" if models else "")
    )


def run_changes(arguments: argparse.Namespace) -> int:
    """Print the changes; 1 if a file is no result."""
    runs, faults = read_results(arguments.files)
    for line in (*faults, *describe_changes(require_dataset(arguments.root), runs)):
        print(line)
    return 1 if faults else 0


def register(commands: Any) -> None:
    """Add ``changes`` to the command line."""
    command = commands.add_parser(
        "changes", help="what result files change: the estimate shown before, the measurement"
    )
    command.add_argument("files", nargs="+", type=Path, metavar="FILE", help="files under measurements/results")
    command.set_defaults(run=run_changes)
