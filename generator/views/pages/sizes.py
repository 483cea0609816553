"""Size classes: what each is good for, where it ends, and what it takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from statistics import median

from ...dataset import Dataset
from ...evidence import columns_of, weigh
from ...ranking import load_ranking
from ...records import ModelEntry, SizeClassEntry, Text
from ..cells import cells_of, judge, usable_bytes
from ..page import Page
from .models import LENGTHS, SpeedTables, speed_tables

METHODS = (("qlora", "stock"), ("qlora", "lean"), ("lora", "stock"), ("full_bf16_adam8bit", "stock"), ("full", "stock"))


def span(entry: SizeClassEntry) -> str:
    """``1B–5B``, ``< 1B``, ``≥ 100B``."""
    if entry.high_billions is None:
        return f"≥ {entry.low_billions:g}B"
    return (
        f"< {entry.high_billions:g}B" if not entry.low_billions else f"{entry.low_billions:g}B–{entry.high_billions:g}B"
    )


def standings(dataset: Dataset) -> dict[str, float]:
    """Hub id → share of the comparable models that its published scores, of all benchmarks, are not below."""
    quality = load_ranking(dataset.root).quality
    known = [model.hub_id for model in dataset.catalog.models.values()]
    columns = columns_of(dataset.catalog.benchmarks.values(), quality.least_compared)
    found = weigh(columns, (), known, quality.ridge)
    return {hub_id: evidence.standing for hub_id, evidence in found.items()}


def best_scored(models: Iterable[ModelEntry], standing: dict[str, float]) -> tuple[ModelEntry, float] | None:
    """The current model with the best standing (first by id among equals); None where no scores compare."""
    scored = [(m, standing[m.hub_id]) for m in models if m.status == "current" and m.hub_id in standing]
    return min(scored, key=lambda pair: (-pair[1], pair[0].id), default=None)


def typical_speeds(
    tables: SpeedTables, models: Iterable[ModelEntry], fits: Callable[[ModelEntry, str], bool]
) -> dict[str, float]:
    """Card → median estimated tokens per second of the current models that fit it: QLoRA, stock, 1 × 2,048 tokens."""
    at = LENGTHS.index(2048)
    rates: dict[str, list[float]] = {}
    for model in models:
        for card, method, recipe, values in tables.get(model.hub_id, ()):
            rate = values[at]
            wanted = model.status == "current" and (method, recipe) == ("qlora", "stock")
            if wanted and rate is not None and fits(model, card):
                rates.setdefault(card, []).append(rate)
    return {card: median(values) for card, values in rates.items()}


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

    standing = standings(dataset)
    tables = speed_tables(cells)
    usable = {card.name: usable_bytes(card) for card in catalog.gpus.values()}

    def fits(model: ModelEntry, card: str) -> bool:
        return judge(cells.need(model, "qlora"), usable[card]) in ("yes", "tight")

    abilities = [(e, best_scored(of[e.id], standing), typical_speeds(tables, of[e.id], fits)) for e in entries]
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
        context={
            "entries": entries,
            "ranges": ranges,
            "span": span,
            "of": of,
            "catalog": catalog,
            "abilities": abilities,
            "cards": list(dict.fromkeys(card for _, _, speeds in abilities for card in speeds)),
        },
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
