"""The model list and a page per model."""

from __future__ import annotations

from collections.abc import Iterator

from ...dataset import Dataset
from ...records import Text
from ..page import Page


def pages(dataset: Dataset) -> Iterator[Page]:
    """The list, then every model of the catalog."""
    yield Page(
        path="models/index.md",
        template="models.md.j2",
        title=Text(zh="模型列表", en="All models"),
        description=Text(zh="可微调的开源模型一览。", en="Open models worth fine-tuning, in one table."),
        context={"models": dataset.models},
    )
    for model in dataset.catalog.models.values():
        yield Page(
            path=f"models/{model.id}.md",
            template="model.md.j2",
            title=Text(
                zh=f"{model.name} 微调：显存、速度与选择", en=f"Fine-tuning {model.name}: memory, speed, choice"
            ),
            description=model.why,
            context={"model": model, "facts": dataset.facts(model)},
            edit=f"catalog/models/{model.id}.yaml",
        )
