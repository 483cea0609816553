"""`python -m generator serve` as a contributor uses it: both languages follow a saved YAML; a broken one is named."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import ROOT


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Serving:
    """A running `serve` over a small copy of the repository, and what it has printed so far."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.port = free_port()
        command = [
            sys.executable,
            "-m",
            "generator",
            "--root",
            str(root),
            "serve",
            "--address",
            f"127.0.0.1:{self.port}",
        ]
        self.process = subprocess.Popen(
            command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8"
        )
        self.lines: list[str] = []
        threading.Thread(target=self._collect, daemon=True).start()

    def _collect(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(iter(self.process.stdout.readline, ""))

    def get(self, path: str) -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=20) as answer:
                return str(answer.read().decode())
        except OSError:
            return ""

    def wait(self, path: str, text: str, seconds: float = 120) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert self.process.poll() is None, "".join(self.lines)
            if text in self.get(path):
                return
            time.sleep(0.2)
        pytest.fail(f"{text!r} never came to {path}:\n" + "".join(self.lines[-30:]))

    def wait_printed(self, text: str, seconds: float = 120) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if any(text in line for line in self.lines):
                return
            time.sleep(0.2)
        pytest.fail(f"{text!r} was never printed:\n" + "".join(self.lines[-30:]))


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    root = tmp_path_factory.mktemp("copy") / "guide"
    for name in ("catalog", "docs", "generator", "measurements"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "mkdocs.yml", root)
    started = Serving(root)
    yield started
    started.process.terminate()
    started.process.wait(timeout=20)
    assert started.get("/") == "", "the server outlives the command that started it"


def test_a_saved_yaml_reaches_both_languages(serving: Serving) -> None:
    file = serving.root / "catalog/models/qwen3-8b.yaml"
    original = file.read_text(encoding="utf-8")
    serving.wait("/models/qwen3-8b/", "Qwen3-8B")
    file.write_text(original.replace("name: Qwen3-8B", "name: Qwen3-8B-edited"), encoding="utf-8")
    serving.wait("/models/qwen3-8b/", "Qwen3-8B-edited")
    serving.wait("/en/models/qwen3-8b/", "Qwen3-8B-edited")
    file.write_text(original, encoding="utf-8")


def test_a_broken_yaml_is_named_and_the_next_save_recovers(serving: Serving) -> None:
    file = serving.root / "catalog/gpus/rtx-4090.yaml"
    original = file.read_text(encoding="utf-8")
    serving.wait("/gpus/rtx-4090/", "4090")
    broken = original.replace("memory_gb: 24", "memory_gb: plenty")
    assert broken != original
    line = broken[: broken.index("memory_gb: plenty")].count("\n") + 1
    file.write_text(broken, encoding="utf-8")
    serving.wait_printed(f"catalog/gpus/rtx-4090.yaml:{line}:12: memory_gb:")
    assert serving.process.poll() is None
    file.write_text(original.replace("name: RTX 4090", "name: RTX 4090 again"), encoding="utf-8")
    serving.wait("/gpus/rtx-4090/", "4090 again")
    file.write_text(original, encoding="utf-8")


def test_a_save_that_touches_many_pages_reaches_all_of_them(serving: Serving) -> None:
    """The edited page comes first; the pages that only mention the entry follow by themselves."""
    file = serving.root / "catalog/models/qwen3-8b.yaml"
    original = file.read_text(encoding="utf-8")
    serving.wait("/models/", "Qwen3-8B")
    file.write_text(original.replace("name: Qwen3-8B", "name: Qwen3-8B-spread"), encoding="utf-8")
    serving.wait("/models/qwen3-8b/", "Qwen3-8B-spread")
    serving.wait("/models/", "Qwen3-8B-spread")
    serving.wait("/en/methods/lora/", "Qwen3-8B-spread")
    file.write_text(original, encoding="utf-8")
