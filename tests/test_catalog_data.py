"""The committed catalog: complete, consistent, bilingual, and true to the snapshot."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from generator.catalog import RECORDS, load_catalog
from generator.hub.snapshot import read_snapshot
from generator.records import HubFacts, Text, slug

ROOT = Path(__file__).parents[1]
CATALOG, PROBLEMS = load_catalog(ROOT)
HUB, HUB_PROBLEMS = read_snapshot(ROOT / "catalog" / "hub")
CJK = re.compile(r"[\u4e00-\u9fff]")


def texts(value: Any, where: str) -> Iterator[tuple[str, Text]]:
    if isinstance(value, Text):
        yield where, value
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from texts(item, f"{where}.{i}")
    elif hasattr(type(value), "model_fields"):
        for name in type(value).model_fields:
            yield from texts(getattr(value, name), f"{where}.{name}")


ALL_TEXTS = [
    pair
    for folder in RECORDS
    for id_, entry in getattr(CATALOG, folder).items()
    for pair in texts(entry, f"{folder}/{id_}")
]


def test_the_whole_catalog_loads_without_a_problem() -> None:
    assert [str(problem) for problem in PROBLEMS] == []
    assert HUB_PROBLEMS == []


@pytest.mark.parametrize(
    ("folder", "least"),
    [
        ("models", 120), ("gpus", 110), ("methods", 8), ("recipes", 2), ("scenarios", 9), ("audiences", 4),
        ("size_classes", 6), ("licences", 28), ("benchmarks", 63), ("claims", 58), ("name_corrections", 20),
    ],
)  # fmt: skip
def test_nothing_was_lost(folder: str, least: int) -> None:
    assert len(getattr(CATALOG, folder)) >= least


def test_the_snapshot_holds_213_models_with_known_parameters_and_provenance() -> None:
    assert len(HUB) >= 213
    assert sum(facts.parameters is not None for facts in HUB.values()) >= 208
    for facts in HUB.values():
        assert facts.provenance or facts.refreshed, facts.hub_id
        if facts.downloads is not None and facts.refreshed is None:
            assert "downloads" in facts.provenance, facts.hub_id


def test_snapshot_files_are_named_after_their_model() -> None:
    for path in (ROOT / "catalog" / "hub").glob("*.json"):
        facts = HubFacts.model_validate(json.loads(path.read_text(encoding="utf-8")))
        assert path.stem == slug(facts.hub_id)


def test_every_model_of_the_catalog_is_in_the_snapshot() -> None:
    assert {model.hub_id for model in CATALOG.models.values()} <= set(HUB)


def test_every_model_of_a_claim_or_a_correction_is_in_the_snapshot() -> None:
    named = {hub_id for claim in CATALOG.claims.values() for hub_id in claim.models}
    named |= {hub_id for correction in CATALOG.name_corrections.values() for hub_id in correction.right}
    assert named <= set(HUB)


@pytest.mark.parametrize(
    "hub_id",
    [
        "openai-community/gpt2", "IDEA-CCNL/Wenzhong-GPT2-110M", "zai-org/chatglm2-6b", "zai-org/chatglm3-6b",
        "Qwen/Qwen1.5-1.8B", "Qwen/Qwen1.5-7B", "Qwen/Qwen-7B", "meta-llama/Llama-2-7b-hf", "meta-llama/Llama-2-13b-hf",
        "baichuan-inc/Baichuan2-7B-Base", "TinyLlama/TinyLlama-1.1B-Chat-v1.0", "mistralai/Mixtral-8x7B-v0.1",
        "codellama/CodeLlama-7b-hf", "WizardLMTeam/WizardCoder-1B-V1.0", "bigscience/bloom",
        "Qwen/Qwen3-8B", "Qwen/Qwen3.5-9B", "meta-llama/Llama-3.1-8B-Instruct", "google/gemma-3-4b-it",
        "openai/gpt-oss-20b", "microsoft/phi-4", "HuggingFaceTB/SmolLM3-3B", "mistralai/Mistral-7B-v0.3",
    ],
)  # fmt: skip
def test_the_article_s_models_and_today_s_choices_are_listed(hub_id: str) -> None:
    assert hub_id in {model.hub_id for model in CATALOG.models.values()}


WRONG_NAMES = ["chatglm2-2b", "llama2-3b", "llama2-30b", "llama2-33b", "bloom-65b", "wizardcoder-1.5b", "nanogpt"]


@pytest.mark.parametrize("name", WRONG_NAMES)
def test_a_name_that_does_not_exist_is_explained_and_stands_nowhere_else(name: str) -> None:
    assert not CATALOG.name_corrections[name].exists or name == "nanogpt"
    pattern = re.compile(re.escape(name), re.IGNORECASE)
    for folder in set(RECORDS) - {"claims", "name_corrections", "size_classes"}:
        for path in (ROOT / "catalog" / folder).glob("*.yaml"):
            assert not pattern.search(path.read_text(encoding="utf-8")), path
    assert not any(pattern.search(hub_id) for hub_id in HUB)


def test_every_text_is_chinese_in_chinese_and_english_in_english() -> None:
    wrong = [where for where, text in ALL_TEXTS if CJK.search(text.en)]
    assert wrong == []
    same = [where for where, text in ALL_TEXTS if text.zh == text.en and len(text.en) > 60]
    assert same == []
    prose = [where for where, text in ALL_TEXTS if len(text.zh) > 25 and not CJK.search(text.zh)]
    assert [where for where in prose if not where.startswith(("gpus/", "scenarios/"))] == []


def test_chinese_texts_use_chinese_punctuation() -> None:
    wrong = [
        (where, text.zh)
        for where, text in ALL_TEXTS
        if re.search(r"[\u4e00-\u9fff][,;?!]|[,;?!][\u4e00-\u9fff]", text.zh)
    ]
    assert wrong == []


def test_each_model_says_something_of_its_own() -> None:
    repeated = [text for text, n in Counter(m.why.en for m in CATALOG.models.values()).items() if n > 1]
    assert repeated == []
    assert [m.id for m in CATALOG.models.values() if m.choose_when is None] == []


def test_machines_of_several_cards_repeat_their_card() -> None:
    machines = [gpu for gpu in CATALOG.gpus.values() if gpu.card]
    assert {gpu.gpu_count for gpu in machines} == {2, 4, 8}
    for machine in machines:
        card = CATALOG.gpus[machine.card or ""]
        assert card.gpu_count == 1
        assert (machine.memory_gb, machine.bandwidth_gb_s) == (card.memory_gb, card.bandwidth_gb_s)
    assert CATALOG.gpus["no-gpu"].gpu_count == 0
    assert {"h100-sxm-80gb", "h200-sxm-141gb"} <= set(CATALOG.gpus)


def test_the_size_classes_reach_from_zero_to_the_largest_model() -> None:
    classes = sorted(CATALOG.size_classes.values(), key=lambda entry: entry.low_billions)
    assert classes[0].low_billions == 0
    assert classes[-1].high_billions is None
    for entry in classes:
        for example in entry.examples:
            billions = (HUB[CATALOG.models[example].hub_id].parameters or 0) / 1e9
            assert entry.low_billions <= billions < (entry.high_billions or 1e9), (entry.id, example)


def test_a_successor_is_itself_current() -> None:
    for model in CATALOG.models.values():
        if model.successor:
            assert CATALOG.models[model.successor].status == "current", model.id


def test_scores_lie_on_their_scale() -> None:
    assert sum(len(group.scores) for group in CATALOG.benchmarks.values()) >= 4133
    for group in CATALOG.benchmarks.values():
        for score in group.scores:
            assert 0 <= score.score <= 100 or "rating" in score.benchmark, (group.id, score)


FORBIDDEN = re.compile(r"(?<!\.)\.\./|(?<![\w:/.])/(?:home|root|tmp|work|mnt)/|stored page|seed article|the compiler")


def test_no_working_notes_are_left_in_the_data() -> None:
    for path in (ROOT / "catalog").rglob("*"):
        if path.is_file():
            found = FORBIDDEN.search(path.read_text(encoding="utf-8"))
            assert not found, (path, found)
