"""Accessibility of every kind of page: axe-core finds nothing serious, light and dark; on a phone in English."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe

pytestmark = pytest.mark.browser

PAGES = (
    "",
    "models/",
    "models/qwen3-8b/",
    "models/new/",
    "gpus/",
    "gpus/rtx-3060-12gb/",
    "methods/",
    "methods/qlora/",
    "compare/methods/",
    "recipes/",
    "sizes/small/",
    "scenarios/customer-service-zh/",
    "licences/",
    "article/",
    "data/cells/",
    "data/accuracy/",
    "methodology/",
)
STATES = (
    "?d=qwen3-8b&i=qwen3-8b",
    "?x=qwen3-8b,qwen2.5-7b-instruct,gemma-3-12b-it,phi-4-mini-instruct",
    "?w=qwen2.5-7b-instruct",
    "?g=4gb&m=full&s=8192",
)
"""The home page with details open, four models side by side, the inverse question, and nothing that fits."""
GRAVE = ("serious", "critical")


WAYS = {
    "light": {"prefix": "/", "viewport": {"width": 1440, "height": 900}, "color_scheme": "light"},
    "dark": {"prefix": "/", "viewport": {"width": 1440, "height": 900}, "color_scheme": "dark"},
    "phone": {"prefix": "/en/", "viewport": {"width": 390, "height": 844}, "color_scheme": "light"},
}


@pytest.fixture(scope="module", params=list(WAYS))
def tab(browser: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    way = WAYS[request.param]
    context = browser.new_context(viewport=way["viewport"], color_scheme=way["color_scheme"])
    page = context.new_page()
    page.prefix = way["prefix"]
    yield page
    context.close()


@pytest.mark.parametrize("path", [*PAGES, *STATES])
def test_axe_finds_nothing_serious(tab: Any, site_url: str, path: str) -> None:
    tab.goto(site_url + tab.prefix + path)
    if tab.query_selector("[data-picker]"):
        tab.wait_for_selector("[data-picker][data-ready]", timeout=15000)
        if "d=" in path:
            tab.wait_for_selector(".fa-detail .fa-config code")
    found = Axe().run(tab).response["violations"]
    grave = [
        f"{rule['id']}: {node['html'][:160]}" for rule in found if rule["impact"] in GRAVE for node in rule["nodes"][:3]
    ]
    assert not grave, "\n".join(grave)
