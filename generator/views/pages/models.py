"""A page per model."""

from __future__ import annotations

from collections.abc import Iterator

from ...dataset import Dataset
from ...records import Text
from ..page import Page


def pages(dataset: Dataset) -> Iterator[Page]:
    """Every model of the catalog."""
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
