"""The built site as files: both languages complete, every link and anchor alive, nothing fetched from elsewhere."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

import pytest

from generator.dataset import Dataset
from generator.views.page import page_url
from generator.views.pages import collect_pages

from .conftest import ROOT, Site

CJK = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]")
ENGLISH_SENTENCE = re.compile(r"(?:\b[A-Za-z][a-z']+\b[ ,;]+){7,}")
VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}


class Document(HTMLParser):
    """What the tests ask of one page: ids, links, loaded resources, head metadata, and its body's text by language."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.ids: list[str] = []
        self.links: list[str] = []
        self.loads: list[str] = []
        self.meta: dict[str, str] = {}
        self.alternates: dict[str, str] = {}
        self.title = ""
        self.language = ""
        self.text: list[tuple[str, str]] = []
        self._stack: list[tuple[str, str, bool]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        a = {key: value or "" for key, value in attrs}
        if "id" in a:
            self.ids.append(a["id"])
        if tag == "html":
            self.language = a.get("lang", "")
        if tag == "a" and "href" in a:
            self.links.append(a["href"])
        if tag in {"script", "img", "iframe", "source", "audio", "video", "embed"} and "src" in a:
            self.loads.append(a["src"])
        relations = set(a.get("rel", "").split())
        if tag == "link" and not relations & {"canonical", "alternate", "prev", "next", "edit"}:
            self.loads.append(a.get("href", ""))
        if tag == "link" and "alternate" in relations and "hreflang" in a:
            self.alternates[a["hreflang"]] = a["href"]
        if tag == "meta":
            self.meta[a.get("name") or a.get("property") or ""] = a.get("content", "")
        outer_lang, outer_article = (self._stack[-1][1], self._stack[-1][2]) if self._stack else ("", False)
        inside = outer_article or tag == "article"
        if tag in {"script", "style", "code", "pre", "svg", "template"}:
            inside = False
        if tag not in VOID:
            self._stack.append((tag, a.get("lang") or outer_lang, inside))

    def handle_endtag(self, tag: str) -> None:
        for index in range(len(self._stack) - 1, -1, -1):
            if self._stack[index][0] == tag:
                del self._stack[index:]
                return

    def handle_data(self, data: str) -> None:
        if not self._stack:
            return
        tag, language, inside = self._stack[-1]
        if tag == "title" and not self.title:
            self.title = data
        if inside and data.strip():
            self.text.append((language, data))


@cache
def read(path: Path) -> Document:
    document = Document()
    document.feed(path.read_text(encoding="utf-8"))
    return document


def pages_of(site: Site) -> list[Path]:
    return [path for path in site.html_files() if path.name != "404.html"]


def url_of(site: Site, path: Path) -> str:
    relative = path.relative_to(site.folder).as_posix()
    return "/" + relative.removesuffix("index.html")


def test_strict_build_prints_no_warning(site: Site) -> None:
    assert "WARNING" not in site.output and "ERROR" not in site.output, site.output


def test_both_languages_have_the_same_pages(site: Site, dataset: Dataset) -> None:
    urls = {url_of(site, path) for path in pages_of(site)}
    english = {url.removeprefix("/en") for url in urls if url.startswith("/en/")}
    chinese = {url for url in urls if not url.startswith("/en/")}
    assert english == chinese
    assert len(chinese) == len(collect_pages(dataset))


def test_no_dead_link_or_anchor(site: Site) -> None:
    files = {url_of(site, path): path for path in site.html_files()}
    dead = []
    for url, path in files.items():
        for href in read(path).links:
            if urlsplit(href).scheme or href.startswith("//") or path.name == "404.html":
                continue
            target, anchor = urldefrag(urljoin(url, href))
            target = unquote(target.partition("?")[0])
            if target in files:
                if anchor and unquote(anchor) not in read(files[target]).ids and not anchor.startswith("__"):
                    dead.append(f"{url}: #{anchor} is not on {target}")
            elif not (site.folder / target.lstrip("/")).is_file():
                dead.append(f"{url}: {href} leads nowhere")
    assert not dead, f"{len(dead)} dead links, such as:\n" + "\n".join(dead[:20])


def test_ids_are_unique_on_each_page(site: Site) -> None:
    for path in pages_of(site):
        repeated = [name for name, count in Counter(read(path).ids).items() if count > 1]
        assert not repeated, f"{path}: {repeated[:5]}"


def test_nothing_is_loaded_from_elsewhere(site: Site) -> None:
    for path in site.html_files():
        foreign = [src for src in read(path).loads if urlsplit(src).netloc and not src.startswith("data:")]
        foreign = [src for src in foreign if urlsplit(src).netloc != "finetune-atlas.github.io"]
        assert not foreign, f"{path}: {foreign}"
    for sheet in (ROOT / "docs" / "assets").rglob("*.css"):
        assert not re.search(r"url\(\s*['\"]?(?:https?:)?//", sheet.read_text(encoding="utf-8")), sheet


def test_titles_and_descriptions_are_unique_in_each_language(site: Site) -> None:
    for language in ("zh", "en"):
        pages = [path for path in pages_of(site) if read(path).language == language]
        for field in ("title", "description"):
            values = Counter(read(p).title if field == "title" else read(p).meta.get("description", "") for p in pages)
            assert "" not in values
            repeated = [value for value, count in values.items() if count > 1]
            assert not repeated, f"{language} {field}: {repeated[:5]}"
        for path in pages:
            assert bool(CJK.search(read(path).meta["description"])) == (language == "zh"), path


def test_social_card_and_alternates(site: Site) -> None:
    for path in pages_of(site):
        document = read(path)
        for name in ("og:title", "og:description", "og:image", "og:url", "twitter:card"):
            assert document.meta.get(name), f"{path}: {name}"
        assert {"zh-Hans", "en", "x-default"} <= set(document.alternates), path
        image = urlsplit(document.meta["og:image"]).path.lstrip("/")
        assert (site.folder / image).is_file(), image


def test_sitemap_lists_every_page_with_both_languages(site: Site) -> None:
    sitemap = (site.folder / "sitemap.xml").read_text(encoding="utf-8")
    listed = {urlsplit(loc).path for loc in re.findall(r"<loc>([^<]+)</loc>", sitemap)}
    assert listed == {url_of(site, path) for path in pages_of(site)}
    assert sitemap.count('hreflang="en"') == len(listed)


def test_each_language_is_written_in_itself(site: Site) -> None:
    """Chinese bodies are Chinese, English bodies hold no Chinese, and no Chinese page holds an English sentence.

    Passages in the other language must say so with a `lang` attribute (names as their owners write them, quotations).
    """
    wrong = []
    for path in pages_of(site):
        document = read(path)
        own = [text for language, text in document.text if language in {"", document.language}]
        joined = " ".join(own)
        if document.language == "zh":
            if not CJK.search(joined):
                wrong.append(f"{path}: no Chinese at all")
            wrong += [f"{path}: English: {text.strip()[:90]}" for text in own if ENGLISH_SENTENCE.search(text)]
        else:
            wrong += [f"{path}: Chinese: {text.strip()[:60]}" for text in own if CJK.search(text)]
    assert not wrong, f"{len(wrong)} passages, such as:\n" + "\n".join(wrong[:20])


def test_edit_buttons_open_the_source(site: Site, dataset: Dataset) -> None:
    """The page of every entry, in both languages, leads to the YAML it is made from."""
    for page in collect_pages(dataset):
        if page.path.startswith(("models/", "gpus/", "methods/", "scenarios/", "sizes/")) and page.edit is None:
            assert page.path.endswith(("/index.md", "models/new.md")), f"{page.path} has no source to edit"
        if page.edit is None:
            continue
        assert (ROOT / page.edit).is_file(), page.path
        for prefix in ("", "en/"):
            links = read(site.folder / prefix / page_url(page.path) / "index.html").links
            assert any(link.endswith(f"/edit/main/{page.edit}") for link in links), f"{prefix}{page.path}"


def test_page_files_equal_the_pages_of_the_build(site: Site, dataset: Dataset, tmp_path: Path) -> None:
    from generator.render import write_pages

    write_pages(dataset, tmp_path / "pages")
    written = {path.relative_to(tmp_path / "pages").as_posix() for path in (tmp_path / "pages").rglob("*.md")}
    expected = {page.path for page in collect_pages(dataset)}
    assert written == expected | {f"en/{path}" for path in expected}
    index = json.loads((tmp_path / "pages/api/v1/index.json").read_text(encoding="utf-8"))
    for name in index["files"]:
        assert (site.folder / "api/v1" / name).is_file(), name


def test_pages_do_not_depend_on_the_order_of_sets(tmp_path: Path) -> None:
    """A rebuild without a change of data is the same byte for byte, in any process."""
    program = "import sys, pathlib as p; from generator import dataset, render\n"
    program += "render.write_pages(dataset.load_dataset(p.Path.cwd())[0], p.Path(sys.argv[1]))"
    trees = []
    for seed in ("1", "2"):
        folder = tmp_path / seed
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, "-c", program, str(folder)], cwd=ROOT, env=environment, check=True)
        trees.append({p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()})
    assert trees[0].keys() == trees[1].keys()
    assert [name for name, content in trees[0].items() if trees[1][name] != content] == []


def test_a_missing_page_speaks_both_languages_and_leads_home(site: Site) -> None:
    page = read(site.folder / "404.html")
    words = {language: "".join(text for own, text in page.text if own == language) for language in ("zh", "en")}
    assert CJK.search(words["zh"]) and not CJK.search(words["en"]) and "no such page" in words["en"]
    home = "https://finetune-atlas.github.io/"
    assert {home, f"{home}en/"} <= set(page.links) and (site.folder / "en/index.html").is_file()


@pytest.mark.parametrize("name", ["index.html", "en/index.html"])
def test_home_is_titled(site: Site, name: str) -> None:
    assert len(read(site.folder / name).title) > 10
