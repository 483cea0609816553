"""The plan: what comes first, what is left out, and that the harness reads every line."""

import json
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from generator.cli import main
from generator.dataset import Dataset
from generator.estimate_command import build_estimator
from generator.hub.discovered import Discovered, Discovery
from generator.plan import Wish, current_recipe, disagree, draw_holdout, is_stale, make_plan, write_configs, write_lines
from generator.records import GIB, Case, HubFacts, Run, slug
from measurements.campaign import make_plan as campaign_plan
from measurements.cells import make_cell, plan_line, read_config, read_plan

from .test_estimate import H100, QWEN

TODAY = date(2026, 11, 24)
NEW, OLD = "aaaaaaaaaaaa", "bbbbbbbbbbbb"


def fact(name: str, hidden: int, downloads: int) -> HubFacts:
    config = {**QWEN, "hidden_size": hidden, "num_attention_heads": hidden // 64, "num_key_value_heads": 2}
    return HubFacts(hub_id=name, config=config, downloads=downloads, context_length=2048, revision="0" * 40)


FACTS = {
    item.hub_id: item
    for item in (fact("test/small", 512, 5), fact("test/known", 1024, 10), fact("test/twin", 1024, 99))
}


def run(case: Case, **changes: object) -> Run:
    values: dict[str, object] = {
        "id": f"h100/{len(str(case))}-{changes}", "hub_id": "test/known", "config_sha256": None, "stands_for": None,
        "case": case, "gpu": H100.id, "gpu_count": 1, "sharding": None, "status": "ok", "reason": None,
        "holdout": False, "extrapolated": False, "peak_allocated_bytes": None, "peak_reserved_bytes": None,
        "process_bytes": None, "context_bytes": None, "min_cap_bytes": None, "load_peak_bytes": None,
        "breakdown_bytes": None, "step_seconds": 0.1, "tokens_per_second": 10000.0, "tflops_per_second": None,
        "mfu": None, "environment": {"recipe_hash": NEW}, "date": TODAY,
    }  # fmt: skip
    return Run(**{**values, **changes})  # type: ignore[arg-type]


def plan(runs: list[Run], **options: object) -> list[Wish]:
    estimator = build_estimator(FACTS.values(), [H100])
    arguments = {"today": TODAY, **options}
    return make_plan(estimator, FACTS, runs, H100.id, 80 * GIB, **arguments)  # type: ignore[arg-type]


def estimated_bytes(case: Case) -> float:
    return build_estimator(FACTS.values(), [H100]).estimate("test/known", case).peak_allocated_bytes.value


SMALL, LONG = Case(method="qlora", seq_len=1024), Case(method="lora", seq_len=2048, micro_batch=4)


def test_discovered_models_come_first_then_missing_stale_and_contradictory_cells() -> None:
    runs = [
        run(SMALL, peak_allocated_bytes=round(estimated_bytes(SMALL) * 3)),
        run(LONG, environment={"recipe_hash": OLD}, date=date(2026, 11, 1)),
    ]
    wishes = plan(runs, discovered=["test/small"])
    reasons = [wish.reason for wish in wishes]
    assert reasons == sorted(reasons, key=["discovered", "missing", "stale", "contradictory"].index)
    assert {wish.hub_id for wish in wishes if wish.reason == "discovered"} == {"test/small"}
    assert [wish.case for wish in wishes if wish.reason == "stale"] == [LONG]
    assert [wish.case for wish in wishes if wish.reason == "contradictory"] == [SMALL]
    assert all(wish.repeat == 1 for wish in wishes if wish.reason in ("stale", "contradictory"))
    assert not any(wish.case in (SMALL, LONG) for wish in wishes if wish.reason == "missing")


def test_one_model_stands_for_all_of_its_shape() -> None:
    assert "test/known" not in {wish.hub_id for wish in plan([])}  # the twin has more downloads
    assert "test/twin" not in {wish.hub_id for wish in plan([run(SMALL)])}  # but the other is measured


def test_the_best_cell_of_every_model_comes_before_the_second_of_any() -> None:
    first = plan([])[:2]
    assert {wish.hub_id for wish in first} == {"test/small", "test/twin"}
    assert len({str(wish.case) for wish in first}) == 1


def test_nothing_is_longer_than_the_model_reads_or_larger_than_the_card() -> None:
    assert max(wish.case.seq_len for wish in plan([])) == 2048
    estimator = build_estimator(FACTS.values(), [H100])
    tight = make_plan(estimator, FACTS, [], H100.id, 4 * GIB, today=TODAY)
    assert 0 < len(tight) < len(plan([]))
    assert all(estimator.estimate(w.hub_id, w.case).needed_bytes.low <= 4 * GIB for w in tight)


def test_a_held_out_result_is_never_measured_again_for_disagreeing_with_the_estimate() -> None:
    assert not any(w.reason == "contradictory" for w in plan([run(SMALL, peak_allocated_bytes=1, holdout=True)]))


def test_two_results_of_one_cell_that_disagree_are_contradictory_even_when_held_out() -> None:
    pair = [run(SMALL, peak_allocated_bytes=n, holdout=True, repeat=i) for i, n in enumerate((100_000, 102_000))]
    assert disagree(pair)
    assert [w.repeat for w in plan(pair) if w.reason == "contradictory"] == [2]
    busy = {"undisturbed": True, "launch_share": 0.7, "step_seconds": 1.0}
    assert not disagree([run(SMALL, tokens_per_second=n, **busy) for n in (100.0, 105.0)])
    assert disagree([run(SMALL, tokens_per_second=n, **busy) for n in (100.0, 120.0)])
    launched = {"undisturbed": True, "launch_share": 0.999, "step_seconds": 1.0}
    assert not disagree([run(SMALL, tokens_per_second=n, **launched) for n in (100.0, 120.0)])


@pytest.mark.parametrize(
    ("day", "months", "recipe", "stale"),
    [
        (date(2026, 11, 24), 6, NEW, False),
        (date(2026, 5, 25), 6, NEW, False),
        (date(2026, 5, 24), 6, NEW, True),
        (date(2026, 11, 24), 6, OLD, True),
        (date(2026, 11, 24), 6, None, False),
    ],
)
def test_results_grow_stale_by_age_and_by_recipe(day: date, months: int, recipe: str | None, stale: bool) -> None:
    assert is_stale(run(SMALL, date=day), TODAY, months, recipe) is stale


def test_a_newer_result_takes_the_stale_one_off_the_list() -> None:
    old = run(SMALL, environment={"recipe_hash": OLD}, date=date(2026, 1, 1), status="oom")
    assert any(wish.reason == "stale" for wish in plan([old, run(LONG)]))
    new = run(SMALL, repeat=1, status="oom")
    assert not any(wish.reason == "stale" for wish in plan([old, new]))
    assert current_recipe([old, new]) == NEW and current_recipe([]) is None


def test_the_harness_reads_every_line_as_written(tmp_path: Path) -> None:
    wishes = plan([run(SMALL, environment={"recipe_hash": OLD}), run(LONG)])
    wishes.append(Wish("a/b", Case(method="lora", lora_targets=("q_proj",)), "missing"))
    path = tmp_path / "plan.jsonl"
    write_lines(wishes, path)
    cells = read_plan(path)
    assert [plan_line(cell) for cell in cells] == path.read_text(encoding="utf-8").splitlines()
    assert [cell.model for cell in cells] == [wish.hub_id for wish in wishes]


def test_the_holdout_is_drawn_as_the_harness_draws_it() -> None:
    drawn = []
    for cell in campaign_plan():
        if cell.holdout_kind == "model" or cell.repeat:
            continue
        drawn.append(draw_holdout(cell.knobs()) == cell.holdout_kind)
    assert len(drawn) > 100 and all(drawn)


def test_configs_that_the_harness_lacks_are_written_for_it(tmp_path: Path) -> None:
    wishes = plan([])
    assert sorted(write_configs(wishes, FACTS, tmp_path)) == ["test/small", "test/twin"]
    assert write_configs(wishes, FACTS, tmp_path) == []
    assert (tmp_path / f"{slug('test/small')}.json").exists()
    assert read_config("test/small", tmp_path)["config"]["hidden_size"] == 512
    assert make_cell({"model": "test/small"}).model == "test/small"


def test_the_command_writes_a_plan_for_the_committed_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "plan.jsonl"
    assert main(["plan", "--limit", "5", "--out", str(path)]) == 0
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(lines) == 5 and "5 of" in capsys.readouterr().err
    assert main(["plan", "--gpu", "abacus", "--out", str(path)]) == 2


def test_what_the_last_search_found_comes_first(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = fact("new-maker/new-model", 1536, 7)
    found = Discovery(
        searched="2026-11-24", seen=1, left_out={},
        models=[Discovered(facts=new, notable=["trending"], first_seen="2026-11-24")],
    )  # fmt: skip
    monkeypatch.setattr("generator.dataset.require_dataset", lambda root: replace(dataset, discovery=found))
    path = tmp_path / "plan.jsonl"
    assert main(["plan", "--limit", "5", "--out", str(path)]) == 0
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert {line["model"] for line in lines} == {"new-maker/new-model"}
