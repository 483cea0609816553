"""The hardware list: every card and machine, and the largest model it trains with each method."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from ...dataset import Dataset
from ...records import GpuEntry, Text
from ..cells import cells_of, usable_bytes
from ..page import Page

COLUMNS: tuple[tuple[str, str], ...] = (
    ("qlora", "stock"),
    ("qlora", "lean"),
    ("lora", "stock"),
    ("full_bf16_adam8bit", "lean"),
    ("full", "stock"),
)
"""Method and recipe of each column of the table."""

CATEGORIES: tuple[tuple[str, Text], ...] = (
    ("none", Text(zh="没有 GPU", en="No GPU")),
    ("laptop", Text(zh="笔记本", en="Laptops")),
    ("consumer", Text(zh="消费级", en="Consumer")),
    ("workstation", Text(zh="工作站", en="Workstation")),
    ("data_centre", Text(zh="数据中心", en="Data centre")),
    ("desktop_unified", Text(zh="统一内存", en="Unified memory")),
)

STEPS_GB = (4, 6, 8, 12, 16, 24, 32, 48, 80, 141)
"""Memory sizes of the short table, as cards are sold."""


def tightest(cards: Iterable[GpuEntry]) -> GpuEntry:
    """The card that leaves the least memory to a process."""
    return min(cards, key=lambda gpu: (usable_bytes(gpu) or 0.0, gpu.id))


def pages(dataset: Dataset) -> Iterator[Page]:
    """``gpus/index.md``."""
    cells, gpus = cells_of(dataset), dataset.catalog.gpus
    rows = [
        {"gpu": gpu, "usable": usable_bytes(gpu), "best": [cells.largest(gpu, m, r) for m, r in COLUMNS]}
        for gpu in sorted(gpus.values(), key=lambda g: (g.memory_gb * max(g.gpu_count, 1), g.gpu_count, g.name))
    ]
    ladder = []
    for size in STEPS_GB:
        cards = [g for g in gpus.values() if g.memory_gb == size and g.gpu_count == 1 and g.vendor == "NVIDIA"]
        cards.sort(key=lambda g: (g.category != "consumer", -(g.launch_year or 0), g.name))
        if cards:
            least = tightest(cards)
            ladder.append({"size": size, "cards": cards[:3], "best": [cells.largest(least, m, r) for m, r in COLUMNS]})
    counts: Counter[str] = Counter(gpu.category for gpu in gpus.values())
    yield Page(
        path="gpus/index.md",
        template="gpus.md.j2",
        title=Text(zh="显卡列表：每张卡最大能微调多大的模型", en="GPUs: the largest model each one can fine-tune"),
        description=Text(
            zh=f"从没有 GPU、4 GB 到 8×H200，{len(rows)} 种显卡和机器：显存、带宽、算力，以及每种微调方法放得下的最大模型。",
            en=f"From no GPU and 4 GB to 8×H200: {len(rows)} cards and machines, and the largest model each one trains with each method.",
        ),
        context={
            "rows": rows,
            "ladder": ladder,
            "vendors": Counter(gpu.vendor for gpu in gpus.values() if gpu.gpu_count).most_common(),
            "categories": [(key, name, counts[key]) for key, name in CATEGORIES if counts[key]],
            "category_names": dict(CATEGORIES),
            "parameters": dataset.parameters,
        },
        hide=("navigation", "toc"),
    )
