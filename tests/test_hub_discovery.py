"""Searching a local Hub for new models, and taking one from the search to a checked page."""

import shutil
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi

from generator import cli
from generator.architecture import count_active_parameters, count_parameters
from generator.dataset import Dataset, load_dataset
from generator.hub.client import HubClient
from generator.hub.discovered import FOLDER, read_discovered
from generator.hub.discovery import LISTED, Search, discover, format_report
from generator.hub.draft import find_family
from generator.hub.limits import Patience
from generator.records import LANGUAGES, HubFacts, Language
from generator.views.cells import Cells
from generator.views.figures import FILTERS
from generator.views.page import PageRenderer
from generator.views.pages import discovered
from tests.hub_server import FakeHub

ROOT = Path(__file__).parents[1]
DAY = date(2026, 11, 24)
CONFIG = {
    "model_type": "qwen3", "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "head_dim": 128,
    "num_attention_heads": 16, "num_key_value_heads": 8, "vocab_size": 151936, "tie_word_embeddings": True,
    "max_position_embeddings": 40960,
}  # fmt: skip
HOSTILE = "<script>alert(1)</script>[x](javascript:alert(1))`|"


def add(hub: FakeHub, hub_id: str, config: Any = CONFIG, **info: Any) -> None:
    row = {
        "pipeline_tag": "text-generation", "downloads": 90_000, "trendingScore": 3, "createdAt": "2026-11-01T00:00:00Z",
        "safetensors": {"total": 600_000_000, "parameters": {"BF16": 600_000_000}}, "cardData": {"license": "mit"},
    }  # fmt: skip
    hub.add(hub_id, config, **{**row, **info})
    hub.models[hub_id]["info"]["config"] = {"model_type": config["model_type"]}


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    server = FakeHub()
    add(server, "Qwen/Qwen9-0.6B", downloads=2_000)
    add(server, "new/popular-chat")
    add(server, "new/Trendy", downloads=5, trendingScore=99, pipeline_tag="image-text-to-text")
    add(server, "Qwen/Qwen3-8B")
    add(server, "new/quiet", downloads=49_999)
    add(server, "someone/popular-chat-GGUF")
    add(server, "someone/tuned", baseModels={"models": [{"id": "Qwen/Qwen3-8B"}]})
    add(server, "new/alien", config={"model_type": "alien"})
    add(server, "new/endless", safetensors={"total": 10**13, "parameters": {}})
    add(server, "new/unlicensed", cardData={})
    add(server, "evil/model", downloads="many", tags=HOSTILE, cardData={"license": HOSTILE}, trendingScore=50)
    yield server
    server.close()


def search(hub: FakeHub, folder: Path, **more: Any) -> Search:
    patience = Patience(attempts=1, pause_seconds=0.01, timeout_seconds=2, longest_wait_seconds=1.5)
    client = HubClient(endpoint=hub.endpoint, cache=folder.parent / "cache", patience=patience)
    return discover(
        folder, ["Qwen/Qwen3-8B"], client, today=DAY, count=count_parameters, count_active=count_active_parameters,
        stub=lambda facts: f"hub_id: {facts.hub_id}\n", **more,
    )  # fmt: skip


def test_notable_models_are_listed_and_the_others_counted(hub: FakeHub, tmp_path: Path) -> None:
    done = search(hub, tmp_path / "found")
    assert done.exit_code == 0 and done.found is not None
    ids = [model.facts.hub_id for model in done.found.models]
    assert ids == ["new/Trendy", "evil/model", "new/popular-chat", "Qwen/Qwen9-0.6B"]
    assert [model.notable for model in done.found.models] == [["trending"], ["trending"], ["downloads"], ["maker"]]
    assert done.found.left_out == {
        "a conversion, adapter or merge of another model": 1, "a fine-tune of another maker's model": 1,
        "architecture not known to transformers": 1, "in the catalog": 1, "no licence named": 1,
        "size unknown or out of range": 1, "too few downloads": 1,
    }  # fmt: skip
    assert read_discovered(tmp_path / "found") == (done.found, [])
    report = format_report(done)
    assert all(row.count("|") == 7 for row in report.splitlines() if row.startswith("| `"))


def test_searching_again_changes_no_byte(hub: FakeHub, tmp_path: Path) -> None:
    folder = tmp_path / "found"
    search(hub, folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert search(hub, folder).written == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    del hub.models["new/Trendy"]
    search(hub, folder)
    assert not (folder / "new--trendy.yaml").exists()


def test_what_was_found_stays_when_the_hub_fails(hub: FakeHub, tmp_path: Path) -> None:
    folder = tmp_path / "found"
    search(hub, folder)
    hub.faults["new/Trendy"] = [(500, {}, b"")]
    again = search(hub, folder)
    assert again.exit_code == 3 and again.found is not None
    kept = next(m.facts for m in again.found.models if m.facts.hub_id == "new/Trendy")
    assert kept.stale and kept.parameters == count_parameters(CONFIG)
    before = (folder / "index.json").read_bytes()
    hub.endpoint = "http://127.0.0.1:1"
    assert search(hub, folder).exit_code == 4
    assert (folder / "index.json").read_bytes() == before


def test_a_dry_run_writes_nothing(hub: FakeHub, tmp_path: Path) -> None:
    assert search(hub, tmp_path / "found", dry_run=True).news
    assert not (tmp_path / "found").exists()


def test_the_listing_is_asked_for_as_the_client_library_asks(hub: FakeHub, tmp_path: Path) -> None:
    search(hub, tmp_path / "found", jobs=1)
    ours = [query for path, query, _ in hub.asked if path == "/api/models"]
    hub.asked.clear()
    for row in hub.models.values():
        row["info"]["createdAt"] = "2026-11-01T00:00:00Z"
    api = HfApi(endpoint=hub.endpoint, token=False)
    del hub.models["evil/model"]
    for sort in ("trending_score", "downloads"):
        list(
            api.list_models(
                filter="safetensors", pipeline_tag="text-generation", sort=sort, limit=100, expand=list(LISTED)
            )
        )
    theirs = [query for path, query, _ in hub.asked if path == "/api/models"]
    assert theirs and all(query in ours for query in theirs)


def test_one_command_takes_a_model_from_the_search_to_its_estimate(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(ROOT / "catalog", tmp_path / "catalog")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.endpoint)
    cache = ["--cache", str(tmp_path / "cache")]
    root = ["--root", str(tmp_path)]
    assert cli.main([*root, "refresh", "--discover", *cache]) == 0
    dataset, problems = load_dataset(tmp_path)
    assert problems == []
    assert "Qwen/Qwen9-0.6B" in [model.facts.hub_id for model in dataset.discovered]
    assert (tmp_path / FOLDER / "qwen--qwen9-0.6b.yaml").exists()
    assert cli.main([*root, "add", "Qwen/Qwen9-0.6B", *cache]) == 0
    dataset, problems = load_dataset(tmp_path)
    assert problems == []
    model = dataset.catalog.models["qwen9-0.6b"]
    assert (model.family, model.licence, model.variant) == ("qwen3", "mit", "base")
    assert "Qwen/Qwen9-0.6B" not in [m.facts.hub_id for m in dataset.discovered]
    assert not (tmp_path / FOLDER / "qwen--qwen9-0.6b.yaml").exists()
    need = Cells(dataset).need(model, "qlora")
    assert need is not None and need.basis == "estimated" and need.value > 0


@pytest.mark.parametrize(
    ("hub_id", "family"),
    [
        ("Qwen/Qwen9-0.6B", "qwen3"),
        ("newlab/Chat", "qwen3"),
        ("deepseek-ai/DeepSeek-R1-Next-8B", "deepseek-r1-distill"),
    ],
)
def test_a_family_is_that_of_the_maker_or_of_the_architecture(dataset: Dataset, hub_id: str, family: str) -> None:
    assert find_family(HubFacts(hub_id=hub_id, config=CONFIG), dataset.catalog) == family


def test_the_page_is_honest_before_any_search_and_inert_after_it(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(ROOT / "catalog", tmp_path / "catalog", ignore=shutil.ignore_patterns("discovered"))
    paths = ["models/index.md", "models/new.md", "data/quality.md"]

    def body(language: Language) -> str:
        page = next(discovered.pages(load_dataset(tmp_path)[0]))
        return PageRenderer(language, paths, FILTERS).render(page)

    assert "has not been searched live yet" in body("en") and "还没有对 Hub 做过实时搜索" in body("zh")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.endpoint)
    cli.main(["--root", str(tmp_path), "refresh", "--discover", "--cache", str(tmp_path / "cache")])
    for language in LANGUAGES:
        text = body(language)
        assert "new/Trendy" in text and "GiB" in text
        assert "<script" not in text and "[x](" not in text
