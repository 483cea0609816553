"""Hostile Hub text through to the HTML of every page that shows any: same elements as a harmless record's."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
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
from generator.hub.border import clean
from generator.hub.discovered import Discovered, Discovery
from generator.hub.facts import build_facts
from generator.records import LANGUAGES, HubFacts, Language
from generator.render import FILTERS
from generator.views import api
from generator.views.page import PageRenderer
from generator.views.pages import collect_pages, conclusions, data, discovered, model_list, models
from generator.views.picker_data import picker_document

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
words = words.filter(lambda text: not re.fullmatch(r"\s*[a-z]{2,3}\s*", text))  # those would be languages
FREE = ("licence", "languages")
"""What the Hub may say in words in the picker's data."""


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


def facts_of(hub_id: str, licence: Any, tags: Any, architecture: Any) -> HubFacts:
    """A record as a live refresh makes it from what the Hub says."""
    known = base()[0].hub[base()[0].catalog.models[MODEL].hub_id]
    config = {**(known.config or {}), "architectures": [architecture], "x": architecture, architecture: 1}
    info = {
        "id": hub_id, "sha": "a" * 40, "cardData": {"license": licence, "language": [tags]}, "tags": [tags],
        "pipeline_tag": tags, "library_name": licence, "downloads": 5, "likes": 1, "gated": architecture,
        "baseModels": {"models": [{"id": tags}]}, "createdAt": architecture,
    }  # fmt: skip
    return build_facts(hub_id, info, config, today="2026-11-24", count=count_parameters,
                       count_active=count_active_parameters)  # fmt: skip


@dataclass(frozen=True)
class Shown:
    """What readers get of one record: elements of every page that shows Hub facts, front matters, the picker's data."""

    elements: dict[str, Elements]
    front: dict[str, Any]
    picker: dict[str, Any]


@cache
def show(licence: Any, tags: Any, architecture: Any, new_id: str, language: Language) -> Shown:
    dataset, paths = base()
    hub_id = dataset.catalog.models[MODEL].hub_id
    facts = facts_of(hub_id, licence, tags, architecture)
    found = Discovered(
        facts=facts_of(new_id, licence, tags, architecture), notable=["trending"], first_seen="2026-11-24"
    )
    dataset = replace(
        dataset,
        hub={hub_id: facts},
        discovery=Discovery(searched="2026-11-24", seen=1, left_out={}, models=[found]),
    )
    renderer = PageRenderer(language, paths, FILTERS)
    elements, front = {}, {}
    sections = (models, model_list, discovered, data)
    pages = [page for section in sections for page in section.pages(dataset)]
    pages += [page for page in conclusions.pages(dataset) if page.path == "licences/index.md"]
    for page in pages:
        head, body = renderer.render(page).removeprefix("---\n").split("\n---\n", 1)
        elements[page.path] = Elements()
        elements[page.path].feed(markdown.markdown(body, extensions=EXTENSIONS))
        front[page.path] = yaml.safe_load(head)
    api.encode(facts.model_dump())
    return Shown(elements, front, json.loads(api.encode(picker_document(dataset))))


@settings(max_examples=10, deadline=None)
@given(words, words, words, st.sampled_from(["a/b", "A__b/C--d._x", "0/0"]), st.sampled_from(LANGUAGES))
def test_no_hub_text_changes_the_elements_of_a_page(
    licence: str, tags: str, architecture: str, new_id: str, language: Language
) -> None:
    harmless = show("unheard-of", "text", "Llama", new_id, language)
    hostile = show(licence, tags, architecture, new_id, language)
    assert hostile.front == harmless.front
    assert len(hostile.elements) == 6
    for path, page in hostile.elements.items():
        assert page.tags == harmless.elements[path].tags, path
        assert page.addresses == harmless.elements[path].addresses, path
        assert not any(name.startswith("on") for _, names in page.tags for name in names)
        assert not any(tag in ("script", "iframe", "img", "style") for tag, _ in page.tags)
        assert not any(address.lower().startswith(("javascript", "data")) for address in page.addresses)
    (model,) = hostile.picker["models"]
    assert {**model, **dict.fromkeys(FREE)} == {**harmless.picker["models"][0], **dict.fromkeys(FREE)}
    shown = [model["licence"] or "", *(model["languages"] or ())]
    assert all(len(text) <= 200 and clean(text) == text for text in shown)
