"""Charts in a real browser: loaded late, drawn from the table behind them, in the colours of the scheme in force."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from generator.dataset import Dataset
from generator.views import charts
from generator.views.measured import measured_cells
from generator.views.pages.explorer import PAGE_ROWS

from .conftest import ROOT

LIBRARY = re.compile(r"/plotly-")
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1440, "height": 900}


def test_the_bundle_is_the_one_that_was_recorded() -> None:
    bundle = (ROOT / "docs" / charts.BUNDLE).read_bytes()
    assert hashlib.sha256(bundle).hexdigest() == charts.BUNDLE_SHA256
    assert charts.BUNDLE_SHA256 in (ROOT / "docs/assets/vendor/ORIGIN.txt").read_text(encoding="utf-8")
    assert charts.BUNDLE.rpartition("/")[2] in (ROOT / "docs/assets/js/charts.mjs").read_text(encoding="utf-8")


def test_figures_use_only_what_the_bundle_draws_and_colour_tokens(dataset: Dataset) -> None:
    tokens = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs/assets/css").glob("*.css"))
    for name, make in charts.FIGURES.items():
        for language in ("zh", "en"):
            figure = make(dataset, language)  # type: ignore[arg-type]
            assert {trace["type"] for trace in figure["data"]} <= charts.TRACES, name
            text = json.dumps(figure)
            assert not re.search(r"#[0-9a-f]{3,8}\b|rgb\(", text), f"{name}: a colour of one scheme"
            for token in set(re.findall(r"var\((--fa-[\w-]+)\)", text)):
                assert f"{token}:" in tokens, f"{name}: {token}"


@pytest.fixture(scope="module")
def tab(browser: Any) -> Iterator[Any]:
    context = browser.new_context(viewport=DESK, color_scheme="light")
    page = context.new_page()
    page.set_default_timeout(20_000)
    page.problems, page.asked = [], []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("console", lambda line: page.problems.append(line.text) if line.type in ("error", "warning") else None)
    page.on("request", lambda request: page.asked.append(request.url))
    yield page
    context.close()


def visit(tab: Any, url: str) -> Any:
    tab.problems.clear()
    tab.asked.clear()
    tab.goto(url)
    return tab


def wait_until_drawn(tab: Any, selector: str) -> None:
    tab.locator(selector).first.scroll_into_view_if_needed()
    tab.wait_for_selector(f"{selector}[data-drawn]")


@pytest.mark.browser
def test_the_library_loads_only_when_a_chart_is_near(tab: Any, site_url: str) -> None:
    visit(tab, f"{site_url}/methods/").wait_for_timeout(300)
    assert not [url for url in tab.asked if LIBRARY.search(url)]
    visit(tab, f"{site_url}/models/qwen2.5-7b/").wait_for_timeout(300)
    assert not [url for url in tab.asked if LIBRARY.search(url)]
    wait_until_drawn(tab, '[data-curve="memory"]')
    assert len([url for url in tab.asked if LIBRARY.search(url)]) == 1
    assert all(url.startswith(site_url) for url in tab.asked if not url.startswith("data:"))
    assert tab.problems == []


@pytest.mark.browser
def test_curves_agree_with_the_table_and_show_measured_points(tab: Any, site_url: str, dataset: Dataset) -> None:
    visit(tab, f"{site_url}/en/models/qwen2.5-7b/")
    wait_until_drawn(tab, '[data-curve="memory"]')
    tab.select_option('.chart-tools [name="memory"]', "allocated")
    tab.wait_for_function(
        "document.querySelector('[data-curve=memory]').data.some(t => t.meta.role === 'points' && t.x.length > 1)"
    )
    drawn = tab.evaluate(
        "document.querySelector('[data-curve=memory]').data.filter(t => t.meta.role === 'points')"
        ".flatMap(t => t.x.map((x, i) => [t.meta.method, x, t.y[i]]))"
    )
    wanted = {
        (c.method, c.seq_len, round((c.peak_allocated_bytes or 0) / 2**30, 6))
        for c in measured_cells(dataset)
        if c.hub_id == "Qwen/Qwen2.5-7B"
        and c.recipe == "stock"
        and c.gradient_checkpointing
        and c.micro_batch == 1
        and c.gpu_count == 1
        and c.lora_rank in (16, None)
        and c.lora_targets in ("all-linear", None)
    }
    assert {(method, x, round(y, 6)) for method, x, y in drawn} == wanted and wanted
    assert tab.locator(".curves details.behind table").count() >= 1


@pytest.mark.browser
def test_colours_follow_the_scheme_without_a_reload(tab: Any, site_url: str) -> None:
    visit(tab, f"{site_url}/models/qwen2.5-7b/")
    wait_until_drawn(tab, '[data-curve="memory"]')
    colour = "document.querySelector('[data-curve=memory]').data[1].line.color"
    light = tab.evaluate(colour)
    tab.evaluate("document.body.setAttribute('data-md-color-scheme', 'slate')")
    tab.wait_for_function(f"{colour} !== '{light}'")
    tab.evaluate("document.body.setAttribute('data-md-color-scheme', 'default')")
    tab.wait_for_function(f"{colour} === '{light}'")


@pytest.mark.browser
@pytest.mark.parametrize(
    "path",
    ["models/qwen2.5-7b/", "gpus/rtx-4090/", "data/accuracy/", "data/cells/", "compare/methods/", "compare/recipes/"],
)
def test_charts_fit_a_phone_and_every_one_has_a_table(tab: Any, site_url: str, path: str) -> None:
    tab.set_viewport_size(PHONE)
    try:
        visit(tab, f"{site_url}/en/{path}")
        boxes = tab.locator("[data-figure]")
        for index in range(boxes.count()):
            boxes.nth(index).scroll_into_view_if_needed()
        tab.keyboard.press("Shift")  # a phone draws from the first touch on
        tab.wait_for_function("[...document.querySelectorAll('[data-figure]')].every(b => 'drawn' in b.dataset)")
        assert tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
        assert tab.evaluate(
            "[...document.querySelectorAll('[data-figure]')].every(b =>"
            " (b.closest('.curves') ?? b.closest('figure')).querySelector('table')"
            " && b.data.some(t => t.x && t.x.length > 0))"
        )
        assert tab.problems == []
    finally:
        tab.set_viewport_size(DESK)


@pytest.mark.browser
def test_the_explorer_filters_draws_and_downloads(tab: Any, site_url: str, dataset: Dataset) -> None:
    visit(tab, f"{site_url}/en/data/cells/")
    wait_until_drawn(tab, "[data-figure]")
    every = measured_cells(dataset)
    own = [cell for cell in every if cell.method == "qlora"]
    assert 0 < len(own) < len(every)
    drawn = "document.querySelector('[data-figure]').data.reduce((n, t) => n + t.x.length, 0)"
    assert tab.evaluate(drawn) == sum(cell.estimated_allocated_bytes is not None for cell in every)
    tab.click('.chip[data-key="method"][data-value="qlora"]')
    shown = sum(cell.estimated_allocated_bytes is not None for cell in own)
    tab.wait_for_function(f"{drawn} === {shown}")
    tab.select_option('.chart-tools [name="colour"]', "recipe")
    tab.wait_for_function("document.querySelector('[data-figure]').data[0].name.length < 6")
    with tab.expect_download() as waited:
        tab.click('[data-format="csv"]')
    rows = list(csv.DictReader(waited.value.path().read_text(encoding="utf-8").splitlines()))
    assert {row["id"] for row in rows} == {cell.id for cell in own}
    measured = {cell.id: str(cell.peak_allocated_bytes or "") for cell in own}
    assert {row["id"]: row["peak_allocated_bytes"] for row in rows} == measured
    with tab.expect_download() as waited:
        tab.click('[data-format="json"]')
    assert json.loads(waited.value.path().read_text(encoding="utf-8"))[0]["method"] == "qlora"
    assert tab.problems == []


@pytest.mark.browser
def test_a_phone_fetches_the_drawing_script_at_the_first_touch(browser: Any, site_url: str) -> None:
    context = browser.new_context(viewport=PHONE, has_touch=True)
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{site_url}/data/cells/", wait_until="networkidle")
    assert page.locator("[data-waits]").count() == 1
    assert not any("plotly" in url for url in asked)
    page.locator("[data-waits]").tap()
    page.wait_for_selector("[data-figure][data-drawn]")
    context.close()


@pytest.mark.browser
def test_a_long_table_shows_all_its_rows_when_asked(tab: Any, site_url: str, dataset: Dataset) -> None:
    visit(tab, f"{site_url}/en/data/cells/")
    rows, every = tab.locator("#cells tbody tr[data-cell]:visible"), measured_cells(dataset)
    assert rows.count() == min(PAGE_ROWS, len(every))
    tab.locator('#cells th[data-key="allocated"] button').click()
    assert rows.count() == min(PAGE_ROWS, len(every))
    largest = max(cell.peak_allocated_bytes or 0 for cell in every)
    assert rows.first.locator(f'td[data-v="{largest}"]').count() == 1
    if len(every) > PAGE_ROWS:
        tab.click(".table-rest")
        assert rows.count() == len(every)
