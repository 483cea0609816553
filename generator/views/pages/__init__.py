"""The pages of the guide: one module per section, each with ``pages(dataset) -> Iterator[Page]``."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ...dataset import Dataset
from ..page import Page
from . import (
    accuracy,
    compare,
    conclusions,
    data,
    discovered,
    explorer,
    gpu,
    gpu_list,
    home,
    methods,
    model_list,
    models,
    scenarios,
    sizes,
)

SECTIONS: tuple[Callable[[Dataset], Iterator[Page]], ...] = (
    home.pages,
    model_list.pages,
    models.pages,
    discovered.pages,
    gpu_list.pages,
    gpu.pages,
    methods.pages,
    sizes.pages,
    scenarios.pages,
    conclusions.pages,
    data.pages,
    accuracy.pages,
    explorer.pages,
    compare.pages,
)


def collect_pages(dataset: Dataset) -> list[Page]:
    """Every page of the site, in a stable order."""
    return [page for section in SECTIONS for page in section(dataset)]
