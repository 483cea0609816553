"""Refreshing from a local Hub with the real client: what is learned, and what survives each fault."""

import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from generator.architecture import count_active_parameters, count_parameters
from generator.hub.client import HubClient
from generator.hub.limits import Patience
from generator.hub.refresh import Summary, refresh
from generator.hub.snapshot import read_snapshot
from tests.hub_server import FakeHub

DAY = date(2026, 11, 20)
CONFIG = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4, "vocab_size": 100, "max_position_embeddings": 512, "tie_word_embeddings": True,
}  # fmt: skip
HOSTILE = '<script>alert(1)</script>[x](javascript:alert(1))\x00\u202e"'
PATIENCE = Patience(attempts=2, pause_seconds=0.01, timeout_seconds=2, longest_wait_seconds=1.5)


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    server = FakeHub()
    server.add("good/one", CONFIG, cardData={"license": "MIT", "language": ["en", False]})
    server.add("good/two", CONFIG)
    yield server
    server.close()


def run(hub: FakeHub, folder: Path, *ids: str, day: date = DAY, patience: Patience = PATIENCE, **more: Any) -> Summary:
    client = HubClient(endpoint=hub.endpoint, cache=folder.parent / "cache", patience=patience)
    return refresh(
        folder, ids or sorted(hub.models), client, today=day, count=count_parameters,
        count_active=count_active_parameters, jobs=2, **more,
    )  # fmt: skip


def tree(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_facts_are_read_counted_and_dated(hub: FakeHub, tmp_path: Path) -> None:
    counted = count_parameters(CONFIG)
    assert counted
    hub.models["good/one"]["info"]["safetensors"] = {"parameters": {"BF16": counted + 6400}, "total": counted + 6400}
    assert run(hub, tmp_path / "hub").exit_code == 0
    facts = read_snapshot(tmp_path / "hub")[0]["good/one"]
    assert (facts.licence, facts.languages, facts.context_length) == ("mit", ["en", "no"], 512)
    assert (facts.parameters, facts.parameters_hub) == (counted, counted + 6400)
    assert facts.parameters_check == "exact: Hub total = counted, plus tied lm_head also stored"
    assert facts.refreshed == "2026-11-20"


def test_a_second_refresh_is_answered_304_and_changes_no_byte(hub: FakeHub, tmp_path: Path) -> None:
    run(hub, tmp_path / "hub")
    before = tree(tmp_path / "hub")
    again = run(hub, tmp_path / "hub", day=DAY + timedelta(days=3))
    assert (again.tally.requests, again.tally.not_modified, again.changes) == (4, 4, [])
    assert tree(tmp_path / "hub") == before
    assert run(hub, tmp_path / "hub", day=DAY + timedelta(days=9)).written == 2, "old dates are renewed"


def test_a_dry_run_writes_nothing(hub: FakeHub, tmp_path: Path) -> None:
    assert len(run(hub, tmp_path / "hub", dry_run=True).changes) == 2
    assert not (tmp_path / "hub").exists()


@pytest.mark.parametrize(
    ("where", "fault", "reason"),
    [
        ("", (404, {"X-Error-Code": "RepoNotFound"}, b"{}"), "gone"),
        ("", (401, {}, b""), "401"),
        ("", (403, {"X-Error-Code": "GatedRepo"}, b""), "gated"),
        ("", (500, {}, b"oops"), "500"),
        ("", (503, {}, b""), "503"),
        ("", (429, {"Retry-After": "86400"}, b""), "rate limit"),
        ("", (200, {}, b'{"id": "good/one", "sha"'), "not valid JSON"),
        ("", (200, {"Content-Length": "9999"}, b'{"id": 1}'), "cut off"),
        ("", (200, {}, b"[" * 100_000), "not valid JSON"),
        ("", (307, {"Location": "/api/models/good/one"}, b""), "redirects"),
        ("config:", (403, {"X-Error-Code": "GatedRepo"}, b""), "config.json: gated"),
        ("config:", (200, {}, b'{"a": "' + b"x" * 50_000_000 + b'"}'), "larger than"),
        ("config:", (200, {}, b"[1, 2]"), "no JSON object"),
    ],
)
def test_a_fault_keeps_the_old_facts_and_the_others_go_on(
    hub: FakeHub, tmp_path: Path, where: str, fault: tuple[int, dict[str, str], bytes], reason: str
) -> None:
    run(hub, tmp_path / "hub")
    old = read_snapshot(tmp_path / "hub")[0]["good/one"]
    hub.faults[f"{where}good/one"] = [fault]
    hub.models["good/two"]["info"]["likes"] = 77
    order = ("good/two", "good/one")
    summary = run(hub, tmp_path / "hub", *order)
    facts, problems = read_snapshot(tmp_path / "hub")
    assert problems == []
    assert summary.exit_code == 3
    assert reason in (facts["good/one"].stale or "")
    assert facts["good/one"].config == old.config
    assert facts["good/one"].parameters == old.parameters
    if fault[0] != 429:
        assert facts["good/two"].likes == 77
    before = tree(tmp_path / "hub")
    if fault[0] != 429:
        run(hub, tmp_path / "hub", *order)
        assert tree(tmp_path / "hub") == before
    hub.faults.clear()
    assert run(hub, tmp_path / "hub").exit_code == 0
    assert read_snapshot(tmp_path / "hub")[0]["good/one"].stale is None


def test_a_short_wait_is_waited_and_the_model_read(hub: FakeHub, tmp_path: Path) -> None:
    hub.faults["good/one"] = [(429, {"Retry-After": "1"}, b"")]
    pending = hub.faults["good/one"]
    pending.append((307, {"Location": "/api/models/good/two"}, b""))
    summary = run(hub, tmp_path / "hub", "good/one")
    assert summary.exit_code == 0
    assert summary.tally.retries == 1


def test_a_renamed_model_keeps_its_file_and_names_its_new_id(hub: FakeHub, tmp_path: Path) -> None:
    run(hub, tmp_path / "hub")
    hub.add("new/name", CONFIG)
    hub.renames["good/one"] = "new/name"
    summary = run(hub, tmp_path / "hub", "good/one")
    assert read_snapshot(tmp_path / "hub")[0]["good/one"].renamed_to == "new/name"
    assert "renamed" in summary.changes[0].kinds


def test_without_any_answer_nothing_is_written(hub: FakeHub, tmp_path: Path) -> None:
    run(hub, tmp_path / "hub")
    before = tree(tmp_path / "hub")
    hub.endpoint = "http://127.0.0.1:1"
    summary = run(hub, tmp_path / "hub")
    assert summary.exit_code == 4
    assert tree(tmp_path / "hub") == before


def test_hostile_values_stay_data_or_become_unknown(hub: FakeHub, tmp_path: Path) -> None:
    config = {**CONFIG, "num_hidden_layers": 10**12, "hidden_size": "64", HOSTILE: 1, "x": HOSTILE}
    hub.add("evil/model", config, likes="many", downloads=-1, createdAt=7, gated="<b>", tags=[HOSTILE, 3],
            pipeline_tag="x" * 9999, cardData={"license": HOSTILE, "base_model": ["../../etc", "a/b"]})  # fmt: skip
    assert run(hub, tmp_path / "hub", "evil/model").exit_code == 0
    facts = read_snapshot(tmp_path / "hub")[0]["evil/model"]
    assert (facts.likes, facts.downloads, facts.created, facts.gated) == (None, None, None, None)
    assert (facts.pipeline_tag, facts.base_models, facts.parameters) == (None, ["a/b"], None)
    assert facts.config is not None
    assert (facts.config["num_hidden_layers"], facts.config["hidden_size"]) == (None, None)
    text = (tmp_path / "hub" / "evil--model.json").read_text(encoding="utf-8")
    assert "\x00" not in text and "\\u0000" not in text and "\u202e" not in text
    assert not any("script" in note for note in facts.notes)


def test_the_token_goes_to_the_endpoint_and_nowhere_else(hub: FakeHub, tmp_path: Path) -> None:
    other = FakeHub()
    other.add("good/one", CONFIG)
    hub.faults["good/one"] = [(307, {"Location": f"{other.endpoint}/api/models/good/one"}, b"")]
    client = HubClient(endpoint=hub.endpoint, token="hf_secret", patience=Patience(attempts=1, timeout_seconds=2))
    client.model_info("good/one", ("sha",))
    assert [headers["authorization"] for _, _, headers in hub.asked] == ["Bearer hf_secret"]
    assert other.asked and not any("authorization" in headers for _, _, headers in other.asked)
    other.close()


def test_a_wait_until_a_date_is_waited(hub: FakeHub, tmp_path: Path) -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    hub.faults["good/one"] = [(429, {"Retry-After": later}, b""), (307, {"Location": "/api/models/good/two"}, b"")]
    slept: list[float] = []
    patience = Patience(attempts=2, timeout_seconds=2)
    client = HubClient(endpoint=hub.endpoint, patience=patience, sleep=slept.append)
    client.model_info("good/one", ("sha",))
    assert any(90 < seconds <= 100 for seconds in slept)


def test_the_network_going_away_half_way_keeps_all_facts(hub: FakeHub, tmp_path: Path) -> None:
    for i in range(12):
        hub.add(f"many/m{i:02}", CONFIG)
    run(hub, tmp_path / "hub")
    before = read_snapshot(tmp_path / "hub")[0]
    hub.models["good/one"]["info"]["likes"] = 99

    def cut(hub_id: str) -> None:
        hub.server.shutdown()
        hub.server.server_close()

    ids = ["good/one", *sorted(i for i in hub.models if i != "good/one")]
    summary = run(hub, tmp_path / "hub", *ids, progress=cut)
    facts = read_snapshot(tmp_path / "hub")[0]
    assert summary.exit_code == 3 and facts.keys() == before.keys()
    assert facts["good/one"].likes == 99
    assert all(facts[i].config == before[i].config for i in facts)
    assert any("network is gone" in reason or "no connection" in reason for reason in summary.unread.values())


def test_ctrl_c_leaves_whole_files_only(hub: FakeHub, tmp_path: Path) -> None:
    def press(hub_id: str) -> None:
        raise KeyboardInterrupt

    summary = run(hub, tmp_path / "hub", progress=press)
    assert summary.exit_code == 130
    assert read_snapshot(tmp_path / "hub")[1] == []
    assert not [path for path in (tmp_path / "hub").iterdir() if path.name.startswith(".")]


def test_ctrl_c_keeps_models_that_were_read_but_not_yet_taken(hub: FakeHub, tmp_path: Path) -> None:
    def press(hub_id: str) -> None:
        end = time.monotonic() + 20
        while sum("/resolve/" in path for path, _, _ in hub.asked) < len(hub.models) and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(0.3)
        raise KeyboardInterrupt

    summary = run(hub, tmp_path / "hub", progress=press)
    assert (summary.exit_code, summary.read) == (130, len(hub.models))
    assert len(read_snapshot(tmp_path / "hub")[0]) == len(hub.models)
