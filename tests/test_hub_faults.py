"""The commands against a Hub that misbehaves: as processes, with signals, and through `add`."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi, hf_hub_download

from generator import cli
from generator.architecture import count_active_parameters, count_parameters
from generator.dataset import load_dataset
from generator.hub.client import HubClient
from generator.hub.counting import reconcile
from generator.hub.limits import Patience
from generator.hub.refresh import EXIT_CODES, refresh
from generator.hub.snapshot import read_snapshot
from tests.hub_server import FakeHub
from tests.test_hub_refresh import CONFIG, DAY, run, tree

ROOT = Path(__file__).parents[1]


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    server = FakeHub()
    server.add("good/one", CONFIG)
    server.add("good/two", CONFIG)
    yield server
    server.close()


def hang(until: threading.Event, asked: threading.Event | None = None) -> Callable[[BaseHTTPRequestHandler], None]:
    """A fault: the request is taken and never answered."""

    def fault(request: BaseHTTPRequestHandler) -> None:
        if asked:
            asked.set()
        until.wait(30)
        request.close_connection = True

    return fault


def drip(request: BaseHTTPRequestHandler) -> None:
    """A fault: an answer that never ends, a byte at a time, each in time."""
    request.send_response(200)
    request.send_header("Content-Length", "100000")
    request.end_headers()
    try:
        for _ in range(100):
            request.wfile.write(b" ")
            request.wfile.flush()
            time.sleep(0.05)
    except OSError:
        pass
    request.close_connection = True


def test_the_local_hub_is_one_to_the_client_library(hub: FakeHub, tmp_path: Path) -> None:
    api = HfApi(endpoint=hub.endpoint, token=False)
    hub.renames["old/name"] = "good/one"
    assert api.model_info("old/name").id == "good/one"
    assert [entry.path for entry in api.list_repo_tree("good/one")] == ["config.json"]
    path = hf_hub_download("good/one", "config.json", endpoint=hub.endpoint, cache_dir=tmp_path, token=False)
    assert b'"llama"' in Path(path).read_bytes()


@pytest.mark.parametrize("where", ["", "config:"])
@pytest.mark.parametrize(("slowly", "reason"), [(False, "in time"), (True, "too slowly")])
def test_a_hub_that_takes_too_long_is_given_up(
    hub: FakeHub, tmp_path: Path, where: str, slowly: bool, reason: str
) -> None:
    run(hub, tmp_path / "hub")
    before = read_snapshot(tmp_path / "hub")[0]
    hub.models["good/two"]["info"]["likes"] = 77
    over = threading.Event()
    hub.faults[where + "good/one"] = [drip if slowly else hang(over)]
    patience = Patience(attempts=2, pause_seconds=0.01, timeout_seconds=0.2, request_seconds=0.3)
    summary = run(hub, tmp_path / "hub", patience=patience)
    over.set()
    facts = read_snapshot(tmp_path / "hub")[0]
    assert summary.exit_code == 3
    assert reason in (facts["good/one"].stale or "")
    assert facts["good/one"].config == before["good/one"].config
    assert facts["good/two"].likes == 77


def test_a_followed_rename_takes_the_old_record_along(hub: FakeHub, tmp_path: Path) -> None:
    run(hub, tmp_path / "hub")
    hub.models["new/name"] = hub.models.pop("good/one")
    hub.renames["good/one"] = "new/name"
    run(hub, tmp_path / "hub", "good/one", "good/two")
    hub.faults["config:new/name"] = [(500, {}, b"")]
    summary = run(hub, tmp_path / "hub", "new/name", "good/two", listed=["new/name", "good/two"])
    facts = read_snapshot(tmp_path / "hub")[0]
    assert sorted(facts) == ["good/two", "new/name"]
    assert (facts["new/name"].renamed_from, facts["new/name"].renamed_to) == ("good/one", None)
    assert facts["new/name"].config == CONFIG, "kept from the old id, because the new one's was not readable"
    assert "renamed" in summary.changes[0].kinds
    hub.faults.clear()
    assert run(hub, tmp_path / "hub", "new/name", listed=["new/name", "good/two"]).exit_code == 0
    assert sorted(read_snapshot(tmp_path / "hub")[0]) == ["good/two", "new/name"]


def test_a_window_that_is_used_up_is_waited_for_before_the_next_request(hub: FakeHub) -> None:
    window = {"RateLimit": '"api";r=0;t=42', "RateLimit-Policy": '"fixed window";"api";q=500;w=300'}
    hub.faults["good/one"] = [(404, window, b"")]
    slept: list[float] = []
    client = HubClient(endpoint=hub.endpoint, patience=Patience(attempts=1), sleep=slept.append)
    with pytest.raises(Exception, match="gone"):
        client.model_info("good/one", ("sha",))
    client.model_info("good/two", ("sha",))
    assert len(slept) == 1 and 40 < slept[0] <= 42
    client.config("good/two", "0" * 40)
    assert len(slept) == 1, "files are counted apart"


class MeteredHub(FakeHub):
    """Answers so many API requests in a window of one second, as the Hub does in one of 300, and says so."""

    quota, used, refused, ends = 10, 0, 0, 0.0
    lock = threading.Lock()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        with self.lock:
            if time.monotonic() > self.ends:
                self.used, self.ends = 0, time.monotonic() + 1
            counted = "/resolve/" not in request.path
            self.used += counted
            over = counted and self.used > self.quota
            self.refused += over
        if over:
            return self.send(request, 429, {"Retry-After": "1"}, b"")
        super().answer(request)

    def send(self, request: BaseHTTPRequestHandler, status: int, headers: dict[str, str], body: bytes) -> None:
        if "/resolve/" not in request.path:
            headers = {**headers, "RateLimit": f'"api";r={max(0, self.quota - self.used)};t=1'}
        super().send(request, status, headers, body)


def test_a_refresh_larger_than_the_window_waits_and_reads_all(tmp_path: Path) -> None:
    hub = MeteredHub()
    for i in range(25):
        hub.add(f"many/m{i:02}", CONFIG)
    client = HubClient(endpoint=hub.endpoint, patience=Patience(timeout_seconds=5))
    summary = refresh(
        tmp_path / "hub", sorted(hub.models), client, today=DAY, count=count_parameters,
        count_active=count_active_parameters, jobs=8,
    )  # fmt: skip
    hub.close()
    assert (summary.exit_code, summary.read) == (0, 25)
    assert summary.tally.waited_seconds > 0
    assert hub.refused <= 8 * 3, "at most the requests under way, in each window"


def start(root: Path, hub: FakeHub, *words: str, **environment: str) -> subprocess.Popen[str]:
    """A command as a process of its own that knows the Hub from its environment alone."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    return subprocess.Popen(
        [sys.executable, "-m", "generator", "--root", str(root), *words],
        cwd=ROOT,
        env={**kept, "HF_ENDPOINT": hub.endpoint, "HF_HOME": str(root / "home"), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_ctrl_c_in_the_middle_keeps_what_was_read_and_all_old_facts(hub: FakeHub, tmp_path: Path) -> None:
    folder = tmp_path / "catalog" / "hub"
    hub.add("good/three", CONFIG)
    run(hub, folder)
    before = tree(folder)
    for model in hub.models.values():
        model["info"]["likes"] = 77
    asked, over = threading.Event(), threading.Event()
    hub.faults["good/two"] = [hang(over, asked)]
    hub.asked.clear()
    ids = ["good/one", "good/two", "good/three"]
    words = ["refresh", "--jobs", "1", "--cache", str(tmp_path / "cache"), "--only", *ids]
    process = start(tmp_path, hub, *words, HF_TOKEN="hf_secret")
    assert asked.wait(60)
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    over.set()
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "Traceback" not in err and "interrupted" in err
    facts, problems = read_snapshot(folder)
    assert problems == [] and sorted(tree(folder)) == sorted(before)
    assert facts["good/one"].likes == 77 and "good/one" in out
    assert all(tree(folder)[name] == before[name] for name in ("good--two.json", "good--three.json"))
    assert {headers.get("authorization") for _, _, headers in hub.asked} == {"Bearer hf_secret"}
    assert not [path for path, _, _ in hub.asked if "three" in path]


def add(root: Path, hub: FakeHub, hub_id: str) -> int:
    return cli.main(["--root", str(root), "add", hub_id, "--cache", str(root / "cache")])


@pytest.fixture
def catalog(tmp_path: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The families and licences of the catalog, with a client that knows the local Hub and has little patience."""
    for name in ("families", "licences"):
        shutil.copytree(ROOT / "catalog" / name, tmp_path / "catalog" / name)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.endpoint)
    monkeypatch.setattr(Patience, "__init__", _impatient)
    return tmp_path


def _impatient(self: Any) -> None:
    for name in Patience.__dataclass_fields__:
        object.__setattr__(self, name, getattr(Patience, name))
    object.__setattr__(self, "pause_seconds", 0.01)
    object.__setattr__(self, "timeout_seconds", 0.2)


def files(root: Path) -> set[Path]:
    return {path for path in (root / "catalog").rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("where", "fault"),
    [
        ("", (404, {"X-Error-Code": "RepoNotFound"}, b"{}")),
        ("", (401, {}, b"")),
        ("", (403, {"X-Error-Code": "GatedRepo"}, b"")),
        ("", (503, {}, b"")),
        ("", (429, {"Retry-After": "86400"}, b"")),
        ("", (200, {}, b'{"id": "new/m", "sha"')),
        ("", (200, {}, b"{}")),
        ("config:", (500, {}, b"")),
        ("config:", (200, {}, b"[" * 100_000)),
        ("config:", (200, {}, b'{"a": "' + b"x" * 50_000_000 + b'"}')),
        ("config:", "hang"),
    ],
)
def test_a_model_that_is_not_read_whole_is_not_added(
    hub: FakeHub, catalog: Path, capsys: pytest.CaptureFixture[str], where: str, fault: Any
) -> None:
    hub.add("new/m", CONFIG)
    over = threading.Event()
    hub.faults[where + "new/m"] = [hang(over) if fault == "hang" else fault]
    before = files(catalog)
    assert add(catalog, hub, "new/m") == 3
    over.set()
    assert files(catalog) == before
    assert "nothing written" in capsys.readouterr().err


def test_a_gated_model_is_added_without_its_shape_and_says_so(
    hub: FakeHub, catalog: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.add("new/closed", CONFIG, gated="manual", cardData={"license": "mit"})
    hub.faults["config:new/closed"] = [(403, {"X-Error-Code": "GatedRepo"}, b"")]
    assert add(catalog, hub, "new/closed") == 3
    facts = read_snapshot(catalog / "catalog" / "hub")[0]["new/closed"]
    assert (facts.gated, facts.licence, facts.parameters) == (True, "mit", None)
    assert "gated" in (facts.stale or "") and (catalog / "catalog/models/closed.yaml").exists()
    assert "HF_TOKEN" in capsys.readouterr().err


def test_a_renamed_model_is_added_under_its_name_of_today(hub: FakeHub, catalog: Path) -> None:
    hub.renames["old/name"] = "good/one"
    assert add(catalog, hub, "old/name") == 0
    facts = read_snapshot(catalog / "catalog" / "hub")[0]
    assert "good/one" in facts and "old/name" not in facts
    assert "hub_id: good/one\n" in (catalog / "catalog/models/one.yaml").read_text()
    assert add(catalog, hub, "old/name") == 2, "listed already, under the new name"


@pytest.mark.parametrize("name", ["index", "New", "null", "yes", "1e3", "a.b_c--d"])
def test_no_name_takes_the_place_of_a_page_or_changes_its_kind_in_yaml(hub: FakeHub, catalog: Path, name: str) -> None:
    hub.add(f"evil/{name}", CONFIG, cardData={"license": "!!python/object:os.system {a: b}\n- x: *y"})
    assert add(catalog, hub, f"evil/{name}") == 0
    loaded, problems = load_dataset(catalog)
    assert problems == []
    (model,) = [model for model in loaded.catalog.models.values() if model.hub_id == f"evil/{name}"]
    assert model.name == name and model.id not in ("index", "new")


def test_a_refresh_writes_nothing_but_the_snapshot(
    hub: FakeHub, catalog: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def others() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in files(catalog) if catalog / "catalog/hub" not in path.parents}

    words = ["--root", str(catalog), "refresh", "--cache", str(catalog / "cache"), "--only", "good/one"]
    before = others()
    report = catalog / "report.md"
    assert cli.main([*words, "--report", str(report)]) == 0
    assert others() == before and (catalog / "catalog/hub/good--one.json").exists()
    assert "- new: 1" in report.read_text() and "1 of 1 models read" in capsys.readouterr().err
    snapshot = tree(catalog / "catalog" / "hub")
    assert cli.main(words) == 0 and tree(catalog / "catalog" / "hub") == snapshot
    (catalog / "catalog/hub/good--one.json").write_text("{")
    hub.asked.clear()
    assert cli.main(words) == 1 and not hub.asked
    assert "good--one.json:1:2:" in capsys.readouterr().out
    with pytest.raises(SystemExit) as usage:
        cli.main([*words, "--jobs", "many"])
    assert usage.value.code == 2


HEADS, LAYERS, HIDDEN, VOCABULARY, POSITIONS = 4, 2, 64, 100, 512


@pytest.mark.parametrize(
    ("surplus", "more", "said"),
    [
        (0, {}, "exact"),
        (VOCABULARY * HIDDEN, {}, "tied lm_head also stored"),
        (LAYERS * POSITIONS**2, {"n_positions": POSITIONS}, "attention-mask buffers (attn.bias)"),
        (LAYERS * POSITIONS**2 + LAYERS, {"n_positions": POSITIONS}, "attn.masked_bias"),
        (LAYERS * HIDDEN // HEADS // 2, {}, "rotary inv_freq buffers"),
        (777_777, {"num_nextn_predict_layers": 1}, "multi-token prediction"),
        (-9_999, {"quantization_config": {"bits": 4}}, "stored quantised"),
        (12, {}, "(+12 in the Hub total)"),
    ],
)
def test_the_hub_total_is_told_apart_from_the_parameters(surplus: int, more: dict[str, Any], said: str) -> None:
    counted = count_parameters(CONFIG)
    assert counted and said in (reconcile({**CONFIG, **more}, counted, counted + surplus) or "")


def test_every_exit_code_is_documented() -> None:
    for name in ("README.md", "README.zh.md", "CONTRIBUTING.md"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert all(f"`{code}`" in text for code in EXIT_CODES), name
