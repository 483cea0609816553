"""The picker's data and order, and that its script gives the command line's numbers."""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path

import pytest

from generator.dataset import Dataset
from generator.estimate import NotEstimable
from generator.evidence import weigh
from generator.ranking import load_ranking, read_ranking
from generator.records import BenchmarkGroup, BenchmarkScore, Case
from generator.views import api
from generator.views.cells import cells_of

from .conftest import node_path

ROOT = Path(__file__).parents[1]
CASES = 500


def group(name: str, scores: dict[str, float], benchmark: str = "B") -> BenchmarkGroup:
    return BenchmarkGroup(
        id=name,
        title=name,
        source=name,
        scores=[BenchmarkScore(model=model, benchmark=benchmark, score=score) for model, score in scores.items()],
    )


def test_scores_of_different_tables_are_joined_only_through_shared_models() -> None:
    easy = group("easy", {"o/a": 90.0, "o/b": 80.0, "o/c": 70.0})
    hard = group("hard", {"o/c": 40.0, "o/d": 60.0, "o/e": 20.0})
    found = weigh([easy, hard], ["B"], ["o/a", "o/b", "o/c", "o/d", "o/e"], 3, 0.01)
    order = sorted(found, key=lambda name: found[name].standing)
    assert order[0] == "o/e"
    assert found["o/d"].standing > found["o/c"].standing  # d beats c in the table that they share
    assert found["o/a"].standing > found["o/b"].standing > found["o/c"].standing


def test_a_table_that_no_model_joins_gives_no_evidence() -> None:
    joined = [
        group("one", {"o/a": 50.0, "o/b": 60.0, "o/c": 70.0}),
        group("two", {"o/c": 50.0, "o/d": 60.0, "o/e": 70.0}),
    ]
    apart = group("apart", {"o/x": 99.0, "o/y": 98.0, "o/z": 97.0})
    found = weigh([*joined, apart], ["B"], ["o/a", "o/x"], 3, 0.05)
    assert "o/a" in found and "o/x" not in found


def test_a_column_with_few_models_does_not_count() -> None:
    assert weigh([group("small", {"o/a": 50.0, "o/b": 60.0})], ["B"], ["o/a"], 3, 0.05) == {}


def test_citations_carry_the_place_in_their_own_column() -> None:
    found = weigh([group("one", {"o/a": 50.0, "o/b": 60.0, "o/c": 70.0})], ["B"], ["o/b"], 3, 0.05)
    (citation,) = found["o/b"].citations
    assert (citation.group, citation.score, citation.place, citation.compared) == ("one", 60.0, 2, 3)


def test_a_wrong_weight_is_reported_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "catalog").mkdir()
    text = (ROOT / "catalog/ranking.yaml").read_text(encoding="utf-8").replace("  size: 2.0", "  size: much")
    (tmp_path / "catalog/ranking.yaml").write_text(text, encoding="utf-8")
    ranking, problems = read_ranking(tmp_path)
    assert ranking is None
    assert str(problems[0]).startswith("catalog/ranking.yaml:5:9: weights.size: ")


def test_the_committed_ranking_is_valid() -> None:
    assert sum(load_ranking(ROOT).weights.model_dump().values()) > 0


def test_every_model_and_task_of_the_catalog_is_in_the_picker(dataset: Dataset) -> None:
    document = json.loads(api.files(dataset)["api/v1/picker.json"])
    assert {model["id"] for model in document["models"]} == set(dataset.catalog.models)
    assert {task["id"] for task in document["tasks"]} == set(dataset.catalog.scenarios)
    for model in document["models"]:
        assert len(model["standing"]) == len(model["tables"]) == len(document["tasks"])
        for standing, tables in zip(model["standing"], model["tables"], strict=True):
            assert (standing is None) == (tables == 0)
            assert standing is None or 0 < standing <= 1


PRICE = """
import { readFileSync } from "node:fs";
import { cardOf, price } from "%s/docs/assets/js/answers.mjs";
const { data, table, cases } = JSON.parse(readFileSync(0, "utf8"));
const out = cases.map(({ hub, gpu, knobs }) => {
  const found = price(table, { hub }, knobs, cardOf(gpu, data, table));
  const { allocated, cap, needed, low, high, fits, tokens_per_second: rate } = found;
  return [allocated, cap, needed, low, high, fits, rate];
});
process.stdout.write(JSON.stringify(out));
"""


def test_the_picker_gives_the_numbers_of_the_command_line(dataset: Dataset, tmp_path: Path) -> None:
    files = api.files(dataset)
    estimator = cells_of(dataset).estimator
    draw = random.Random(5)
    models = [model.hub_id for model in dataset.catalog.models.values()]
    gpus = [gpu for gpu in dataset.catalog.gpus.values() if gpu.gpu_count == 1 and gpu.memory_gb]
    cases, expected = [], []
    while len(cases) < CASES:
        case = Case(
            recipe=draw.choice(["stock", "lean"]),
            method=draw.choice(["full", "full_bf16_adam8bit", "lora", "qlora", "lora_8bit", "prompt_tuning"]),
            micro_batch=draw.choice([1, 2, 3, 8]),
            seq_len=draw.randrange(64, 8192),
            gradient_checkpointing=draw.random() < 0.8,
            lora_rank=draw.choice([4, 8, 16, 64]),
        )
        hub, gpu = draw.choice(models), draw.choice(gpus)
        try:
            answer = estimator.estimate(hub, case, gpu)
        except NotEstimable:
            continue
        if answer.basis == "measured":
            continue
        cases.append({"hub": hub, "gpu": gpu.id, "knobs": case.model_dump()})
        need, rate = answer.needed_bytes, answer.tokens_per_second
        peaks = [answer.peak_allocated_bytes.value, answer.min_cap_bytes.value]
        expected.append([*peaks, need.value, need.low, need.high, answer.fits, rate.value if rate else None])
    script = tmp_path / "price.mjs"
    script.write_text(PRICE % ROOT, encoding="utf-8")
    question = {
        "data": json.loads(files["api/v1/picker.json"]),
        "table": json.loads(files["api/v1/coefficients.json"]),
        "cases": cases,
    }
    done = subprocess.run(
        [node_path(), str(script)], input=json.dumps(question), capture_output=True, text=True, check=True, timeout=60
    )
    for given, found, wanted in zip(cases, json.loads(done.stdout), expected, strict=True):
        assert found is not None, given
        for one, other in zip(found, wanted, strict=True):
            assert one == (pytest.approx(other, rel=1e-12) if isinstance(other, float) else other), given


@pytest.mark.parametrize("name", ["state", "rank", "configs"])
def test_scripts(name: str) -> None:
    done = subprocess.run(
        [node_path(), "--test", str(ROOT / "tests" / "js" / f"{name}.test.mjs")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
