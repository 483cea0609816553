"""The whole site as a pure function: dataset and language in, ``{path: bytes}`` out. Two sinks: MkDocs, or a folder."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import jinja2

from .dataset import Dataset
from .records import LANGUAGES, Language
from .views import api, charts
from .views.figures import FILTERS
from .views.page import Page, PageRenderer, language_prefix
from .views.pages import collect_pages


def render(
    dataset: Dataset,
    language: Language,
    pages: Sequence[Page] | None = None,
    known: Collection[str] | None = None,
) -> tuple[Mapping[str, bytes], Mapping[str, Page]]:
    """Markdown of every page in `language`: path → bytes, and path → the page it came from.

    `known` names the paths that pages may link to, where `pages` is only a part of the site.

    Raises `DeadLink` for a link to a page that does not exist and `ValueError` for a phrase without its twin.
    """
    pages = collect_pages(dataset) if pages is None else pages
    by_path = {page.path: page for page in pages}
    if len(by_path) != len(pages):
        raise ValueError("two pages share one path")
    renderer = PageRenderer(language, by_path if known is None else known, FILTERS)
    return {page.path: renderer.render(page).encode() for page in pages}, by_path


RENDERING_ERRORS = (ValueError, LookupError, jinja2.TemplateError)
"""What a page raises that cannot be rendered: a dead link, a phrase without its twin, something that is not there."""


def rendering_problems(dataset: Dataset) -> Iterator[tuple[Page, Exception]]:
    """Each page that cannot be rendered, once, with the reason."""
    pages = collect_pages(dataset)
    failed: set[str] = set()
    for language in LANGUAGES:
        renderer = PageRenderer(language, [page.path for page in pages], FILTERS)
        for page in pages:
            try:
                renderer.render(page)
            except RENDERING_ERRORS as error:
                if page.path not in failed:
                    failed.add(page.path)
                    yield page, error


def render_shared(dataset: Dataset) -> Mapping[str, bytes]:
    """Files that all languages share: the JSON API and the figures (which carry their language in their name)."""
    return {**api.files(dataset), **charts.files(dataset)}


def write_pages(dataset: Dataset, folder: Path) -> int:
    """Write pages (``<path>``, ``en/<path>``) and API under `folder`, replacing it whole; returns the count."""
    pages = collect_pages(dataset)
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    count = 0
    for language in LANGUAGES:
        for path, content in render(dataset, language, pages)[0].items():
            count += write(staging / language_prefix(language) / path, content)
    for path, content in render_shared(dataset).items():
        count += write(staging / path, content)
    if folder.exists():
        shutil.rmtree(folder)
    staging.chmod(0o755)
    staging.rename(folder)
    return count


def write(path: Path, content: bytes) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return 1
