"""What the pages on the data say: what is unknown, what is old, what was not read, when each source was read last."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from generator.dataset import Dataset
from generator.hub.freshness import FACT_FIELDS
from generator.records import LANGUAGES, HubFacts, Language
from generator.views.figures import FILTERS
from generator.views.hub_facts import NAMES, Reading, origins, reading_of
from generator.views.page import PageRenderer
from generator.views.pages import data, models

PATHS = ("data/quality.md", "data/sources.md", "models/new.md", "gpus/index.md", "licences/index.md", "index.md")


def text_of(dataset: Dataset, path: str, language: Language) -> str:
    page = next(page for page in data.pages(dataset) if page.path == path)
    return PageRenderer(language, PATHS, FILTERS).render(page)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_fact_is_on_the_page_of_unknowns_with_its_count(dataset: Dataset, language: Language) -> None:
    assert set(NAMES) == set(FACT_FIELDS) - {"parameters_active"}
    text = text_of(dataset, "data/quality.md", language)
    shown = dict(re.findall(r'<tr><th scope="row">([^<]+)</th><td class="num" data-v="(\d+)">', text))
    assert len(shown) == len(NAMES)
    unknown = {field: sum(getattr(facts, field) is None for facts in dataset.hub.values()) for field in NAMES}
    assert sorted(map(int, shown.values())) == sorted(unknown.values())
    assert f"<strong>{len(dataset.hub)}</strong>" in text


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_source_says_when_it_was_read(dataset: Dataset, language: Language) -> None:
    text = text_of(dataset, "data/sources.md", language)
    for item in data.last_readings(dataset):
        assert item.name[language] in text.replace("&#39;", "'") and item.entries >= item.undated
        assert bool(item.last) is (item.undated < item.entries)
    assert {"zh": "从未", "en": "never"}[language] in text or dataset.discovery


def test_a_figure_is_old_after_thirty_days_and_its_day_is_a_bound_where_nobody_wrote_it_down() -> None:
    live = HubFacts(hub_id="a/b", downloads=1, refreshed="2026-11-01")
    assert reading_of(live, "downloads", "2026-12-01") == Reading("2026-11-01")
    assert reading_of(live, "downloads", "2026-12-02") == Reading("2026-11-01", old=True)
    assert reading_of(HubFacts(hub_id="a/b"), "downloads", "2026-12-02") == Reading("")
    start = HubFacts.model_validate(
        {"hub_id": "a/b", "likes": 1, "provenance": {"likes": {"source": "x", "observed": "<= 2026-09-24 (unsure)"}}}
    )
    (found,) = origins(start, "2026-11-24")
    assert (found.source, found.reading) == ("x", Reading("2026-09-24", bound=True, old=True))


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_stale_model_says_why_on_its_page_and_on_that_of_data_quality(dataset: Dataset, language: Language) -> None:
    model = dataset.catalog.models["qwen3-8b"]
    facts = dataset.facts(model).model_copy(update={"stale": "the Hub answered 503", "renamed_to": "Qwen/Later"})
    bare = model.model_copy(update={"instead": [], "successor": None, "scenarios": []})
    changed = replace(
        dataset, hub={**dataset.hub, model.hub_id: facts}, catalog=replace(dataset.catalog, models={model.id: bare})
    )
    assert "the Hub answered 503" in text_of(changed, "data/quality.md", language)
    page = next(models.pages(changed))
    text = PageRenderer(language, [*PATHS, "methodology.md", "data/accuracy.md", page.path], FILTERS).render(page)
    assert "the Hub answered 503" in text and "Qwen/Later" in text and 'data-read="' in text
