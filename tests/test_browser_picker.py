"""What readers come for, done in a real browser, in both languages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

pytestmark = pytest.mark.browser
PREFIX = {"zh": "/", "en": "/en/"}
FITS = {"zh": "放得下", "en": "fits"}


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
    tab.errors.clear()
    tab.goto(site_url + PREFIX[language] + query)
    tab.wait_for_selector("[data-picker][data-ready]", timeout=15000)
    return tab


def ids(tab: Any) -> list[str]:
    return [row.get_attribute("data-id") for row in tab.query_selector_all(".fa-result")]


@pytest.mark.parametrize("language", ["zh", "en"])
def test_a_result_without_touching_anything(tab: Any, site_url: str, language: str) -> None:
    visit(tab, site_url, language)
    assert "RTX 4090" in tab.inner_text("[data-answer]")
    assert len(ids(tab)) == 10
    assert FITS[language] in tab.inner_text(".fa-result >> nth=0")
    box = tab.locator(".fa-result").first.bounding_box()
    assert box["y"] + box["height"] < 900
    assert tab.errors == []


@pytest.mark.parametrize("language", ["zh", "en"])
def test_a_12_gb_card_and_chinese_customer_service(tab: Any, site_url: str, language: str) -> None:
    visit(tab, site_url, language)
    tab.fill("[name=g]", "RTX 3060 12 GB")
    tab.press("[name=g]", "Enter")
    tab.wait_for_url("**g=rtx-3060-12gb*")
    assert "RTX 3060 12 GB" in tab.inner_text("[data-answer]")
    shown = tab.query_selector_all(".fa-result")
    assert shown and all(row.get_attribute("data-fits") in ("yes", "tight", "none") for row in shown)


@pytest.mark.parametrize("language", ["zh", "en"])
def test_code_completion_with_a_commercial_licence(tab: Any, site_url: str, language: str) -> None:
    visit(tab, site_url, language)
    tab.select_option("[name=t]", "code")
    tab.select_option("[name=c]", "1")
    words = ("可商用", "有条件商用") if language == "zh" else ("commercial use", "commercial with conditions")
    for row in tab.query_selector_all(".fa-result .fa-why"):
        text = row.inner_text()
        assert any(word in text for word in words) and "no commercial" not in text and "不可商用" not in text
    assert "t=code" in tab.url and "c=1" in tab.url


@pytest.mark.parametrize("language", ["zh", "en"])
def test_no_gpu_still_gets_an_answer(tab: Any, site_url: str, language: str) -> None:
    visit(tab, site_url, language, "?g=no-gpu")
    assert "T4" in tab.inner_text("[data-notes]")
    assert ids(tab)


@pytest.mark.parametrize("language", ["zh", "en"])
def test_two_a100_hold_a_70b(tab: Any, site_url: str, language: str) -> None:
    visit(tab, site_url, language, "?g=2x-a100-sxm-80gb&i=llama-3.3-70b&m=qlora")
    assert "llama-3.3-70b-instruct" in ids(tab)
    assert tab.get_attribute(".fa-result", "data-fits") == "yes"


@pytest.mark.parametrize("language", ["zh", "en"])
def test_what_do_i_need_for_this_model(tab: Any, site_url: str, language: str) -> None:
    visit(tab, site_url, language, "?w=qwen2.5-7b-instruct")
    rows = tab.query_selector_all("[data-inverse] tbody tr")
    assert len(rows) > 10
    links = [row.query_selector("a").get_attribute("href") for row in rows]
    assert tab.request.get(tab.evaluate("href => new URL(href, location.href).href", links[0])).ok


@pytest.mark.parametrize("language", ["zh", "en"])
def test_a_shared_address_is_restored_and_the_back_button_works(tab: Any, site_url: str, language: str) -> None:
    visit(tab, site_url, language, "?g=12gb&t=maths&s=4096&a=64&b=0")
    assert tab.input_value("[name=g]") == "12 GB"
    assert tab.input_value("[name=s]") == "4096"
    assert tab.input_value("[name=a]") == "64"
    before = ids(tab)
    tab.select_option("[name=t]", "translation")
    tab.go_back()
    assert tab.input_value("[name=t]") == "maths"
    assert ids(tab) == before


@pytest.mark.parametrize("language", ["zh", "en"])
def test_nothing_fits_shows_the_nearest_and_its_switches(tab: Any, site_url: str, language: str) -> None:
    visit(tab, site_url, language, "?g=4gb&m=full&s=8192&k=0")
    assert ids(tab), "the nearest set-ups stand in for an empty list"
    tab.locator(".fa-result details summary").first.click()
    assert tab.locator(".fa-ladder li").count() >= 2


@pytest.mark.parametrize("language", ["zh", "en"])
def test_compare_and_copy_a_config(tab: Any, site_url: str, language: str) -> None:
    visit(tab, site_url, language)
    names = ids(tab)[:2]
    for name in names:
        tab.check(f'.fa-result[data-id="{name}"] .fa-compare input')
    assert tab.locator("[data-compared] thead th").count() == 3
    tab.locator(".fa-result details summary").first.click()
    tab.select_option(".fa-config select", "trl")
    assert "model_name_or_path" in tab.inner_text(".fa-config code")


@pytest.mark.parametrize("language", ["zh", "en"])
def test_keyboard_alone_reaches_the_first_model(tab: Any, site_url: str, language: str) -> None:
    visit(tab, site_url, language)
    tab.focus("[name=g]")
    seen = []
    for _ in range(20):
        tab.keyboard.press("Tab")
        seen.append(
            tab.evaluate("document.activeElement.name || document.activeElement.closest('.fa-result')?.dataset.id")
        )
        if seen[-1] == ids(tab)[0]:
            break
    assert {"t", "m", "c", "i", "o", "f"} <= set(seen) and seen[-1] == ids(tab)[0]


@pytest.mark.parametrize("language", ["zh", "en"])
def test_on_a_phone_nothing_sticks_out(browser: Any, site_url: str, language: str) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True)
    page = context.new_page()
    for path in ("", "models/qwen3-8b/", "gpus/rtx-3060-12gb/"):
        page.goto(site_url + PREFIX[language] + path)
        if not path:
            page.wait_for_selector("[data-picker][data-ready]", timeout=15000)
            assert page.locator("[data-answer]").bounding_box()["y"] < 844
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, path
    context.close()


def test_an_update_is_measured(tab: Any, site_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    visit(tab, site_url, "zh")
    times = []
    for task in ("code", "maths", "translation", "code", "maths", "translation", "code", "maths", "translation"):
        tab.select_option("[name=t]", task)
        times.append(float(tab.get_attribute("[data-picker]", "data-compute-ms")))
    with capsys.disabled():
        print(f"\npicker: all models priced and ranked in {sorted(times)[len(times) // 2]} ms (median)")
