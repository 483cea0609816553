"""New on the Hub: notable models that the catalog lacks, with estimates until somebody measures them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ...dataset import Dataset
from ...hub.draft import model_type
from ...records import ModelEntry, Text
from ..cells import Cells
from ..hub_facts import reading_of
from ..page import Page


def pages(dataset: Dataset) -> Iterator[Page]:
    """``models/new.md``."""
    search, found = dataset.discovery, dataset.discovered
    entries = [stand_in(index, item.facts.hub_id) for index, item in enumerate(found)]
    preview = replace(
        dataset,
        catalog=replace(dataset.catalog, models={entry.id: entry for entry in entries}),
        hub={item.facts.hub_id: item.facts for item in found},
        runs=(),
    )
    cells = Cells(preview)
    rows = [
        {
            "item": item,
            "facts": item.facts,
            "type": model_type(item.facts),
            "reading": reading_of(item.facts, "downloads", max(dataset.data_date, item.facts.refreshed or "")),
            "licence": preview.licence(entry),
            "qlora": cells.need(entry, "qlora"),
            "lora": cells.need(entry, "lora"),
        }
        for entry, item in zip(entries, found, strict=True)
    ]
    yield Page(
        path="models/new.md",
        template="discovered.md.j2",
        title=Text(zh="Hub 新模型：目录里还没有的", en="New on the Hub: notable models not in the catalog yet"),
        description=Text(
            zh="Hugging Face Hub 上值得注意、本站目录还没有收录的开源模型：参数量、许可证、下载量，以及实测之前的显存估算。",
            en="Notable open models on the Hugging Face Hub that this catalog lacks: size, licence, downloads, and memory estimates until they are measured.",
        ),
        context={"rows": rows, "search": search},
    )


def stand_in(index: int, hub_id: str) -> ModelEntry:
    """An entry for a model that has none, so that it is estimated exactly as a listed one."""
    name = hub_id.split("/")[1]
    nothing = Text(zh="–", en="–")
    return ModelEntry(
        id=f"new-{index}", hub_id=hub_id, name=name, family="unknown", variant="base", status="current", why=nothing
    )
