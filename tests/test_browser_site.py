"""The site in a real browser: nothing leaves the host, languages switch in place, search finds Chinese mid-title."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

import pytest

from generator.dataset import Dataset
from generator.views.pages import collect_pages

pytestmark = pytest.mark.browser


def open_page(browser: Any, url: str, **options: Any) -> Any:
    page = browser.new_context(**options).new_page()
    page.goto(url)
    return page


def test_no_page_asks_another_host_or_logs_an_error(browser: Any, site_url: str, dataset: Dataset) -> None:
    host = urlsplit(site_url).netloc
    foreign: list[str] = []
    errors: list[str] = []
    page = browser.new_context().new_page()
    page.on("request", lambda request: foreign.append(request.url) if urlsplit(request.url).netloc != host else None)
    page.on("pageerror", lambda error: errors.append(f"{page.url}: {error}"))
    page.on("console", lambda line: errors.append(f"{page.url}: {line.text}") if line.type == "error" else None)
    for entry in collect_pages(dataset):
        path = re.sub(r"(^|/)index\.md$", r"\1", entry.path).removesuffix(".md")
        suffix = "" if path == "" or path.endswith("/") else "/"
        for prefix in ("/", "/en/"):
            page.goto(f"{site_url}{prefix}{path}{suffix}", wait_until="load")
    assert not [url for url in foreign if not url.startswith("data:")]
    assert not errors, errors[:5]


def test_language_switch_stays_on_the_page(browser: Any, site_url: str, dataset: Dataset) -> None:
    model = next(iter(dataset.catalog.models))
    page = open_page(browser, f"{site_url}/models/{model}/")
    page.locator(".md-select").hover()
    page.locator('.md-select__link[hreflang="en"]').click()
    page.wait_for_url(f"{site_url}/en/models/{model}/")
    assert page.locator("html").get_attribute("lang") == "en"


@pytest.mark.parametrize(
    ("title", "word", "found"),
    [
        ("中文智能客服", "客服", "scenarios/customer-service-zh/"),
        ("中文法律问答（RAG）", "法律", "scenarios/legal-rag-zh/"),
        ("中英双语写作助手", "写作", "scenarios/bilingual-writing/"),
        ("旧文章的说法，逐条检验", "检验", "article/"),
    ],
)
def test_search_finds_a_word_from_the_middle_of_a_chinese_title(
    browser: Any, site_url: str, title: str, word: str, found: str
) -> None:
    assert word in title and not title.startswith(word)
    page = open_page(browser, f"{site_url}/{found}")
    assert page.locator("h1").inner_text().startswith(title)
    page = open_page(browser, f"{site_url}/", viewport={"width": 1440, "height": 900})
    page.locator(".md-search__input").fill(word)
    first = page.locator(".md-search-result__link").first
    first.wait_for(timeout=20_000)
    links = [link.get_attribute("href") or "" for link in page.locator(".md-search-result__link").all()]
    assert any(found in link for link in links), links


def test_dark_mode_follows_the_system_and_the_button(browser: Any, site_url: str) -> None:
    page = open_page(browser, f"{site_url}/", color_scheme="dark")
    assert page.locator("body").get_attribute("data-md-color-scheme") == "slate"
    page = open_page(browser, f"{site_url}/", color_scheme="light", viewport={"width": 1440, "height": 900})
    page.locator('label.md-header__button[for^="__palette"]:visible').first.click()
    assert page.locator("body").get_attribute("data-md-color-scheme") == "slate"


@pytest.mark.parametrize("path", ["/", "/models/", "/gpus/", "/methods/", "/scenarios/", "/sizes/"])
@pytest.mark.parametrize("prefix", ["", "/en"])
def test_a_phone_scrolls_only_down(browser: Any, site_url: str, prefix: str, path: str) -> None:
    page = open_page(browser, f"{site_url}{prefix}{path}", viewport={"width": 390, "height": 844})
    wider = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wider <= 0
