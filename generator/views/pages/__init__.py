"""The pages of the guide: one module per section, each with ``pages(dataset) -> Iterator[Page]``."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ...dataset import Dataset
from ..page import Page
from . import home, models

SECTIONS: tuple[Callable[[Dataset], Iterator[Page]], ...] = (home.pages, models.pages)


def collect_pages(dataset: Dataset) -> list[Page]:
    """Every page of the site, in a stable order."""
    return [page for section in SECTIONS for page in section(dataset)]
