"""A page per GPU: what it can fine-tune, and its neighbours."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache

from ...dataset import Dataset
from ...records import GIB, Fit, GpuEntry, ModelEntry, Text
from ..cells import Cells, Need, cells_of, judge, usable_bytes
from ..page import Page

WAYS: tuple[tuple[str, str], ...] = (
    ("qlora", "lean"),
    ("qlora", "stock"),
    ("lora", "lean"),
    ("lora", "stock"),
    ("full_bf16_adam8bit", "lean"),
    ("full", "stock"),
)
LENGTHS: tuple[int, ...] = (512, 1024, 2048, 4096, 8192)
NEIGHBOURS = 6
LADDER: tuple[tuple[int, str], ...] = (
    (6, "rtx-2060-6gb"), (8, "rtx-3070"), (12, "rtx-3060-12gb"), (16, "rtx-4060-ti-16gb"), (24, "rtx-4090"),
    (32, "rtx-5090"), (48, "l40s"), (80, "a100-sxm-80gb"), (141, "h200-sxm-141gb"),
)  # fmt: skip
"""Sizes in GB and the card that stands for each: what a page's own card is drawn against."""
DRAWN: tuple[tuple[str, str], ...] = (("qlora", "stock"), ("lora", "stock"))
"""Ways of the two figures."""
Suited = list[tuple[ModelEntry, list[tuple[Need | None, Fit | None]]]]
SHOWN = 25
TINY = 6
"""Smallest models that the page of the machine without a GPU names."""


def pages(dataset: Dataset) -> Iterator[Page]:
    """Every card and machine of the catalog."""
    cells = cells_of(dataset)
    current = [m for m in dataset.catalog.models.values() if m.status == "current" and m.id in dataset.parameters]
    current.sort(key=lambda m: (-dataset.parameters[m.id], m.id))
    by_size: dict[float | None, list[list[tuple[ModelEntry, Need] | None]]] = {}
    gpus = dataset.catalog.gpus

    def by_way(gpu: GpuEntry) -> list[list[tuple[ModelEntry, Need] | None]]:
        usable = usable_bytes(gpu)
        if usable not in by_size:
            by_size[usable] = [largest_by_length(cells, current, method, recipe, usable) for method, recipe in WAYS]
        return by_size[usable]

    @cache
    def suited_to(usable: float | None) -> Suited:
        return suited(cells, current, usable)

    for gpu in gpus.values():
        usable = usable_bytes(gpu)
        largest = by_way(gpu)
        best = largest[0][LENGTHS.index(2048)]
        yield Page(
            path=f"gpus/{gpu.id}.md",
            template="gpu.md.j2",
            title=Text(zh=f"{gpu.name} 能微调多大的模型", en=f"What {gpu.name} can fine-tune"),
            description=Text(
                zh=f"{gpu.name}：LoRA、QLoRA 和全量微调各能放下的最大模型，随序列长度变化，附相近显卡。",
                en=f"{gpu.name}: the largest model that LoRA, QLoRA and full fine-tuning fit, by length, and its neighbours.",
            ),
            context={
                "gpu": gpu,
                "usable": usable,
                "card": gpus.get(gpu.card or ""),
                "best": best,
                "ways": list(zip(WAYS, largest, strict=True)),
                "lengths": LENGTHS,
                "drawn": [
                    (method, recipe, [(card, by_way(card)[WAYS.index((method, recipe))]) for card in beside(gpu, gpus)])
                    for method, recipe in DRAWN
                ],
                "methods": dataset.catalog.methods,
                "recipes": dataset.catalog.recipes,
                "models": suited_to(usable),
                "neighbours": neighbours(gpu, gpus.values()),
                "tiny": current[: -TINY - 1 : -1],
                "gpus": gpus,
                "parameters": dataset.parameters,
                "GIB": GIB,
            },
            edit=f"catalog/gpus/{gpu.id}.yaml",
        )


def largest_by_length(
    cells: Cells, current: list[ModelEntry], method: str, recipe: str, usable: float | None
) -> list[tuple[ModelEntry, Need] | None]:
    """Per length the largest model that surely fits with micro-batch 1; `current` goes from large to small."""
    found: list[tuple[ModelEntry, Need] | None] = []
    start = 0
    for length in LENGTHS:
        answer = None
        for position in range(start, len(current)):
            need = cells.need(current[position], method, recipe, seq_len=length)
            if judge(need, usable) == "yes" and need is not None:
                answer = (current[position], need)
                start = position
                break
        found.append(answer)
    return found


def beside(gpu: GpuEntry, gpus: Mapping[str, GpuEntry]) -> list[GpuEntry]:
    """The card itself and up to two steps of memory below and above it, as cards are sold."""
    ladder = [gpus[name] for size, name in LADDER if name in gpus and size != gpu.memory_gb]
    below = [card for card in ladder if card.memory_gb < gpu.memory_gb][-2:]
    above = [card for card in ladder if card.memory_gb > gpu.memory_gb][:2]
    return [gpu, *below, *above]


def suited(cells: Cells, current: list[ModelEntry], usable: float | None) -> Suited:
    """The largest models with some set-up that fits or is tight, with (need, verdict) for QLoRA and LoRA."""
    rows = []
    for model in current:
        needs = [cells.need(model, method, recipe) for method, recipe in WAYS[:4]]
        verdicts = [judge(need, usable) for need in needs]
        if any(verdict in ("yes", "tight") for verdict in verdicts):
            rows.append((model, list(zip(needs, verdicts, strict=True))))
        if len(rows) == SHOWN:
            break
    return rows


def neighbours(gpu: GpuEntry, gpus: Iterable[GpuEntry]) -> list[GpuEntry]:
    """Cards of the same number and nearest total memory, nearest first, then by name; the smallest for no GPU."""
    others = [
        other
        for other in gpus
        if other.id != gpu.id and other.gpu_count == (gpu.gpu_count or 1) and other.unified_memory == gpu.unified_memory
    ]
    others.sort(
        key=lambda other: (
            abs(other.memory_gb - gpu.memory_gb),
            other.vendor != gpu.vendor,
            other.category != gpu.category,
            abs((other.launch_year or 0) - (gpu.launch_year or 0)),
            other.name,
        )
    )
    return others[:NEIGHBOURS]
