"""Ten things that readers come for, done in a real browser, in both languages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from generator.dataset import Dataset
from generator.records import GIB, Case, Pace, Run
from generator.views.cells import cells_of
from generator.views.picker_runs import measured_gpus, runs_of_catalog

pytestmark = pytest.mark.browser
PREFIX = {"zh": "/", "en": "/en/"}
FITS = {"zh": "放得下", "en": "fits"}
PHONE = {"width": 390, "height": 844}
both = pytest.mark.parametrize("language", ["zh", "en"])


@pytest.fixture(scope="module")
def tab(browser: Any) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    yield page
    context.close()


def visit(tab: Any, site_url: str, language: str, query: str = "") -> Any:
    tab.goto(site_url + PREFIX[language] + query)
    tab.wait_for_selector('[data-picker][data-ready] [data-results][aria-busy="false"]', timeout=15000)
    return tab


def type_card(tab: Any, text: str, expected: str) -> None:
    tab.fill("[name=g]", text)
    tab.press("[name=g]", "Enter")
    tab.wait_for_function("id => new URLSearchParams(location.search).get('g') === id", arg=expected)


def ids(tab: Any) -> list[str]:
    return [row.get_attribute("data-id") for row in tab.query_selector_all(".fa-result")]


def figure(text: str, pattern: str) -> float:
    found = re.search(pattern, text)
    assert found, text
    return float(found[1].replace(",", ""))


@both
def test_a_result_without_touching_anything(tab: Any, site_url: str, language: str) -> None:
    visit(tab, site_url, language)
    assert "RTX 4090" in tab.inner_text("[data-answer]")
    assert len(ids(tab)) == 10
    assert FITS[language] in tab.inner_text(".fa-result >> nth=0")
    box = tab.locator(".fa-result").first.bounding_box()
    assert box["y"] + box["height"] < 900
    assert tab.errors == []


@both
def test_a_12_gb_card_and_chinese_customer_service(tab: Any, site_url: str, language: str, dataset: Dataset) -> None:
    visit(tab, site_url, language)
    type_card(tab, "RTX 3060 12 GB", "rtx-3060-12gb")
    tab.select_option("[name=t]", "customer-service-zh")
    assert "RTX 3060 12 GB" in tab.inner_text("[data-answer]")
    shown = tab.query_selector_all(".fa-result")
    assert shown and all(row.get_attribute("data-fits") in ("yes", "tight", "none") for row in shown)
    task, gpu = dataset.catalog.scenarios["customer-service-zh"], dataset.catalog.gpus["rtx-3060-12gb"]
    for row in shown[:3]:
        model = dataset.catalog.models[row.get_attribute("data-id")]
        case = Case(
            method=row.get_attribute("data-method"), recipe=row.get_attribute("data-recipe"), seq_len=task.seq_len
        )
        answer = cells_of(dataset).estimator.estimate(model.hub_id, case, gpu)
        assert row.get_attribute("data-fits") == answer.fits
        text = row.query_selector(".fa-figures").inner_text()
        need = figure(text, r"([\d.]+) GiB")
        assert need == pytest.approx(answer.needed_bytes.value / GIB, abs=0.051)
        assert answer.tokens_per_second
        assert figure(text, r"([\d,]+) token") == pytest.approx(answer.tokens_per_second.value, abs=0.51)


@both
def test_code_with_a_commercial_licence_on_a_4090(tab: Any, site_url: str, language: str, dataset: Dataset) -> None:
    visit(tab, site_url, language)
    type_card(tab, "RTX 4090", "rtx-4090") if tab.input_value("[name=g]") != "RTX 4090" else None
    tab.select_option("[name=t]", "code")
    tab.select_option("[name=c]", "1")
    tab.wait_for_url("**t=code*c=1*")
    assert ids(tab)
    for model in ids(tab):
        licence = dataset.licence(dataset.catalog.models[model])
        assert licence and licence.commercial_use in ("yes", "conditions"), model
        assert licence.name in tab.inner_text(f'.fa-result[data-id="{model}"] .fa-why')


@both
def test_no_gpu_still_gets_an_answer(tab: Any, site_url: str, language: str, dataset: Dataset) -> None:
    visit(tab, site_url, language)
    type_card(tab, dataset.catalog.gpus["no-gpu"].name, "no-gpu")
    assert "T4" in tab.inner_text("[data-notes]")
    assert ids(tab) and tab.get_attribute(".fa-result", "data-fits") in ("yes", "tight")


@both
def test_two_a100_hold_a_70b(tab: Any, site_url: str, language: str, dataset: Dataset) -> None:
    visit(tab, site_url, language)
    machine = dataset.catalog.gpus["2x-a100-sxm-80gb"]
    type_card(tab, machine.name, machine.id)
    tab.select_option("[name=m]", "qlora")
    tab.fill("[name=i]", "llama-3.3-70b")
    tab.wait_for_function("document.querySelectorAll('.fa-result').length < 4")
    row = '.fa-result[data-id="llama-3.3-70b-instruct"]'
    assert tab.get_attribute(row, "data-fits") == "yes"
    assert ("2 张卡" if language == "zh" else "2 cards") in tab.inner_text(f"{row} .fa-figures")


@both
def test_what_do_i_need_for_this_model(tab: Any, site_url: str, language: str, dataset: Dataset) -> None:
    visit(tab, site_url, language, "?i=qwen2.5-7b-instruct")
    tab.locator(".fa-result details summary").first.click()
    tab.locator(".fa-detail .fa-links button").click()
    tab.wait_for_selector('[data-inverse="qwen2.5-7b-instruct"]')
    answer = tab.inner_text("[data-answer]")
    assert "Qwen2.5-7B-Instruct" in answer and re.search(r"QLoRA\D+\d+ GB", answer)
    tables = tab.locator("[data-inverse] table")
    methods, cards = tables.nth(0).locator("tbody tr").count(), tables.nth(1).locator("tbody tr").count()
    assert methods >= 3 and cards > 10
    link = tables.nth(0).locator("a").first
    smallest = next(gpu for gpu in dataset.catalog.gpus.values() if gpu.name == link.inner_text())
    seq_len = dataset.catalog.scenarios["customer-service-zh"].seq_len
    hub_id = dataset.catalog.models["qwen2.5-7b-instruct"].hub_id
    estimator = cells_of(dataset).estimator
    verdicts = [
        estimator.estimate(hub_id, Case(method="qlora", recipe=recipe, seq_len=seq_len), smallest).fits
        for recipe in ("stock", "lean")
    ]
    assert "yes" in verdicts
    assert tab.request.get(link.evaluate("a => a.href")).ok


@both
def test_my_card_has_so_many_gb(tab: Any, site_url: str, language: str) -> None:
    visit(tab, site_url, language)
    type_card(tab, "16", "16gb")
    assert tab.input_value("[name=g]") == "16 GB"
    assert "16 GB" in tab.inner_text("[data-answer]")
    fitting = int(figure(tab.inner_text("[data-count]"), r"(\d+)"))
    type_card(tab, "8 GB", "8gb")
    assert int(figure(tab.inner_text("[data-count]"), r"(\d+)")) < fitting
    tab.fill("[name=g]", "no such card")
    tab.press("[name=g]", "Enter")
    assert not tab.evaluate("document.querySelector('[name=g]').checkValidity()")


@both
def test_a_data_set_becomes_hours_and_cost(tab: Any, site_url: str, language: str) -> None:
    visit(tab, site_url, language, "?i=qwen3-8b&s=2048")
    tab.locator(".fa-more summary").click()
    tab.fill("[name=n]", "20000")
    tab.fill("[name=e]", "2")
    tab.fill("[name=p]", "3.5")
    tab.press("[name=p]", "Enter")
    tab.wait_for_url("**n=20000*e=2*p=3.5*")
    text = tab.inner_text(".fa-result .fa-figures")
    rate = figure(text, r"([\d,]+) token")
    hours = 20000 * 2 * 2048 / rate / 3600
    assert figure(text, r"(?:约|about) ([\d,.]+) ?(?:小时|h)") == pytest.approx(hours, rel=0.05)
    assert figure(text, r"(?:小时|h)\s*(?:约|about) ([\d,.]+)") == pytest.approx(hours * 3.5, rel=0.05)


@both
def test_four_models_side_by_side(tab: Any, site_url: str, language: str) -> None:
    visit(tab, site_url, language)
    names = ids(tab)[:5]
    for name in names[:4]:
        tab.check(f'.fa-result[data-id="{name}"] .fa-compare input')
    tab.wait_for_function("document.querySelectorAll('[data-compared] thead th').length === 5")
    tab.check(f'.fa-result[data-id="{names[4]}"] .fa-compare input')
    tab.wait_for_url("**x=*")
    wanted = [f"models/{name}/" for name in names[1:]]
    tab.wait_for_function(  # the address changes before the table is drawn
        "wanted => String([...document.querySelectorAll('[data-compared] thead a')].map(a => a.getAttribute('href')))"
        " === String(wanted)",
        arg=wanted,
    )
    assert tab.locator("[data-compared] tbody tr").count() >= 9


@both
def test_a_shared_address_is_restored_and_history_works(tab: Any, site_url: str, language: str) -> None:
    visit(tab, site_url, language, "?g=12gb&t=maths&s=4096&a=64&b=0")
    assert tab.input_value("[name=g]") == "12 GB"
    assert tab.input_value("[name=s]") == "4096"
    assert tab.input_value("[name=a]") == "64"
    before = ids(tab)
    tab.select_option("[name=t]", "translation")
    tab.wait_for_url("**t=translation*")
    after = ids(tab)
    tab.click("[data-share]")
    assert "t=translation" in tab.evaluate("navigator.clipboard.readText()")
    tab.go_back()
    tab.wait_for_function("document.querySelector('[name=t]').value === 'maths'")
    tab.wait_for_function(
        "ids => [...document.querySelectorAll('.fa-result')].map(r => r.dataset.id).join() === ids",
        arg=",".join(before),
    )
    tab.go_forward()
    tab.wait_for_function(
        "ids => [...document.querySelectorAll('.fa-result')].map(r => r.dataset.id).join() === ids", arg=",".join(after)
    )
    copy = tab.context.new_page()
    visit(copy, site_url, language, "?" + tab.url.partition("?")[2])
    copy.wait_for_function(
        "ids => [...document.querySelectorAll('.fa-result')].map(r => r.dataset.id).join() === ids", arg=",".join(after)
    )
    copy.close()


@both
def test_a_filter_by_name_does_not_open_the_search(tab: Any, site_url: str, language: str) -> None:
    visit(tab, site_url, language, "?i=qwen3")
    assert ids(tab) and all("qwen3" in name for name in ids(tab))
    assert not tab.is_checked("#__search")


@both
def test_nothing_fits_shows_the_nearest_and_its_switches(tab: Any, site_url: str, language: str) -> None:
    visit(tab, site_url, language, "?g=4gb&m=full&s=8192&k=0")
    assert ids(tab), "the nearest set-ups stand in for an empty list"
    tab.locator(".fa-result details summary").first.click()
    tab.wait_for_selector(".fa-ladder li")
    assert tab.locator(".fa-ladder li").count() >= 4


@both
def test_details_carry_settings_basis_evidence_and_a_config(tab: Any, site_url: str, language: str) -> None:
    visit(tab, site_url, language, "?g=h100-sxm-80gb&i=qwen2.5-7b-instruct&m=qlora&r=stock&s=1024&b=1&t=code")
    tab.locator(".fa-result details summary").first.click()
    tab.wait_for_selector(".fa-detail")
    mark = tab.locator(".fa-basis").first
    note = mark.get_attribute("data-tip")
    assert note
    mark.click()
    tab.wait_for_selector(".tip-bubble:not([hidden])")
    assert note in tab.inner_text(".fa-detail")
    assert "H100" in note and "torch" in note and "2026-" in note
    for framework in ("llamafactory", "swift", "trl", "peft", "unsloth", "axolotl"):
        tab.select_option(".fa-config select", framework)
        text = tab.inner_text(".fa-config code")
        assert "1024" in text and "Qwen/Qwen2.5-7B-Instruct" in text, framework
    tab.wait_for_selector(".fa-source a")
    assert re.search(r"\d+ / \d+", tab.inner_text(".fa-detail"))


@both
def test_keyboard_alone_does_the_whole_errand(tab: Any, site_url: str, language: str) -> None:
    visit(tab, site_url, language)
    tab.focus("[name=g]")
    tab.keyboard.type("RTX 3090")
    tab.keyboard.press("Enter")
    tab.wait_for_url("**g=rtx-3090*")
    where = "document.activeElement.name || document.activeElement.closest('.fa-result')?.dataset.id"
    seen = []
    for _ in range(20):
        tab.keyboard.press("Tab")
        seen.append(tab.evaluate(where))
        if seen[-1] == ids(tab)[0]:
            break
    assert {"t", "m", "c", "i", "o", "f"} <= set(seen) and seen[-1] == ids(tab)[0]
    for _ in range(6):
        if tab.evaluate("document.activeElement.tagName") == "SUMMARY":
            break
        tab.keyboard.press("Tab")
    tab.keyboard.press("Enter")
    tab.wait_for_selector(".fa-detail .fa-config select")
    reached = []
    for _ in range(12):
        tab.keyboard.press("Tab")
        reached.append(
            tab.evaluate("document.activeElement.closest('.fa-config') ? document.activeElement.tagName : ''")
        )
        if reached[-1] == "BUTTON":
            break
    tab.keyboard.press("Enter")
    assert "model_name_or_path" in tab.evaluate("navigator.clipboard.readText()")


@both
def test_a_thumb_on_a_phone(browser: Any, site_url: str, language: str) -> None:
    context = browser.new_context(viewport=PHONE, has_touch=True)
    page = context.new_page()
    visit(page, site_url, language)
    assert page.locator("[data-answer]").bounding_box()["y"] < 844
    for field in page.locator(".fa-form :is(input, select, summary, button):visible").all():
        assert field.bounding_box()["height"] >= 32, field.get_attribute("name")
    page.select_option("[name=t]", "code")
    page.locator(".fa-result details summary").first.tap()
    page.wait_for_selector(".fa-detail .fa-config")
    page.locator(".fa-basis").first.tap()
    page.wait_for_selector(".tip-bubble:not([hidden])")
    for name in ids(page)[:4]:
        page.locator(f'.fa-result[data-id="{name}"] .fa-compare').tap()
    page.wait_for_selector("[data-compared]")
    for query in ("", "?w=qwen2.5-7b-instruct", "?g=4gb&m=full&d=qwen3-8b&i=qwen3-8b&f=1"):
        if query:
            visit(page, site_url, language, query)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, query
    for path in ("models/qwen3-8b/", "gpus/rtx-3060-12gb/", "data/cells/", "compare/methods/"):
        page.goto(site_url + PREFIX[language] + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, path
    context.close()


@pytest.mark.parametrize("language", ["zh", "en"])
@pytest.mark.parametrize(
    ("typed", "chosen", "shown"),
    [
        ("3 x RTX 3060 12 GB", "3x-rtx-3060-12gb", "3 × RTX 3060 12 GB"),
        ("2 × 24 GB", "2x-24gb", "2 × 24 GB"),
        ("2*3090", "2x-rtx-3090", "2 × RTX 3090"),
        ("4090", "rtx-4090", "RTX 4090"),
    ],
)
def test_several_equal_cards_that_no_catalog_entry_names(
    tab: Any, site_url: str, language: str, typed: str, chosen: str, shown: str
) -> None:
    visit(tab, site_url, language, "?g=t4")
    tab.fill("[name=g]", typed)
    tab.press("[name=g]", "Enter")
    tab.wait_for_url(f"**g={chosen}*" if chosen != "rtx-4090" else "**/")
    assert shown in tab.inner_text("[data-answer]")
    assert tab.input_value("[name=g]") == shown
    assert tab.errors == []


H100 = "h100-sxm-80gb"
EXPECTED = {"zh": "预计速度受处理器限制", "en": "the processor is expected to set this speed"}
LAUNCHED = {"zh": "GPU 在等处理器下发任务", "en": "the GPU waited for launches"}


def measured_run(dataset: Dataset, pace: Pace) -> tuple[str, Run, str]:
    """A run on the H100 that the picker can be asked for: its model's id, the run, the address but for the card."""
    for run in sorted(runs_of_catalog(dataset).values(), key=lambda run: run.id):
        case = run.case
        usual = case.lora_rank == 16 and case.lora_targets == "all-linear" and case.gradient_checkpointing
        if run.gpu == H100 and run.paced_by == pace and usual and run.tokens_per_second:
            model = next(model for model in dataset.catalog.models.values() if model.hub_id == run.hub_id)
            asked = f"i={run.hub_id}&m={case.method}&r={case.recipe}&s={case.seq_len}&b={case.micro_batch}&f=1"
            return model.id, run, asked
    raise LookupError(pace)


def watch(tab: Any) -> list[str]:
    """Names of the files of measured runs that the page asks for from now on."""
    asked: list[str] = []

    def note(request: Any) -> None:
        if "/measured" in request.url:
            asked.append(request.url.rpartition("/")[2])

    tab.on("request", note)
    return asked


def basis(tab: Any, model: str) -> Any:
    return tab.locator(f'.fa-result[data-id="{model}"] .fa-basis')


@pytest.fixture
def fresh(browser: Any) -> Iterator[Any]:
    """A tab of its own, that keeps what goes wrong in it."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on("console", lambda message: page.errors.append(message.text) if message.type == "error" else None)
    yield page
    context.close()


@both
def test_a_card_brings_its_measured_runs_when_it_is_chosen(
    fresh: Any, site_url: str, language: str, dataset: Dataset
) -> None:
    model, run, asked = measured_run(dataset, "processor")
    loads = watch(fresh)
    visit(fresh, site_url, language, f"?{asked}")
    fresh.wait_for_load_state("networkidle")
    assert loads == [], "the card that home starts with has no runs"
    type_card(fresh, dataset.catalog.gpus[H100].name, H100)
    mark = basis(fresh, model)
    fresh.wait_for_selector(f'.fa-result[data-id="{model}"] [data-basis="measured"]')
    assert loads == [f"{H100}.json"]
    text = fresh.inner_text(f'.fa-result[data-id="{model}"] .fa-figures')
    assert figure(text, r"([\d,]+) token") == pytest.approx(run.tokens_per_second, abs=0.51)
    assert LAUNCHED[language] in mark.get_attribute("data-tip")
    type_card(fresh, "T4", "t4")
    assert mark.get_attribute("data-basis") != "measured"
    type_card(fresh, dataset.catalog.gpus[H100].name, H100)
    assert mark.get_attribute("data-basis") == "measured"
    assert loads == [f"{H100}.json"] and fresh.errors == []


@both
@pytest.mark.parametrize(
    ("model", "size", "said"), [("qwen3-0.6b", "s=300&b=1", True), ("qwen3-14b", "s=3000&b=4", False)]
)
def test_an_estimate_says_where_the_processor_is_expected_to_set_the_speed(
    fresh: Any, site_url: str, language: str, model: str, size: str, said: bool, dataset: Dataset
) -> None:
    hub_id = dataset.catalog.models[model].hub_id
    visit(fresh, site_url, language, f"?g={H100}&i={hub_id}&m=lora&r=stock&{size}&f=1")
    fresh.wait_for_selector(f'.fa-result[data-id="{model}"] .fa-basis:not([data-basis="measured"])')
    tip = basis(fresh, model).get_attribute("data-tip")
    assert (EXPECTED[language] in tip) is said and fresh.errors == []


def test_a_card_in_the_address_brings_its_runs_at_the_start(fresh: Any, site_url: str, dataset: Dataset) -> None:
    model, _, asked = measured_run(dataset, "gpu")
    loads = watch(fresh)
    visit(fresh, site_url, "zh", f"?g={H100}&{asked}")
    assert loads == [f"{H100}.json"]
    assert basis(fresh, model).get_attribute("data-basis") == "measured"
    assert LAUNCHED["zh"] not in basis(fresh, model).get_attribute("data-tip")
    visit(fresh, site_url, "zh", f"?g=2x-{H100}&{asked}")
    assert len(loads) == 1, "runs of one card say nothing of two"
    visit(fresh, site_url, "zh", f"?w={model}")
    assert sorted(loads[1:]) == [f"{card}.json" for card in measured_gpus(dataset)]
    assert fresh.errors == []


def test_late_runs_of_a_card_that_is_no_longer_chosen_change_nothing(
    fresh: Any, site_url: str, dataset: Dataset
) -> None:
    model, _, asked = measured_run(dataset, "processor")
    held: list[Any] = []
    fresh.route(f"**/measured/{H100}.json", lambda route: held.append(route))
    fresh.goto(f"{site_url}/?g={H100}&{asked}")
    fresh.wait_for_selector('[data-picker][data-ready] [data-results][aria-busy="true"]')
    assert basis(fresh, model).get_attribute("data-basis") != "measured", "the estimate stands meanwhile"
    type_card(fresh, "T4", "t4")
    assert fresh.get_attribute("[data-results]", "aria-busy") == "false"
    fresh.evaluate("""() => {
      const list = document.querySelector("[data-results]");
      new MutationObserver(() => { window.arrived = true; }).observe(list, { attributeFilter: ["aria-busy"] });
      return new Promise((done) => setTimeout(done)); // rows below the fold are drawn after the others
    }""")
    before = fresh.inner_html("main")
    row = fresh.query_selector(".fa-result")
    held.pop().continue_()
    fresh.wait_for_function("window.arrived")
    assert fresh.inner_html("main") == before
    assert row.evaluate("node => node.isConnected"), "nothing was drawn again"
    type_card(fresh, dataset.catalog.gpus[H100].name, H100)
    assert basis(fresh, model).get_attribute("data-basis") == "measured"
    assert held == [] and fresh.errors == []


def test_runs_that_do_not_come_leave_the_estimates(fresh: Any, site_url: str, dataset: Dataset) -> None:
    model, _, asked = measured_run(dataset, "processor")
    pattern = f"**/measured/{H100}.json"
    fresh.route(pattern, lambda route: route.fulfill(body='{"version": 1, "runs"', content_type="application/json"))
    visit(fresh, site_url, "zh", f"?g={H100}&{asked}")
    assert basis(fresh, model).get_attribute("data-basis") != "measured"
    assert fresh.errors == []
    fresh.unroute(pattern)
    fresh.route(pattern, lambda route: route.abort())
    with fresh.expect_event("requestfailed"):
        fresh.select_option("[name=o]", "size")
    fresh.wait_for_selector('[data-results][aria-busy="false"]')
    assert basis(fresh, model).get_attribute("data-basis") != "measured"
    assert all(line.startswith("Failed to load resource") for line in fresh.errors), "the browser's own line alone"
    fresh.unroute(pattern)
    fresh.select_option("[name=o]", "speed")
    fresh.wait_for_selector(f'.fa-result[data-id="{model}"] [data-basis="measured"]')
