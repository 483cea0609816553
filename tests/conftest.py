"""What several test files share: the real data set, one strict build of the site, a server and a browser for it."""

from __future__ import annotations

import functools
import http.server
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from generator.dataset import Dataset, load_dataset

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def dataset() -> Dataset:
    """The committed inputs; a problem in them fails every test that asks for them."""
    loaded, problems = load_dataset(ROOT)
    assert not problems, "\n".join(map(str, problems))
    return loaded


@dataclass(frozen=True)
class Site:
    """A finished build: its folder and what MkDocs printed."""

    folder: Path
    output: str

    def html_files(self) -> list[Path]:
        return sorted(self.folder.rglob("*.html"))


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """The whole site, built once, strictly, as `python -m generator build` does."""
    folder = tmp_path_factory.mktemp("site") / "site"
    command = [sys.executable, "-m", "generator", "build", "--site", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    return Site(folder, output)


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    extensions_map = {  # noqa: RUF012  (the base class declares it so)
        **http.server.SimpleHTTPRequestHandler.extensions_map,
        ".mjs": "text/javascript",
        ".json": "application/json",
    }

    def log_message(self, format: str, *args: object) -> None:
        """Requests are asserted on, not printed."""


@pytest.fixture(scope="session")
def site_url(site: Site) -> Iterator[str]:
    """Address of a local server of the built site, without the closing slash."""
    handler = functools.partial(QuietHandler, directory=str(site.folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def chromium_path() -> str:
    """The browser that `tests/browser.sh` found or installed."""
    for name in (os.environ.get("CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome"):
        if name and (path := shutil.which(name)):
            return path
    raise FileNotFoundError("no Chromium: run `make browser`, or set CHROMIUM")


def node_path() -> str:
    """The node that Playwright brings along, so that tests of scripts need no installed one."""
    from playwright._impl._driver import compute_driver_executable

    return str(compute_driver_executable()[0])


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A headless Chromium (Playwright's Browser) that makes no connections of its own."""
    from playwright.sync_api import sync_playwright

    flags = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic"]
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=chromium_path(), args=[*flags, "--no-first-run", "--no-sandbox", "--disable-gpu"]
        )
        yield started
        started.close()
