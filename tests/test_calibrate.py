"""The fit finds a known correction, never reads the hold-out, and gives the same file twice."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from generator.accuracy import accuracy, usable
from generator.architecture import describe
from generator.calibrate import at_any_pace, fit
from generator.calibrate_speed import Steps, ceilings, factor_of, fit_speed, pattern_search
from generator.coefficients import build_coefficients, correct_rows, read_json, shape_key
from generator.dataset import load_dataset
from generator.estimate import evaluate
from generator.estimate_command import build_estimator
from generator.records import PROBE_SECONDS, Case, HubFacts, Run
from generator.runs import read_runs

from .test_estimate import GIVEN, H100, QWEN, SHALLOW

ROOT = Path(__file__).parents[1]
SLACK = 1.02
"""The published hold-out errors are reproduced exactly; this only forgives the last digits."""


def configs() -> list[HubFacts]:
    sizes = ((896, 4864, 14, 2), (2048, 11008, 16, 2), (3584, 18944, 28, 4), (5120, 13824, 40, 8))
    return [
        HubFacts(
            hub_id=f"test/qwen-{h}",
            config={
                **QWEN,
                "hidden_size": h,
                "intermediate_size": f,
                "num_attention_heads": a,
                "num_key_value_heads": k,
            },
        )
        for h, f, a, k in sizes
    ]


def make_runs(facts: Sequence[HubFacts]) -> list[Run]:
    """Runs as a card would give them whose logits cost 2 bytes more and whose layers cost a tenth more."""
    table, _ = build_coefficients(facts, [H100])
    runs = []
    for number, item in enumerate(facts):
        architecture = table.architectures[table.models[item.hub_id]]
        for method in ("lora", "qlora"):
            for checkpointing in (True, False):
                for micro_batch, seq_len in ((1, 512), (1, 1024), (4, 2048), (2, 4096), (1, 3000)):
                    case = Case(
                        method=method, gradient_checkpointing=checkpointing, micro_batch=micro_batch, seq_len=seq_len  # type: ignore[arg-type]
                    )  # fmt: skip
                    index = table.set_index(case)
                    cell, entry = architecture.cells[index], table.sets[index]
                    rows = tuple(correct_rows(row, (2.0, 0.1, 0.1, 0.0, 0.0), entry, architecture) for row in cell.rows)
                    true = type(cell)(rows, cell.speed, cell.basis)
                    pace = (0.8, 1.0, 1.3)[len(runs) % 3]
                    at_pace = case.model_copy(update={"processor_pace": pace})
                    card = table.gpus[H100.id]
                    alone = replace(card, launch_seconds=1e-15, layer_seconds=1e-15)
                    answer = evaluate(entry, architecture, true, at_pace, card)
                    busy = evaluate(entry, architecture, true, at_pace, alone).step_seconds
                    assert answer.step_seconds and busy
                    seconds = answer.step_seconds * 1.25
                    runs.append(
                        Run(
                            id=f"{number}-{method}-{checkpointing}-{micro_batch}-{seq_len}", hub_id=item.hub_id,
                            config_sha256=None, stands_for=None, case=case, gpu=H100.id, gpu_count=1, sharding=None,
                            status="ok", reason=None, holdout=seq_len == 3000, extrapolated=False,
                            peak_allocated_bytes=round(answer.allocated),
                            peak_reserved_bytes=round(answer.allocated * 1.08), process_bytes=None,
                            context_bytes=600 << 20, min_cap_bytes=round(answer.allocated * 1.04),
                            load_peak_bytes=None, breakdown_bytes=None, step_seconds=seconds, undisturbed=True,
                            gpu_seconds=busy * 1.25, probe_seconds=pace * PROBE_SECONDS,
                            tokens_per_second=micro_batch * seq_len / seconds, tflops_per_second=None, mfu=None,
                            environment={}, date=date(2026, 11, 24),
                        )
                    )  # fmt: skip
    return runs


@pytest.fixture(scope="module")
def facts() -> list[HubFacts]:
    return configs()


@pytest.fixture(scope="module")
def runs(facts: list[HubFacts]) -> list[Run]:
    return make_runs(facts)


def test_the_fit_finds_the_known_correction(facts: list[HubFacts], runs: list[Run]) -> None:
    values = fit(facts, {H100.id: H100}, runs)
    bounds = values["bounds"]
    assert bounds["allocated"]["worst"] < 0.02
    assert bounds["cap"]["worst"] < 0.02
    assert bounds["speed"]["median"] < 0.06
    assert values["sets"]["stock/lora/on"]["cap"][1] == pytest.approx(1.04, abs=1e-3)
    assert values["gpus"][H100.id]["context_bytes"] == 600 << 20


def test_the_fit_is_deterministic_and_blind_to_the_holdout(facts: list[HubFacts], runs: list[Run]) -> None:
    first = fit(facts, {H100.id: H100}, runs)
    spoilt = [
        run.model_copy(update={"peak_allocated_bytes": run.peak_allocated_bytes * 3}) if run.holdout else run  # type: ignore[operator]
        for run in reversed(runs)
    ]
    second = fit(facts, {H100.id: H100}, spoilt)
    assert second["bounds"]["allocated"]["median"] > 0.5
    for part in ("sets", "gpus", "shares"):
        assert json.dumps(first[part], sort_keys=True) == json.dumps(second[part], sort_keys=True)


def test_a_fit_leaves_traced_memory_alone_and_scales_its_work() -> None:
    fact = HubFacts(hub_id="test/traced", config=SHALLOW)
    traced = {shape_key(describe(SHALLOW)): {"sets": {"stock/lora/on": GIVEN}}}
    values = {"rows": [1.0, 0.5, 0.5, 9.0, 1e9], "cap": [0.0, 9.0, 0.0], "reserved": [0.0, 9.0, 0.0],
              "factors": {"traced": [2.0, 0.5], "closed": [1.0, 1.0]}}  # fmt: skip
    plain, _ = build_coefficients([fact], [H100], None, traced)
    fitted, _ = build_coefficients([fact], [H100], {"sets": {"stock/lora/on": values}}, traced)
    index = plain.set_index(Case(method="lora"))
    before, after = plain.architectures[0].cells[index], fitted.architectures[0].cells[index]
    assert after == before
    answer = evaluate(fitted.sets[index], fitted.architectures[0], after, Case(method="lora"))
    assert answer.allocated <= answer.cap < 1.2 * answer.allocated
    for pace, change in ((1e-6, 2.0), (1e6, 0.5)):  # the card decides, the processor decides
        case = Case(method="lora", micro_batch=4, processor_pace=pace)
        slow, quick = (
            evaluate(each.sets[index], each.architectures[0], before, case, each.gpus[H100.id]).step_seconds
            for each in (fitted, plain)
        )
        assert slow and quick and slow / quick == pytest.approx(change, rel=0.05)


def test_factors_are_found_where_runs_show_them(facts: list[HubFacts], runs: list[Run]) -> None:
    table, _ = build_coefficients(facts, [H100])
    slower = [
        run.model_copy(update={"gpu_seconds": run.gpu_seconds * (2.0 if run.case.method == "qlora" else 1.0)})  # type: ignore[operator]
        for run in runs
    ]
    point = [table.gpus[H100.id].matmul_flops, table.gpus[H100.id].attention_flops, table.gpus[H100.id].bandwidth,
             table.gpus[H100.id].kernel_seconds]  # fmt: skip

    def factors(of: list[Run]) -> dict[str, float]:
        steps = Steps(table, of)
        return steps.fit_factors(partial(steps.errors_of_card, point), np.full(len(of), True), {})

    plain, changed = factors(runs), factors(slower)
    assert plain["stock/lora"] == pytest.approx(1.25, rel=0.05)
    assert changed["stock/qlora"] / plain["stock/qlora"] == pytest.approx(2.0, rel=0.1)
    assert changed["stock/lora"] == pytest.approx(plain["stock/lora"], rel=0.05)


def test_a_method_without_runs_takes_its_relative_s_factor() -> None:
    factors = {"stock/lora": 2.0, "off": 0.5}
    assert factor_of(factors, "stock/dora/on") == factor_of(factors, "stock/lora_8bit/on") == 2.0
    assert factor_of(factors, "stock/lora/off") == 1.0
    assert factor_of(factors, "lean/lora/on") == 1.0, "another recipe has other kernels"
    assert factor_of(factors, "stock/full/on") == 1.0


def test_the_processor_s_noise_leaves_the_card_alone(facts: list[HubFacts], runs: list[Run]) -> None:
    table, _ = build_coefficients(facts, [H100])
    timed = [run for run in runs if not run.holdout]
    assert {run.paced_by for run in timed} == {"gpu", "processor"}
    figures, factors = fit_speed(table, table, timed, {H100.id: H100})
    wild = [run.model_copy(update={"probe_seconds": run.probe_seconds / 2}) for run in timed]  # type: ignore[operator]
    other, changed = fit_speed(table, table, wild, {H100.id: H100})
    assert other[H100.id][:4] == figures[H100.id][:4]
    assert [pair["traced"][0] for pair in changed.values()] == [pair["traced"][0] for pair in factors.values()]

    def launching(fitted: dict[str, list[float]], scales: dict[str, dict[str, list[float]]]) -> float:
        *_, launch, layer = fitted[H100.id]
        return (9000 * launch + 28 * layer) * scales["stock/qlora/on"]["traced"][1]

    grown = launching(other, changed) / launching(figures, factors)
    assert grown == pytest.approx(2.0, rel=0.1), "the same steps, said to be those of a host twice as quick"
    disturbed = [run.model_copy(update={"undisturbed": False, "step_seconds": 99.0}) for run in timed]
    assert fit_speed(table, table, [*timed, *disturbed], {H100.id: H100})[0] == figures


def test_an_unknown_pace_widens_the_interval() -> None:
    known = [0.9, 1 / 0.9]
    low, high = at_any_pace(known, [0.8, 1.25])
    assert low == pytest.approx(1 / high, rel=1e-3) and low < 0.8 < 1.25 < high
    assert at_any_pace(known, [1.0, 1.0]) == pytest.approx(known, rel=1e-3)


def test_the_search_finds_a_minimum() -> None:
    best, value = pattern_search(lambda p: (p[0] - 3) ** 2 + (p[1] - 0.5) ** 2, [1.0, 1.0])
    assert best == pytest.approx([3, 0.5], rel=0.02) and value < 1e-3


def test_a_broken_result_is_a_problem_with_its_place(tmp_path: Path) -> None:
    folder = tmp_path / "h100"
    folder.mkdir()
    (folder / "a.json").write_text("{", encoding="utf-8")
    (folder / "b.json").write_text('{"schema": 1}', encoding="utf-8")
    (folder / "c.json").write_text('{"schema": 99}', encoding="utf-8")
    runs, problems = read_runs(tmp_path)
    assert runs == [] and len(problems) == 3
    assert problems[0].line == 1 and "not JSON" in problems[0].reason
    assert problems[1].field == "cell" and "schema" in problems[2].reason


def test_the_holdout_error_is_not_worse_than_published() -> None:
    """The committed calibration on the committed runs: every published bound still holds."""
    calibration = read_json(ROOT / "catalog" / "calibration.json")
    dataset, problems = load_dataset(ROOT)
    assert problems == []
    assert calibration, "no calibration is committed"
    table = build_estimator(dataset.hub.values(), dataset.catalog.gpus.values(), (), ROOT / "catalog").table
    found = accuracy(table, usable(dataset.runs, table))["overall"]
    for name, bound in calibration["bounds"].items():
        for figure in ("median", "p95", "worst"):
            assert found[name][figure] <= bound[figure] * SLACK + 1e-4, f"{name} {figure}"


def test_no_fitted_rate_is_above_what_the_card_can_do() -> None:
    calibration = read_json(ROOT / "catalog" / "calibration.json")
    dataset, _ = load_dataset(ROOT)
    assert calibration["gpus"]
    for gpu, figures in calibration["gpus"].items():
        most = ceilings(dataset.catalog.gpus[gpu])
        for name, limit in zip(("matmul_flops", "attention_flops", "bandwidth"), most, strict=False):
            assert 0 < figures[name] <= limit, f"{gpu} {name}"
    assert all(calibration["shares"][name] <= 1 for name in ("matmul", "attention", "bandwidth"))
