"""What lets the picker say "measured": the runs that stand in for estimates, and what the estimates were fitted to.

``/api/v1/measured.json`` (version 1) is ``{version, environments, runs}``. ``runs`` maps a Hub id to rows of

    [gpu, "recipe/method/on|off", micro_batch, seq_len, rank, targets, allocated, reserved, cap, context, rate, parts,
     environment, pace, processor_pace]

in bytes and tokens per second; rank is 0 and targets "" without adapters, parts follow the order of ``PARTS``,
environment is an index into ``environments``, pace (what set the rate) one into ``PACES``, processor_pace that of
``Run``; null is not measured or not known. These are the runs that ``python -m generator estimate`` answers with;
docs/assets/js/runs.mjs reads them.

``/api/v1/measured/<gpu>.json`` is the same document with the rows of one card: a run stands in only on the card that it
was measured on. ``measured`` of ``picker.json`` lists the cards that have one.
"""

from __future__ import annotations

from typing import Any

from ..coefficients import read_json
from ..dataset import Dataset
from ..estimate import PARTS, set_id
from ..records import Pace, Run
from .cells import cells_of

LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes", "liger_kernel")
PACES: tuple[Pace, ...] = ("gpu", "processor")


def runs_of_catalog(dataset: Dataset) -> dict[tuple[Any, ...], Run]:
    """``case_key`` → the run that stands in for its estimate, for models of the catalog."""
    known = {model.hub_id for model in dataset.catalog.models.values()}
    return {key: run for key, run in cells_of(dataset).estimator.measured.items() if run.hub_id in known}


def measured_gpus(dataset: Dataset) -> list[str]:
    """Ids of the cards that have runs, hence a file of their own."""
    return sorted({run.gpu for run in runs_of_catalog(dataset).values()})


def measured_document(dataset: Dataset, only: str | None = None) -> dict[str, Any]:
    """The document of ``/api/v1/measured.json``, or with ``only`` that of one card."""
    environments: list[dict[str, str]] = []
    runs: dict[str, list[list[Any]]] = {}
    for key, run in runs_of_catalog(dataset).items():
        hub_id, recipe, method, micro_batch, seq_len, checkpointing, rank, targets, gpu = key
        if only not in (None, gpu):
            continue
        environment = environment_of(dataset, run)
        if environment not in environments:
            environments.append(environment)
        parts = run.breakdown_bytes
        runs.setdefault(hub_id, []).append(
            [
                gpu, set_id(recipe, method, checkpointing), micro_batch, seq_len, rank,
                targets if isinstance(targets, str) else " ".join(targets),
                run.peak_allocated_bytes, run.peak_reserved_bytes, run.min_cap_bytes, run.context_bytes,
                run.tokens_per_second, [parts.get(name) for name in PARTS] if parts else None,
                environments.index(environment), PACES.index(run.paced_by) if run.paced_by else None,
                run.processor_pace,
            ]
        )  # fmt: skip
    return {"version": 1, "environments": environments, "runs": runs}


def environment_of(dataset: Dataset, run: Run) -> dict[str, str]:
    """Card, versions of the libraries, and day of a run, in words."""
    gpu = dataset.catalog.gpus.get(run.gpu)
    versions = [f"{name} {run.environment[name]}" for name in LIBRARIES if run.environment.get(name)]
    return {"gpu": gpu.name if gpu else run.gpu, "versions": ", ".join(versions), "date": str(run.date)}


def fitted_to(dataset: Dataset) -> dict[str, Any] | None:
    """Number of runs behind the fit, with cards, versions and days of the runs on those cards; None without a fit."""
    calibration = read_json(dataset.root / "catalog" / "calibration.json")
    count = calibration.get("runs", {}).get("fitted")
    if not count:
        return None
    runs = [run for run in dataset.runs if run.status == "ok" and run.gpu in calibration.get("gpus", {})]
    places = [environment_of(dataset, run) for run in runs]
    return {
        "runs": count,
        "gpus": sorted({place["gpu"] for place in places}),
        "versions": sorted({place["versions"] for place in places}),
        "from": min((place["date"] for place in places), default=None),
        "to": max((place["date"] for place in places), default=None),
    }


def lean_compared(dataset: Dataset) -> dict[str, Any] | None:
    """What real training runs in both recipes say: {agree, models, steps (of the longest), date}; None without any."""
    curves = dataset.curves
    if not curves:
        return None
    return {
        "agree": all(curve.agree for curve in curves),
        "models": sorted({curve.model for curve in curves}),
        "steps": max(curve.steps for curve in curves),
        "date": str(max(curve.day for curve in curves)),
    }
