"""Accessibility of every kind of page, light and dark, in both languages: axe-core finds nothing serious."""

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
    "compare/recipes/",
    "recipes/",
    "sizes/small/",
    "scenarios/customer-service-zh/",
    "licences/",
    "conclusion/",
    "article/",
    "data/cells/",
    "data/accuracy/",
    "data/quality/",
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


@pytest.fixture(scope="module", params=["light", "dark"])
def tab(browser: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1440, "height": 900}, color_scheme=request.param)
    yield context.new_page()
    context.close()


@pytest.mark.parametrize("path", [*PAGES, *STATES])
@pytest.mark.parametrize("prefix", ["/", "/en/"])
def test_axe_finds_nothing_serious(tab: Any, site_url: str, prefix: str, path: str) -> None:
    tab.goto(site_url + prefix + path)
    if tab.query_selector("[data-picker]"):
        tab.wait_for_selector("[data-picker][data-ready]", timeout=15000)
        if "d=" in path:
            tab.wait_for_selector(".fa-detail .fa-config code")
    found = Axe().run(tab).response["violations"]
    grave = [
        f"{rule['id']}: {node['html'][:160]}" for rule in found if rule["impact"] in GRAVE for node in rule["nodes"][:3]
    ]
    assert not grave, "\n".join(grave)
