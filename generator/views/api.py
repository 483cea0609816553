"""The JSON API under ``/api/v1``: stamped from the data and never from the clock, so that a rebuild changes nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..dataset import Dataset
from ..estimate_command import publish_coefficients
from ..evidence import Evidence
from ..records import GpuEntry, HubFacts, MethodEntry, ModelEntry, Record, Run
from .cells import cells_of
from .measured import MeasuredCell, cells_document
from .picker_data import picker_document
from .picker_runs import measured_document, measured_gpus

PUBLISHED: dict[str, type[Record]] = {
    "model": ModelEntry,
    "hub": HubFacts,
    "gpu": GpuEntry,
    "method": MethodEntry,
    "run": Run,
    "cell": MeasuredCell,
}
"""Records whose JSON schema is published beside the data."""

VERSION = "1.4.0"
"""Version of the API, apart from the site's; see CHANGELOG.md."""


def files(dataset: Dataset) -> Mapping[str, bytes]:
    """Every file of the API: path → JSON bytes."""
    evidence = dataset.evidence
    documents: dict[str, Any] = {
        "models.json": [record(row) for row in dataset.models.to_dict("records")],
        "gpus.json": [gpu.model_dump() for gpu in dataset.catalog.gpus.values()],
        "methods.json": [method.model_dump() for method in dataset.catalog.methods.values()],
        "picker.json": picker_document(dataset),
        "coefficients.json": publish_coefficients(cells_of(dataset).estimator),
        "measured.json": measured_document(dataset),
        "cells.json": cells_document(dataset),
        "runs.json": [run.model_dump(mode="json") for run in dataset.runs],
    }
    for gpu_id in measured_gpus(dataset):
        documents[f"measured/{gpu_id}.json"] = measured_document(dataset, gpu_id)
    for model in dataset.catalog.models.values():
        documents[f"models/{model.id}.json"] = {
            "entry": model.model_dump(),
            "hub": dataset.facts(model).model_dump(),
            "parameters": dataset.parameters.get(model.id),
            "evidence": {
                task: {"standing": found.standing, "scores": [vars(score) for score in found.citations]}
                for task, by_model in evidence.items()
                if (found := by_model.get(model.hub_id))
            },
            "groups": {
                group: {"title": entry.title, "url": entry.url}
                for group in sorted(cited_groups(evidence, model.hub_id))
                if (entry := dataset.catalog.benchmarks.get(group))
            },
        }
    for name, record_type in PUBLISHED.items():
        documents[f"schema/{name}.json"] = record_type.model_json_schema()
    index = {"version": VERSION, "data_date": dataset.data_date, "files": sorted(documents)}
    documents["index.json"] = index
    return {f"api/v1/{path}": encode(document) for path, document in documents.items()}


def cited_groups(evidence: Mapping[str, Mapping[str, Evidence]], hub_id: str) -> set[str]:
    """Ids of the published tables that any task's evidence for a model cites."""
    found = (by_model.get(hub_id) for by_model in evidence.values())
    return {citation.group for one in found if one for citation in one.citations}


def encode(document: Any) -> bytes:
    """Compact JSON; refuses NaN, which no JSON reader accepts."""
    return json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def record(row: Mapping[Any, Any]) -> dict[str, Any]:
    """A frame's row with NaN as null and whole floats as integers (pandas widens columns that hold unknowns)."""
    out: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, float):
            value = None if value != value else int(value) if value.is_integer() else value
        out[str(key)] = value
    return out
