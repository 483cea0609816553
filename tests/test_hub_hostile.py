"""Hostile Hub text through to the HTML of a model's page: same elements as a harmless record, nothing that runs."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import markdown
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from generator.architecture import count_active_parameters, count_parameters
from generator.dataset import Dataset, load_dataset
from generator.hub.facts import build_facts
from generator.records import LANGUAGES, Language
from generator.render import FILTERS
from generator.views import api
from generator.views.page import Page, PageRenderer
from generator.views.pages import collect_pages, models

ROOT = Path(__file__).parents[1]
EXTENSIONS = [
    "abbr",
    "admonition",
    "attr_list",
    "def_list",
    "footnotes",
    "md_in_html",
    "tables",
    "pymdownx.superfences",
]
MODEL = "qwen3-8b"
nasty = st.sampled_from([
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "</td></table><h1>x</h1>", "[a](javascript:alert(1))",
    "![x](https://evil.example/x.png)", "{{ 7*7 }}", "{% raw %}", "{: onclick=alert(1) }", "---\ntitle: x", "```\nx",
    "\u202eevil\u200b", "\x00\x1b[2J", "\" onmouseover=\"alert(1)", "' x='", "&lt;script&gt;", "<!--", "]]>", "|a|b|",
    "*[HTML]: x", "[^1]: x", "javascript:alert(1)", "!!python/object:os.system", "A" * 5000, "<https://evil.example>",
])  # fmt: skip
words = nasty | st.text(max_size=30) | st.builds(lambda a, b: a + b, nasty, st.text(max_size=8))


@cache
def base() -> tuple[Dataset, list[str]]:
    dataset, problems = load_dataset(ROOT)
    assert problems == []
    kept = {MODEL: dataset.catalog.models[MODEL]}
    bare = {
        MODEL: kept[MODEL].model_copy(update={"licence": None, "languages": None, "instead": [], "successor": None})
    }
    return replace(dataset, catalog=replace(dataset.catalog, models=bare)), [
        page.path for page in collect_pages(dataset)
    ]


class Elements(HTMLParser):
    """Tags in order with the names of their attributes; addresses apart."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(sorted(name for name, _ in attrs))))
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src", "action")]


def elements(licence: Any, tags: Any, architecture: Any, language: Language) -> tuple[Elements, dict[str, Any]]:
    dataset, paths = base()
    hub_id = dataset.catalog.models[MODEL].hub_id
    config = {**(dataset.hub[hub_id].config or {}), "architectures": [architecture], "x": architecture, architecture: 1}
    info = {
        "id": hub_id, "sha": "a" * 40, "cardData": {"license": licence, "language": [tags]}, "tags": [tags],
        "pipeline_tag": tags, "library_name": licence, "downloads": 5, "likes": 1,
    }  # fmt: skip
    facts = build_facts(hub_id, info, config, today="2026-11-24", count=count_parameters,
                        count_active=count_active_parameters)  # fmt: skip
    dataset = replace(dataset, hub={**dataset.hub, hub_id: facts})
    api.encode(facts.model_dump())
    page: Page = next(models.pages(dataset))
    head, body = PageRenderer(language, paths, FILTERS).render(page).removeprefix("---\n").split("\n---\n", 1)
    found = Elements()
    found.feed(markdown.markdown(body, extensions=EXTENSIONS))
    return found, yaml.safe_load(head)


@settings(max_examples=15, deadline=None)
@given(words, words, words, st.sampled_from(LANGUAGES))
def test_no_hub_text_changes_the_elements_of_a_model_page(
    licence: str, tags: str, architecture: str, language: Language
) -> None:
    harmless, front = elements("unheard-of", "text", "Llama", language)
    hostile, hostile_front = elements(licence, tags, architecture, language)
    assert hostile.tags == harmless.tags
    assert hostile.addresses == harmless.addresses
    assert hostile_front == front
    assert not any(name.startswith("on") for _, names in hostile.tags for name in names)
    assert not any(tag == "script" for tag, _ in hostile.tags)
    assert not any(address.lower().startswith("javascript") for address in hostile.addresses)
