"""A hostile model, from the search through `add` to a built site, opened in a browser: nothing runs, nothing breaks."""

from __future__ import annotations

import functools
import http.server
import shutil
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from generator import cli
from generator.views.cells import EXAMPLES

from .conftest import ROOT, QuietHandler
from .hub_server import FakeHub
from .test_hub_discovery import CONFIG

pytestmark = pytest.mark.browser
MARKUP = (
    "<script>hacked=1</script><img src=//evil.example/x onerror=hacked=1>\"' onmouseover='hacked=1'"
    "[x](javascript:hacked=1)![y](https://evil.example/y.png){: onclick=hacked=1 }</td></table><h1>"
)
HOSTILE, FOUND = "evil/Script--__proto__._x_", "evil/Still-new__b"
GPUS = ("rtx-4090", "rtx-3060-12gb", "h100-sxm-80gb")
PAGES = ("models/script--__proto__._x_/", "models/", "models/new/", "data/quality/", "data/sources/", "licences/", "")


def prune(catalog: Path) -> None:
    """Leave so few models and cards that the site builds in seconds."""
    for folder, kept in (("models", EXAMPLES), ("gpus", GPUS)):
        for path in (catalog / folder).glob("[!_]*.yaml"):
            if path.stem not in kept:
                path.unlink()
    for name in EXAMPLES:
        edit(catalog / "models" / f"{name}.yaml", instead=[], successor=None, status="current")
    for path in (*catalog.glob("audiences/[!_]*.yaml"), *catalog.glob("size_classes/[!_]*.yaml")):
        lists = yaml.safe_load(path.read_text(encoding="utf-8"))
        kept_ids = {"gpus": GPUS, "models": EXAMPLES, "examples": EXAMPLES}
        edit(path, **{k: [i for i in lists[k] if i in kept_ids[k]] for k in kept_ids if k in lists})


def edit(path: Path, **changes: Any) -> None:
    entry = yaml.safe_load(path.read_text(encoding="utf-8"))
    path.write_text(yaml.safe_dump({**entry, **changes}, allow_unicode=True, sort_keys=False), encoding="utf-8")


def hostile_hub() -> FakeHub:
    hub = FakeHub()
    shape = {**CONFIG, "architectures": [MARKUP], MARKUP: MARKUP, "auto_map": {"AutoModel": MARKUP}, "x": [MARKUP] * 3}
    for hub_id in (HOSTILE, FOUND):
        hub.add(
            hub_id, shape, downloads=90_000, likes=MARKUP, tags=[MARKUP, "license:" + MARKUP, "zh"], trendingScore=99,
            pipeline_tag="text-generation", library_name=MARKUP, createdAt="2026-11-01T00:00:00Z" + MARKUP,
            safetensors={"total": 600_000_000, "parameters": {"BF16": 600_000_000, MARKUP: 1}}, gated="manual",
            cardData={"license": MARKUP, "license_name": MARKUP, "language": ["zh", MARKUP]},
        )  # fmt: skip
        hub.models[hub_id]["info"]["config"] = {"model_type": CONFIG["model_type"], "tokenizer_config": MARKUP}
    return hub


@pytest.fixture(scope="module")
def hostile_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a small site with one hostile model in the catalog and one that a search has found."""
    root = tmp_path_factory.mktemp("hostile") / "guide"
    shutil.copytree(ROOT / "catalog", root / "catalog", ignore=shutil.ignore_patterns("discovered"))
    for name in ("docs", "generator", "measurements"):
        (root / name).symlink_to(ROOT / name)
    shutil.copy(ROOT / "mkdocs.yml", root)
    prune(root / "catalog")
    hub = hostile_hub()
    words = ["--root", str(root)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.constants.ENDPOINT", hub.endpoint)
        assert cli.main([*words, "refresh", "--discover", "--cache", str(root / "cache")]) == 0
        why = ["--why-zh", MARKUP, "--why-en", MARKUP]
        assert cli.main([*words, "add", HOSTILE, *why, "--cache", str(root / "cache")]) == 0
    hub.close()
    assert cli.main([*words, "build", "--site", str(root / "site")]) == 0
    handler = functools.partial(QuietHandler, directory=str(root / "site"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_hostile_model_runs_nothing_in_a_browser(browser: Any, hostile_site: str) -> None:
    host = urlsplit(hostile_site).netloc
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    tab = context.new_page()
    faults: list[str] = []
    tab.on("dialog", lambda dialog: (faults.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    tab.on("pageerror", lambda error: faults.append(f"{tab.url}: {error}"))
    tab.on("console", lambda line: faults.append(f"{tab.url}: {line.text}") if line.type == "error" else None)
    tab.on("request", lambda asked: faults.append(asked.url) if urlsplit(asked.url).netloc not in (host, "") else None)
    seen = ""
    for prefix in ("", "en/"):
        for path in PAGES:
            answer = tab.goto(f"{hostile_site}/{prefix}{path}", wait_until="load")
            assert answer.status == 200, path
            if path == "":
                tab.wait_for_selector("[data-picker][data-ready]", timeout=15_000)
                tab.wait_for_selector(".fa-result[data-id^=script]")
                tab.eval_on_selector_all("details", "all => all.forEach((one) => { one.open = true; })")
            tab.eval_on_selector_all(
                "article *", "all => all.forEach((one) => one.dispatchEvent(new Event('mouseover')))"
            )
            seen += tab.inner_text("main")
            assert tab.evaluate("'hacked' in window") is False, path
            assert tab.locator("article :is(script, iframe, [onclick], [onmouseover], [onerror])").count() == 0
            assert tab.locator("a[href^='javascript' i], img[src*=evil]").count() == 0
            assert tab.locator("main h1").count() <= 1, path
        tab.goto(f"{hostile_site}/{prefix}data/sources/?q=evil")
        results = tab.locator(".md-search-result__item")
        results.first.wait_for(timeout=20_000)
        seen += " ".join(results.all_inner_texts())
        assert tab.evaluate("'hacked' in window") is False, "search"
        assert tab.locator(".md-search-result :is(script, img, iframe)").count() == 0
    assert faults == []
    assert HOSTILE in seen and FOUND in seen, "both models were on the pages"
    assert seen.count("<script>hacked=1</script>") >= 6, "the markup is shown as the text that it is"
    context.close()


def test_a_page_that_stays_up_goes_on_ageing(browser: Any, hostile_site: str) -> None:
    context = browser.new_context()
    tab = context.new_page()

    def shown(days_later: int) -> str:
        tab.clock.set_fixed_time(datetime.now(UTC) + timedelta(days=days_later))
        tab.goto(f"{hostile_site}/")
        return str(tab.locator(".fa-result[data-id^=script] .fa-why").inner_text())

    assert "30 天下载" in shown(29) and "旧" not in shown(29)
    assert "，旧）" in shown(32)
    for path, figure in (
        ("models/new/", "tr:has-text('evil/')"), ("en/models/", "tr:has-text('script')"),
        (f"en/{PAGES[0]}", ".stats"),
    ):  # fmt: skip
        tab.goto(f"{hostile_site}/{path}")
        tab.locator(f"{figure} .read .old").first.wait_for(state="attached", timeout=10_000)
    context.close()
