"""The home page."""

from __future__ import annotations

from collections.abc import Iterator

from ...dataset import Dataset
from ...records import Text
from ..page import Page


def pages(dataset: Dataset) -> Iterator[Page]:
    """The one home page."""
    yield Page(
        path="index.md",
        template="home.md.j2",
        title=Text(zh="微调选型：我的显卡能微调什么", en="What can my GPU fine-tune?"),
        description=Text(
            zh="按显卡和任务选开源模型与微调方法：实测数据、公开误差的估算、每个数字都有出处。",
            en="Which open model to fine-tune on your GPU, with which method, and what it takes: measured, "
            "or estimated with a published error.",
        ),
        context={"models": dataset.models, "runs": dataset.runs, "data_date": dataset.data_date},
        hide=("navigation", "toc"),
    )
