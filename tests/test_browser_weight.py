"""What the first look at a page costs: bytes over the wire, counted and never timed."""

from __future__ import annotations

import gzip
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from .conftest import Site

pytestmark = pytest.mark.browser
LIMIT = 300_000
"""Bytes of home's first load: page, styles, scripts and data, compressed; charts are not on it."""
MODEL_LIMIT = 150_000
"""Bytes of a model page before its charts come near the screen."""


def first_load(browser: Any, site: Site, url: str, ready: str) -> dict[str, int]:
    """Path → compressed bytes (gzip, level 6) of everything that opening a page fetches without being touched."""
    context = browser.new_context(viewport={"width": 390, "height": 844})
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(url)
    page.wait_for_selector(ready)
    page.wait_for_load_state("networkidle")
    context.close()
    sizes = {}
    for address in asked:
        path = unquote(urlsplit(address).path)
        file = site.folder / path.lstrip("/")
        file = file / "index.html" if file.is_dir() else file
        if address.startswith("http") and file.is_file():
            packed = file.suffix in (".png", ".jpg", ".webp", ".gz")
            content = file.read_bytes()
            sizes[path] = len(content if packed else gzip.compress(content, 6, mtime=0))
    return sizes


@pytest.mark.parametrize("prefix", ["/", "/en/"])
def test_home_is_light(browser: Any, site: Site, site_url: str, prefix: str, capsys: Any) -> None:
    sizes = first_load(browser, site, site_url + prefix, "[data-picker][data-ready]")
    assert any(path.endswith("coefficients.json") for path in sizes)
    assert not any("plotly" in path or "search_index" in path or "measured" in path for path in sizes)
    with capsys.disabled():
        print(f"\nfirst load of {prefix}: {sum(sizes.values()):,} bytes in {len(sizes)} files")
    assert sum(sizes.values()) <= LIMIT, sizes


def test_a_model_page_is_light(browser: Any, site: Site, site_url: str) -> None:
    sizes = first_load(browser, site, f"{site_url}/models/qwen3-8b/", "h1")
    assert not any("plotly" in path or "search_index" in path for path in sizes)
    assert sum(sizes.values()) <= MODEL_LIMIT, sizes


def test_the_search_fetches_its_index_when_it_is_touched(browser: Any, site_url: str) -> None:
    page = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(site_url, wait_until="networkidle")
    assert not any("search_index" in url for url in asked)
    with page.expect_request("**/search_index.json"):
        page.locator(".md-search__input").click()
    page.context.close()
