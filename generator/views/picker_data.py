"""What the picker's script reads: one compact file with every model, card and task, and where the answers come from.

``standing`` and ``tables`` of a model follow the order of ``tasks``. ``measured`` lists the cards that have a file of
measured runs (picker_runs.py). ``null`` is unknown, never zero.
"""

from __future__ import annotations

from typing import Any

from ..dataset import Dataset
from ..ranking import load_ranking
from .hub_facts import reading_of
from .picker_runs import fitted_to, lean_compared, measured_gpus

COMMERCIAL = ("no", "unknown", "conditions", "yes")


def picker_document(dataset: Dataset) -> dict[str, Any]:
    """The document of ``/api/v1/picker.json``."""
    ranking = load_ranking(dataset.root)
    catalog, evidence = dataset.catalog, dataset.evidence
    tasks = sorted(catalog.scenarios.values(), key=lambda task: task.order)
    models = []
    for model in catalog.models.values():
        facts, licence = dataset.facts(model), dataset.licence(model)
        support = model.frameworks
        models.append(
            {
                "id": model.id,
                "hub": model.hub_id,
                "name": model.name,
                "variant": model.variant,
                "status": model.status,
                "released": model.released or facts.created,
                "parameters": dataset.parameters.get(model.id),
                "context": facts.context_length,
                "languages": model.languages or facts.languages,
                "commercial": COMMERCIAL.index(licence.commercial_use if licence else "unknown"),
                "licence": licence.name if licence else facts.licence,
                "gated": facts.gated,
                "downloads": facts.downloads,
                "read": reading_of(facts, "downloads", dataset.data_date).day or None,
                "old": dataset.is_old(facts),
                "template": support.llamafactory_template if support else None,
                "remote": catalog.families[model.family].needs_remote_code
                if model.family in catalog.families
                else None,
                "standing": [
                    found.standing if (found := evidence[task.id].get(model.hub_id)) else None for task in tasks
                ],
                "tables": [
                    len({c.group for c in found.citations}) if (found := evidence[task.id].get(model.hub_id)) else 0
                    for task in tasks
                ],
            }
        )
    return {
        "version": 1,
        "data_date": dataset.data_date,
        "ranking": ranking.model_dump(exclude={"id"}),
        "fitted": fitted_to(dataset),
        "lean_compared": lean_compared(dataset),
        "measured": measured_gpus(dataset),
        "tasks": [
            {
                "id": task.id,
                "name": [task.name.zh, task.name.en],
                "language": task.language,
                "seq_len": task.seq_len,
                "samples": task.samples,
                "size": task.size_billions,
                "start": task.variants,
            }
            for task in tasks
        ],
        "gpus": [
            {
                "id": gpu.id,
                "name": gpu.name,
                "vendor": gpu.vendor,
                "category": gpu.category,
                "gb": gpu.memory_gb,
                "count": gpu.gpu_count,
                "card": gpu.card,
                "bf16": gpu.bf16,
                "usd": gpu.hourly_usd,
            }
            for gpu in catalog.gpus.values()
        ],
        "models": models,
    }
