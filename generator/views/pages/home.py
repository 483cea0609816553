"""The home page: the picker."""

from __future__ import annotations

from collections.abc import Iterator

from ...dataset import Dataset
from ...ranking import load_ranking
from ...records import Text
from ..page import Page

PARTS: tuple[tuple[str, Text, Text], ...] = (
    (
        "fit",
        Text(zh="显存", en="Memory"),
        Text(zh="放得下 1，很紧 0.5，放不下 0", en="fits 1, tight 0.5, too big 0"),
    ),
    (
        "quality",
        Text(zh="成绩", en="Scores"),
        Text(
            zh="在可比模型中的位次；没有可比成绩时按固定值",
            en="standing among comparable models; a fixed value without any",
        ),
    ),
    (
        "size",
        Text(zh="规模", en="Size"),
        Text(
            zh="参数量在任务的合适范围内为 1，差一倍减半",
            en="1 inside the range that the task needs, half when a factor of two away",
        ),
    ),
    (
        "start",
        Text(zh="起点", en="Start"),
        Text(zh="对话、基座、代码或推理模型是否合任务", en="chat, base, code or reasoning model, as the task asks"),
    ),
    (
        "language",
        Text(zh="语言", en="Language"),
        Text(zh="厂商写明支持数据的语言", en="the maker names the language of the data"),
    ),
    (
        "licence",
        Text(zh="许可", en="Licence"),
        Text(
            zh="可商用 1，有条件 0.7，未知 0.3，不可 0", en="commercial use 1, with conditions 0.7, unknown 0.3, none 0"
        ),
    ),
    (
        "recency",
        Text(zh="新旧", en="Recency"),
        Text(zh="随发布时间线性降到 0", en="falls in a straight line with age"),
    ),
    (
        "popularity",
        Text(zh="流行", en="Popularity"),
        Text(zh="30 天下载量的对数", en="logarithm of downloads in 30 days"),
    ),
)

LANGUAGES_OF_DATA: tuple[tuple[str, Text], ...] = (
    ("zh", Text(zh="中文", en="Chinese")),
    ("en", Text(zh="英文", en="English")),
    ("ja", Text(zh="日文", en="Japanese")),
    ("ko", Text(zh="韩文", en="Korean")),
    ("de", Text(zh="德文", en="German")),
    ("fr", Text(zh="法文", en="French")),
    ("es", Text(zh="西班牙文", en="Spanish")),
    ("ru", Text(zh="俄文", en="Russian")),
)

MODULES: tuple[str, ...] = tuple(
    f"{name}.mjs"
    for name in ("picker", "answers", "elements", "estimate", "runs", "picker_rows", "age", "state", "rank", "words")
)
"""Scripts that the first answer needs, fetched side by side instead of one after the other finds them."""


def pages(dataset: Dataset) -> Iterator[Page]:
    """The one home page."""
    catalog = dataset.catalog
    ranking = load_ranking(dataset.root)
    weights = ranking.weights.model_dump()
    yield Page(
        path="index.md",
        template="home.md.j2",
        title=Text(zh="微调选型：我的显卡能微调什么", en="What can my GPU fine-tune?"),
        description=Text(
            zh="按显卡和任务选开源模型与微调方法：实测数据、带区间的估算、每个数字都有出处。",
            en="Which open model to fine-tune on your GPU, with which method, and what it takes: measured, "
            "or estimated with its range.",
        ),
        context={
            "modules": MODULES,
            "gpus": list(catalog.gpus.values()),
            "tasks": sorted(catalog.scenarios.values(), key=lambda task: task.order),
            "methods": sorted((m for m in catalog.methods.values() if m.measured_id), key=lambda m: m.order),
            "recipes": list(catalog.recipes.values()),
            "languages": LANGUAGES_OF_DATA,
            "parts": [(name, how) for _, name, how in PARTS],
            "weights": [f"{weights[key]:g}" for key, _, _ in PARTS],
            "bridge": f"{ranking.quality.bridge:g}",
            "model_count": len(catalog.models),
            "data_date": dataset.data_date,
        },
        edit="catalog/ranking.yaml",
        hide=("navigation", "toc"),
    )
