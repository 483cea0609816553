"""The picker's data and order, and that its script gives the command line's numbers."""

from __future__ import annotations

import json
import random
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from generator.curves import LossCurves
from generator.dataset import Dataset
from generator.estimate import NotEstimable
from generator.estimate_answer import LAUNCHED_RATE, REPEATED_RATE
from generator.estimate_command import CaseReader, build_estimator
from generator.evidence import columns_of, log_odds, weigh
from generator.ranking import load_ranking, read_ranking
from generator.records import BenchmarkGroup, BenchmarkScore
from generator.views import api
from generator.views.cells import cells_of
from generator.views.picker_runs import lean_compared

from .conftest import node_path

ROOT = Path(__file__).parents[1]
CASES = 500
BATCH_LIMIT = 64
"""Largest micro-batch that the picker tries (answers.mjs)."""


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
    found = weigh(columns_of([easy, hard], 3), ["B"], ["o/a", "o/b", "o/c", "o/d", "o/e"], 0.01)
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
    found = weigh(columns_of([*joined, apart], 3), ["B"], ["o/a", "o/x"], 0.05)
    assert "o/a" in found and "o/x" not in found


def test_other_benchmarks_join_tables_but_are_no_evidence() -> None:
    old = group("old", {"o/a": 50.0, "o/b": 60.0, "o/c": 70.0})
    new = group("new", {"o/x": 55.0, "o/y": 65.0, "o/z": 75.0})
    general = group(
        "general", {"o/a": 20.0, "o/b": 30.0, "o/c": 40.0, "o/x": 70.0, "o/y": 80.0, "o/z": 90.0}, "General"
    )
    only = group("only", {"o/c": 40.0, "o/q": 50.0, "o/z": 60.0}, "General")
    everything, known = [old, new, general, only], ["o/a", "o/c", "o/x", "o/q"]
    assert set(weigh(columns_of(everything, 3), ["B"], known, 0.05)) != set(known[:3])
    found = weigh(columns_of(everything, 3), ["B"], known, 0.05, 0.1)
    assert set(found) == {"o/a", "o/c", "o/x"}  # q has no score on the task's own benchmark
    assert found["o/x"].standing > found["o/c"].standing > found["o/a"].standing
    assert {citation.benchmark for one in found.values() for citation in one.citations} == {"B"}


@pytest.mark.parametrize("seed", range(12))
def test_standings_are_those_of_the_least_squares_with_every_offset_among_the_unknowns(seed: int) -> None:
    source, names, bridge, ridge = random.Random(seed), [f"o/{n:02}" for n in range(40)], 0.3, 0.05
    tables = [
        group(f"t{n}", {name: source.uniform(5, 95) for name in source.sample(names, 12)}, "B" if n % 2 else "General")
        for n in range(16)
    ]
    normal, target = np.diag(np.full(len(names) + len(tables), ridge)), np.zeros(len(names) + len(tables))
    for column, table in enumerate(tables, start=len(names)):
        for score in table.scores:
            at = [names.index(score.model), column]
            weight = 1.0 if score.benchmark == "B" else bridge
            normal[np.ix_(at, at)] += weight
            target[at] += weight * log_odds(score.score, 100.0)
    strength = dict(zip(names, np.linalg.solve(normal, target), strict=False))
    found = weigh(columns_of(tables, 3), ["B"], names, ridge, bridge)
    assert len(found) > 30
    assert sorted(found, key=lambda name: found[name].standing) == sorted(found, key=strength.__getitem__)


def test_a_column_with_few_models_does_not_count() -> None:
    assert weigh(columns_of([group("small", {"o/a": 50.0, "o/b": 60.0})], 3), ["B"], ["o/a"], 0.05) == {}


def test_citations_carry_the_place_in_their_own_column() -> None:
    found = weigh(columns_of([group("one", {"o/a": 50.0, "o/b": 60.0, "o/c": 70.0})], 3), ["B"], ["o/b"], 0.05)
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
import { cardOf, hours, largestBatch, price } from "%s/docs/assets/js/answers.mjs";
import { readRuns } from "%s/docs/assets/js/runs.mjs";
const { data, coefficients, measured, cases } = JSON.parse(readFileSync(0, "utf8"));
const table = { ...coefficients, runs: readRuns(measured) };
const out = cases.map(({ hub, gpu, knobs, samples, epochs }) => {
  const card = cardOf(gpu, data, table);
  const found = price(table, { hub }, knobs, card);
  if (!found) return null;
  const batch = found.run || card.count > 1 ? null : largestBatch(table, { hub }, knobs, card);
  const { basis, fits, allocated, reserved, cap, needed, low, high, tokens_per_second: rate } = found;
  const { ranges, breakdown } = found;
  const edges = [...ranges.allocated, ...ranges.reserved, ...ranges.cap, ...(ranges.rate ?? [null, null])];
  const figures = [allocated, reserved, cap, needed, low, high, rate, ...edges, hours(found, samples, epochs)];
  const paced = found.run || !rate ? null : found.pace;
  return { basis, fits, figures, breakdown, batch, paced };
});
process.stdout.write(JSON.stringify(out));
"""


def command_answer(reader: CaseReader, case: dict[str, Any], samples: int, epochs: float) -> dict[str, Any] | None:
    """What the command line says of a case, unrounded; None where it refuses."""
    try:
        answer = reader.answer(case)
    except NotEstimable:
        return None
    rate = answer.tokens_per_second
    spans = [answer.peak_allocated_bytes, answer.peak_reserved_bytes, answer.min_cap_bytes]
    edges = [edge for span in spans for edge in (span.low, span.high)]
    time = samples * epochs * case["seq_len"] / rate.value / 3600 if rate else None
    need = answer.needed_bytes
    return {
        "basis": answer.basis,
        "fits": answer.fits,
        "figures": [
            *(span.value for span in spans), need.value, need.low, need.high, rate.value if rate else None,
            *edges, rate.low if rate else None, rate.high if rate else None, time,
        ],
        "breakdown": answer.breakdown_bytes,
        "batch": min(answer.largest_micro_batch or 1, BATCH_LIMIT)
        if answer.basis != "measured" and case.get("gpu_count", 1) == 1
        else None,
        "paced": answer.limited_by if answer.basis != "measured" else None,
    }  # fmt: skip


def rate_width(figures: list[float]) -> float:
    """Half the interval of tokens per second, relative, of `command_answer`'s figures."""
    rate, low, high = figures[6], *figures[-3:-1]
    return round((high - low) / 2 / rate, 9)


def draw_cases(dataset: Dataset, draw: random.Random) -> Iterator[tuple[dict[str, Any], str]]:
    """Cases of the command line and the picker's card for each; every fourth is one that was measured.

    Not drawn are measured cases that the command line refuses, such as layer names of an architecture that stood in for
    the model's own: the picker never asks for layers by name.
    """
    catalog, estimator = dataset.catalog, cells_of(dataset).estimator
    known = {model.hub_id for model in catalog.models.values()}
    runs = [run for run in dataset.runs if run.status == "ok" and run.hub_id in known and run.gpu_count == 1]
    measured = [run for run in runs if estimator.knows(run.hub_id, run.case)]
    cards = [gpu for gpu in catalog.gpus.values() if gpu.memory_gb and gpu.gpu_count]
    while True:
        if measured and draw.random() < 0.25:
            run = draw.choice(measured)
            yield {"model": run.hub_id, "gpu": run.gpu, **run.case.model_dump()}, run.gpu
            continue
        card = draw.choice(cards)
        yield (
            {
                "model": draw.choice(sorted(known)),
                "gpu": card.card or card.id,
                "gpu_count": card.gpu_count,
                "recipe": draw.choice(["stock", "lean"]),
                "method": draw.choice(
                    ["full", "full_bf16_adam8bit", "lora", "qlora", "lora_8bit", "dora", "prompt_tuning"]
                ),
                "micro_batch": draw.choice([1, 2, 3, 8, 64]),
                "seq_len": draw.randrange(64, 131072) if draw.random() < 0.1 else draw.randrange(64, 8192),
                "gradient_checkpointing": draw.random() < 0.8,
                "lora_rank": draw.choice([1, 4, 8, 16, 64, 256]),
                "lora_targets": "all-linear",
                "processor_pace": draw.choice([None, None, 0.8, 1.3]),
            },
            card.id,
        )


def test_the_picker_gives_the_numbers_of_the_command_line(dataset: Dataset, tmp_path: Path) -> None:
    files = api.files(dataset)
    catalog = dataset.catalog
    facts = [dataset.facts(model) for model in catalog.models.values()]
    reader = CaseReader(build_estimator(facts, catalog.gpus.values(), dataset.runs, ROOT / "catalog"), catalog.gpus, {})
    draw = random.Random(5)
    cases, expected = [], []
    for case, card in islice(draw_cases(dataset, draw), CASES):
        samples, epochs = draw.randrange(1, 100_000), draw.choice([0.5, 1.0, 3.0])
        knobs = {name: value for name, value in case.items() if name not in ("model", "gpu", "gpu_count")}
        cases.append({"hub": case["model"], "gpu": card, "knobs": knobs, "samples": samples, "epochs": epochs})
        expected.append(command_answer(reader, case, samples, epochs))
    script = tmp_path / "price.mjs"
    script.write_text(PRICE % (ROOT, ROOT), encoding="utf-8")
    question = {
        "data": json.loads(files["api/v1/picker.json"]),
        "coefficients": json.loads(files["api/v1/coefficients.json"]),
        "measured": json.loads(files["api/v1/measured.json"]),
        "cases": cases,
    }
    done = subprocess.run(
        [node_path(), str(script)], input=json.dumps(question), capture_output=True, text=True, check=True, timeout=60
    )
    for given, found, wanted in zip(cases, json.loads(done.stdout), expected, strict=True):
        if wanted is None:
            assert found is None, given
            continue
        assert found is not None, given
        assert (found["basis"], found["fits"]) == (wanted["basis"], wanted["fits"]), given
        figures = [value if value is None else pytest.approx(value, rel=1e-12) for value in wanted["figures"]]
        assert found["figures"] == figures, given
        sizes = {name: pytest.approx(size, rel=1e-9, abs=1) for name, size in wanted["breakdown"].items()}
        assert found["breakdown"] == sizes, given
        assert found["batch"] == wanted["batch"], given
    seen = Counter("refused" if wanted is None else wanted["basis"] for wanted in expected)
    assert seen["refused"] >= 5 and seen["measured"] >= 50 and seen["estimated"] + seen["interpolated"] >= 200, seen
    assert {wanted["fits"] for wanted in expected if wanted} == {"yes", "tight", "no"}
    assert sum(catalog.gpus[case["gpu"]].gpu_count > 1 for case in cases) >= 20
    widths = Counter(rate_width(wanted["figures"]) for wanted in expected if wanted and wanted["basis"] == "measured")
    assert min(widths[REPEATED_RATE], widths[LAUNCHED_RATE]) >= 5, widths


def test_every_measured_run_of_the_catalog_reaches_the_picker(dataset: Dataset) -> None:
    document = json.loads(api.files(dataset)["api/v1/measured.json"])
    known = {model.hub_id for model in dataset.catalog.models.values()}
    measured = {key for key in cells_of(dataset).estimator.measured if key[0] in known}
    assert sum(len(rows) for rows in document["runs"].values()) == len(measured) > 0
    for rows in document["runs"].values():
        for row in rows:
            assert row[6] and document["environments"][row[12]]["versions"].startswith("torch ")


def named_rows(document: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Every row of a document of measured runs after its Hub id, with the environment in words."""
    places = document["environments"]
    return [(hub, *row[:12], places[row[12]], *row[13:]) for hub, rows in document["runs"].items() for row in rows]


def test_the_files_of_the_cards_share_out_the_measured_runs(dataset: Dataset) -> None:
    files = api.files(dataset)
    whole = named_rows(json.loads(files["api/v1/measured.json"]))
    cards = json.loads(files["api/v1/picker.json"])["measured"]
    assert {f"api/v1/measured/{card}.json" for card in cards} == {path for path in files if "/measured/" in path}
    parts = []
    for card in cards:
        document = json.loads(files[f"api/v1/measured/{card}.json"])
        rows = named_rows(document)
        assert rows and {row[1] for row in rows} == {card}
        assert len(document["environments"]) == len({str(row[13]) for row in rows}), "only the card's own environments"
        parts += rows
    assert sorted(map(repr, parts)) == sorted(map(repr, whole))


def test_a_measured_row_ends_with_what_set_its_speed_and_the_processor_s_pace(dataset: Dataset) -> None:
    rows = named_rows(json.loads(api.files(dataset)["api/v1/measured.json"]))
    runs = [run for key, run in cells_of(dataset).estimator.measured.items() if key[0] in {row[0] for row in rows}]
    found = Counter((row[1], *row[-2:]) for row in rows)
    words = {"gpu": 0, "processor": 1, None: None}
    assert found == Counter((run.gpu, words[run.paced_by], run.processor_pace) for run in runs)
    assert {pace for _, pace, _ in found} == {0, 1, None}
    assert any(pace for *_, pace in found) and None in {pace for *_, pace in found}


def curves(**values: Any) -> LossCurves:
    whole = {
        "schema": 1, "model": "o/a", "layers": 4, "method": "lora", "micro_batch": 1, "seq_len": 64, "steps": 200,
        "gradient_checkpointing": True, "learning_rate": 1e-3, "text_sha256": "0", "stock": (1.0,), "lean": (1.0,),
        "stock_reordered": None, "mean_difference": 0.001, "max_difference": 0.002, "mean_noise": None,
        "final_difference": "0 %", "agree": True, "tolerance": 0.005, "environment": {"date": "2026-11-25"}, **values,
    }  # fmt: skip
    return LossCurves.model_validate(whole)


def test_lean_is_called_compared_only_by_committed_curves(dataset: Dataset) -> None:
    assert lean_compared(replace(dataset, curves=())) is None
    two = [curves(steps=300), curves(model="o/b", environment={"date": "2026-11-26"})]
    found = lean_compared(replace(dataset, curves=two))
    assert found == {"agree": True, "models": ["o/a", "o/b"], "steps": 300, "date": "2026-11-26"}
    found = lean_compared(replace(dataset, curves=[*two, curves(agree=False)]))
    assert found and found["agree"] is False


@pytest.mark.parametrize("name", ["state", "rank", "configs", "ladder"])
def test_scripts(name: str) -> None:
    done = subprocess.run(
        [node_path(), "--test", str(ROOT / "tests" / "js" / f"{name}.test.mjs")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
