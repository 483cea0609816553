"""Size classes: what each is good for, where it ends, and what it takes."""

from __future__ import annotations

from collections.abc import Iterator

from ...dataset import Dataset
from ...records import SizeClassEntry, Text
from ..cells import cells_of
from ..page import Page

METHODS = (("qlora", "stock"), ("qlora", "lean"), ("lora", "stock"), ("full_bf16_adam8bit", "stock"), ("full", "stock"))


def span(entry: SizeClassEntry) -> str:
    """``1B–5B``, ``< 1B``, ``≥ 100B``."""
    if entry.high_billions is None:
        return f"≥ {entry.low_billions:g}B"
    return (
        f"< {entry.high_billions:g}B" if not entry.low_billions else f"{entry.low_billions:g}B–{entry.high_billions:g}B"
    )


def pages(dataset: Dataset) -> Iterator[Page]:
    """``sizes/index.md`` and ``sizes/<id>.md``."""
    cells, catalog = cells_of(dataset), dataset.catalog
    entries = sorted(catalog.size_classes.values(), key=lambda entry: entry.order)
    of = {
        entry.id: [m for m in catalog.models.values() if (size := dataset.size_class(m)) and size.id == entry.id]
        for entry in entries
    }

    def extent(entry: SizeClassEntry, method: str, recipe: str) -> tuple[float, float] | None:
        values = [n.value for m in of[entry.id] if m.status == "current" and (n := cells.need(m, method, recipe))]
        return (min(values), max(values)) if values else None

    ranges = {entry.id: [extent(entry, *column) for column in METHODS] for entry in entries}
    yield Page(
        path="sizes/index.md",
        template="sizes.md.j2",
        title=Text(
            zh="模型规模怎么选：从不到 1B 到 100B 以上", en="Which model size to fine-tune: below 1B to above 100B"
        ),
        description=Text(
            zh="六档规模各适合什么任务、有什么局限、用 QLoRA、LoRA、全量微调各需多少显存，以及该不该微调。",
            en="Six size classes: what each is good for, where it ends, what QLoRA, LoRA and full fine-tuning need, and whether to fine-tune it.",
        ),
        context={"entries": entries, "ranges": ranges, "span": span, "of": of, "catalog": catalog},
        hide=(),
    )
    for place, entry in enumerate(entries):
        examples = [catalog.models[key] for key in entry.examples if key in catalog.models]
        yield Page(
            path=f"sizes/{entry.id}.md",
            template="size.md.j2",
            title=Text(
                zh=f"{entry.name.zh}模型微调：能做什么、要什么", en=f"Fine-tuning {entry.name.en}: uses, limits, memory"
            ),
            description=Text(zh=entry.summary.zh[:150], en=entry.summary.en[:158]),
            context={
                "entry": entry,
                "span": span(entry),
                "ranges": ranges[entry.id],
                "count": len(of[entry.id]),
                "parameters": dataset.parameters,
                "examples": [(m, [cells.need(m, *column) for column in METHODS], dataset.licence(m)) for m in examples],
                "before": entries[place - 1] if place else None,
                "after": entries[place + 1] if place + 1 < len(entries) else None,
            },
            edit=f"catalog/size_classes/{entry.id}.yaml",
            hide=(),
        )
