"""The views on the real catalog: figures, cells, claims, and a page for every section of the article."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date

import pytest

from generator.dataset import Dataset
from generator.records import GIB, LANGUAGES, Case, Language, Run
from generator.render import render
from generator.views import figures
from generator.views.cells import EXAMPLES, METHODS, Cells, cells_of, judge, usable_bytes
from generator.views.claims import decide, hold_claims, order
from generator.views.page import Page
from generator.views.pages import collect_pages
from generator.views.pages.conclusions import SECTIONS
from generator.views.pages.methods import clip
from generator.views.pages.scenarios import recommended
from generator.views.pages.sizes import best_scored, span, standings, typical_speeds

CJK = re.compile(r"[\u3400-\u9fff]")


@pytest.mark.parametrize(
    ("size", "written"),
    [
        (None, "–"),
        (float("nan"), "–"),
        (6.24 * GIB, "6.2"),
        (0.624 * GIB, "0.62"),
        (62.4 * GIB, "62"),
        (1234 * GIB, "1,234"),
    ],
)
def test_memory_has_as_many_decimals_as_it_deserves(size: float | None, written: str) -> None:
    assert figures.gib(size) == written


@pytest.mark.parametrize(
    ("value", "written"),
    [(None, "–"), (134e6, "134M"), (999_885_952, "1B"), (999.4e6, "999M"), (7.62e9, "7.62B"), (1.026e12, "1.03T")],
)
def test_parameters_are_written_in_the_unit_that_fits(value: float | None, written: str) -> None:
    assert figures.billions(value) == written


@pytest.mark.parametrize(
    ("value", "written"),
    [(None, "–"), (420, "420"), (999.6, "1k"), (45_300, "45.3k"), (999_990, "1M"), (3.4e6, "3.4M")],
)
def test_popularity_is_written_by_magnitude(value: float | None, written: str) -> None:
    assert figures.short_count(value) == written


@pytest.mark.parametrize(("value", "written"), [(24.0, "24"), (1.5, "1.5"), (None, "–")])
def test_given_figures_stay_as_given(value: float | None, written: str) -> None:
    assert figures.plain(value) == written


@pytest.mark.parametrize("url", ["javascript:alert(1)", "data:text/html,x", "", None, "//evil.example"])
def test_only_web_addresses_become_links(url: str | None) -> None:
    assert figures.href(url) == "#"


def test_anchors_are_safe_in_addresses() -> None:
    assert figures.anchor("Qwen3.5 / 3.6 <b>") == "qwen3-5-3-6-b"


@pytest.mark.parametrize(
    ("values", "low", "high", "verdict"),
    [
        ([9, 10], 8, 12, "holds"),
        ([3, 3.9], None, 4, "holds"),
        ([31, 45], 30, None, "holds"),
        ([5, 6], None, 4, "too_low"),
        ([13, 20], 8, 12, "too_low"),
        ([5, 7], 8, 12, "too_high"),
        ([20, 25], 30, None, "too_high"),
        ([3, 9], 8, 12, "partly"),
        ([3, 20], 8, 12, "partly"),
        ([], 8, 12, "untestable"),
        ([3], None, None, "untestable"),
    ],
)
def test_verdict_on_a_claimed_range(values: list[float], low: float | None, high: float | None, verdict: str) -> None:
    assert decide(values, low, high) == verdict


def test_claims_come_in_the_order_of_the_article() -> None:
    assert sorted(["s10-01", "s9-04b", "s2-01", "s9-04"], key=order) == ["s2-01", "s9-04", "s9-04b", "s10-01"]


def test_every_claim_is_held_against_its_models(dataset: Dataset) -> None:
    tested = hold_claims(dataset, cells_of(dataset))
    assert len(tested) == len(dataset.catalog.claims)
    by_hub = {model.hub_id.lower() for model in dataset.catalog.models.values()}
    for item in tested:
        if item.claim.method and item.claim.vram_gb_high and any(hub.lower() in by_hub for hub in item.claim.models):
            assert item.rows and item.verdict != "untestable", item.claim.id


def test_thirteen_billion_in_full_never_fits_24_gb(dataset: Dataset) -> None:
    """The article's worst claim: weights, gradients and AdamW states alone take 16 bytes a parameter."""
    model = next(m for m in dataset.catalog.models.values() if m.hub_id == "meta-llama/Llama-2-13b-hf")
    need = cells_of(dataset).need(model, "full")
    assert need is not None and need.value > 16 * 13e9 and need.low > 24 * GIB


def test_examples_need_less_with_each_cheaper_method(dataset: Dataset) -> None:
    cells = cells_of(dataset)
    for model_id in EXAMPLES[2:]:
        needs = {method: cells.need(dataset.catalog.models[model_id], method) for method in METHODS}
        values = [needs[m].value for m in ("full", "full_bf16_adam8bit", "lora", "qlora") if needs[m]]  # type: ignore[union-attr]
        assert len(values) == 4 and values == sorted(values, reverse=True), model_id
        between = needs["lora_8bit"]  # keeps the inputs of its layers, so it may need more than LoRA
        assert between is not None and values[3] < between.value < values[1]


def test_a_larger_card_never_holds_a_smaller_model(dataset: Dataset) -> None:
    cells = cells_of(dataset)
    cards = [g for g in dataset.catalog.gpus.values() if g.vendor == "NVIDIA" and usable_bytes(g)]
    cards.sort(key=lambda g: usable_bytes(g) or 0)
    for method, recipe in (("qlora", "lean"), ("lora", "stock")):
        sizes = [dataset.parameters[best[0].id] if (best := cells.largest(g, method, recipe)) else 0 for g in cards]
        assert sizes == sorted(sizes), method


def test_fit_is_judged_by_the_upper_end(dataset: Dataset) -> None:
    need = cells_of(dataset).need(dataset.catalog.models[EXAMPLES[2]], "qlora")
    assert need is not None and need.low < need.value < need.high
    assert judge(need, need.high) == "yes"
    assert judge(need, (need.value + need.high) / 2) == "tight"
    assert judge(need, need.low) == "no"
    assert judge(need, None) is None and judge(None, 1.0) is None


def test_every_section_of_the_article_has_its_page(dataset: Dataset) -> None:
    paths = {page.path for page in collect_pages(dataset)}
    assert [number for number, _, _ in SECTIONS] == list("一二三四五六七八九十")
    for number, path, _ in SECTIONS:
        assert path in paths, number
    for folder, ids in (
        ("methods", dataset.catalog.methods),
        ("sizes", dataset.catalog.size_classes),
        ("scenarios", dataset.catalog.scenarios),
    ):
        for entry in ids:
            assert f"{folder}/{entry}.md" in paths


def test_every_task_names_models_to_start_from(dataset: Dataset) -> None:
    for task in dataset.catalog.scenarios.values():
        models = recommended(dataset, task)
        assert models, task.id
        assert all(model.status == "current" for model in models)


def test_size_spans_are_written_with_their_bounds(dataset: Dataset) -> None:
    spans = [span(e) for e in sorted(dataset.catalog.size_classes.values(), key=lambda e: e.order)]
    assert spans[0].startswith("< ") and spans[-1].startswith("≥ ")


def test_ability_and_speed_of_a_size_class_come_from_its_current_models(dataset: Dataset) -> None:
    standing = standings(dataset)
    assert len(standing) > 50 and all(0 <= share <= 1 for share in standing.values())
    small, large = dataset.catalog.models["qwen3-0.6b"], dataset.catalog.models["qwen3-32b"]
    assert standing[small.hub_id] < standing[large.hub_id]
    old = dataset.catalog.models["llama-2-13b"]
    assert best_scored([old, small], {old.hub_id: 0.9, small.hub_id: 0.2}) == (small, 0.2)
    tables = {
        small.hub_id: [("A", "qlora", "stock", [1.0, 2.0, 30.0, 4.0, 5.0]), ("A", "lora", "stock", [9.0] * 5)],
        large.hub_id: [("A", "qlora", "stock", [1.0, 2.0, 10.0, 4.0, 5.0])],
        old.hub_id: [("A", "qlora", "stock", [1000.0] * 5)],
    }
    assert typical_speeds(tables, [small, large, old], lambda model, card: True) == {"A": 20.0}
    assert typical_speeds(tables, [small, large, old], lambda model, card: model is large) == {"A": 10.0}
    assert typical_speeds(tables, [small, large, old], lambda model, card: False) == {}


def test_descriptions_are_clipped_at_a_stop() -> None:
    assert clip("short", 10) == "short"
    assert clip("一句话说完，第二句很长很长很长很长", 10) == "一句话说完…"
    assert len(clip("word " * 100, 155)) <= 155


@pytest.fixture(scope="module")
def rendered(dataset: Dataset) -> dict[str, dict[str, bytes]]:
    pages = collect_pages(dataset)
    return {language: dict(render(dataset, language, pages)[0]) for language in LANGUAGES}


@pytest.mark.parametrize("language", LANGUAGES)
def test_tables_are_complete(rendered: dict[str, dict[str, bytes]], language: Language) -> None:
    """Each row of a table has as many cells as its head, heads have a scope, and no template left a bare value."""
    for path, content in rendered[language].items():
        text = content.decode()
        for table in re.findall(r'<table class="data".*?</table>', text, re.S):
            heads = re.findall(r"<th scope=\"col\"", table.partition("</thead>")[0])
            for row in re.findall(r"<tr(?! class=\"group\").*?</tr>", table.partition("<tbody>")[2], re.S):
                assert len(re.findall(r"<t[hd][ >]", row)) == len(heads), f"{path}: {row[:200]}"
        assert not re.search(r">(None|nan|Undefined)<", text), path


def test_page_descriptions_are_short_and_in_their_language(dataset: Dataset) -> None:
    for page in collect_pages(dataset):
        assert isinstance(page, Page)
        assert CJK.search(page.description.zh), page.path
        assert not CJK.search(page.description.en), page.path
        if not page.path.startswith(("models/", "gpus/")):
            assert len(page.description.zh) <= 160 and len(page.description.en) <= 160, page.path


def test_a_measured_cell_goes_before_its_estimate(dataset: Dataset) -> None:
    """Any finished single-card run of the default case replaces the formula and names its card and date."""
    model = dataset.catalog.models[EXAMPLES[2]]
    run = Run(
        id="x/y", hub_id=model.hub_id, config_sha256=None, stands_for=None, case=Case(method="qlora"),
        gpu="h100-sxm-80gb", gpu_count=1, sharding=None, status="ok", reason=None, holdout=False, extrapolated=False,
        peak_allocated_bytes=13 * GIB, peak_reserved_bytes=15 * GIB, process_bytes=None, context_bytes=GIB,
        min_cap_bytes=14 * GIB, load_peak_bytes=None, breakdown_bytes=None, step_seconds=1.0, tokens_per_second=None,
        tflops_per_second=None, mfu=None, environment={"torch": "2.13.0"}, date=date(2026, 11, 24),
    )  # fmt: skip
    need = Cells(replace(dataset, runs=[run])).need(model, "qlora")
    assert need is not None and need.basis == "measured" and need.value == 15 * GIB
    assert "torch 2.13.0" in need.note.en and "2026-11-24" in need.note.en
