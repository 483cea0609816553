"""The model list: every catalog model in one table that sorts and filters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from ...dataset import Dataset
from ...records import Text
from ..cells import cells_of
from ..hub_facts import reading_of
from ..page import Page


def pages(dataset: Dataset) -> Iterator[Page]:
    """``models/index.md``."""
    cells, catalog = cells_of(dataset), dataset.catalog
    rows: list[dict[str, Any]] = []
    for model in catalog.models.values():
        facts, licence, size = dataset.facts(model), dataset.licence(model), dataset.size_class(model)
        rows.append(
            {
                "model": model,
                "family": catalog.families.get(model.family),
                "size": size,
                "parameters": dataset.parameters.get(model.id),
                "active": facts.parameters_active,
                "languages": model.languages or facts.languages,
                "licence": licence,
                "licence_name": licence.id if licence else facts.licence,
                "commercial": licence.commercial_use if licence else "unknown",
                "context": facts.context_length,
                "downloads": facts.downloads,
                "reading": reading_of(facts, "downloads", dataset.data_date),
                "qlora": cells.need(model, "qlora"),
                "qlora_lean": cells.need(model, "qlora", "lean"),
                "lora": cells.need(model, "lora"),
            }
        )
    ranks = {"current": 0, "superseded": 1, "historical": 2}
    rows.sort(key=lambda row: (ranks[row["model"].status], row["parameters"] or 10**15, row["model"].id))
    sizes = sorted(catalog.size_classes.values(), key=lambda entry: entry.order)
    families = Counter(model.family for model in catalog.models.values())
    yield Page(
        path="models/index.md",
        template="models.md.j2",
        title=Text(zh="模型列表：可微调的开源模型", en="All models: open models to fine-tune"),
        description=Text(
            zh=f"{len(rows)} 个可微调的开源模型：参数量、语言、许可证、上下文、下载量，以及 QLoRA 与 LoRA 所需显存，可排序、可筛选。",
            en=f"{len(rows)} open models in one sortable table: parameters, languages, licence, context, downloads, memory for QLoRA and LoRA.",
        ),
        context={
            "rows": rows,
            "sizes": sizes,
            "families": [(catalog.families[key], n) for key, n in families.most_common(8) if key in catalog.families],
            "statuses": Counter(model.status for model in catalog.models.values()),
            "commercials": Counter(row["commercial"] for row in rows),
            "variants": Counter(model.variant for model in catalog.models.values()),
            "data_date": dataset.data_date,
            "measured": sum(bool(dataset.runs_of.get(model.hub_id)) for model in catalog.models.values()),
        },
        hide=("navigation", "toc"),
    )
