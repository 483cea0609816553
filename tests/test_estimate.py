"""The estimator: shapes counted exactly, one sum in two languages, answers that make sense."""

import json
import subprocess
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from generator.architecture import UnknownArchitecture, count_parameters, describe
from generator.cli import main
from generator.coefficients import shape_key
from generator.estimate import NotEstimable, evaluate
from generator.estimate_answer import LAUNCHED_RATE, PROCESSOR_PACED, REPEATED_RATE, Estimator
from generator.estimate_command import CaseReader, answer_cases, build_estimator, publish_coefficients
from generator.estimate_format import from_json, to_json
from generator.records import GIB, Case, GpuEntry, HubFacts, Range, Run
from generator.traced import read_traced

from .conftest import node_path

ROOT = Path(__file__).parents[1]
VECTORS = ROOT / "tests" / "vectors" / "estimate.json"
H100 = GpuEntry(
    id="h100-sxm-80gb", name="H100", vendor="NVIDIA", category="data_centre", memory_gb=80.0, torch_total_gib=79.179,
    bandwidth_gb_s=3350.0, bf16_dense_tflops=989.0,
)  # fmt: skip
LAPTOP = GpuEntry(id="laptop-8gb", name="8 GB", vendor="NVIDIA", category="laptop", memory_gb=8.0)
QWEN = {
    "model_type": "qwen2", "hidden_size": 3584, "intermediate_size": 18944, "num_attention_heads": 28,
    "num_hidden_layers": 28, "num_key_value_heads": 4, "tie_word_embeddings": False, "vocab_size": 152064,
}  # fmt: skip
GPT2 = {"model_type": "gpt2", "n_embd": 768, "n_head": 12, "n_layer": 12, "n_positions": 1024, "vocab_size": 50257}
SHALLOW = {**QWEN, "num_hidden_layers": 24}
GIVEN = {
    "rows": [[14005000000, 17506000, 1999620, 12, 0, 0, 0], [14008000000, 23340000, 621716, 350, 2, 77, 1]],
    "speed": [24000000000.0, 602112, 12000000000.0, 150000000.0, 9000.5],
    "allocator": [[1024, 16 * GIB, 16 * GIB + 600 * 1024**2, 17 * GIB], [8192, 30 * GIB, 33 * GIB, 34 * GIB]],
}
"""Coefficients as ``distil`` writes them, made up."""


def make_estimator() -> Estimator:
    """Two models in closed form, and one of which two sets are traced."""
    facts = [HubFacts(hub_id=f"test/{name}", config=config)
             for name, config in (("qwen", QWEN), ("gpt2", GPT2), ("traced", SHALLOW))]  # fmt: skip
    sets = {"stock/lora/on": GIVEN, "lean/lora/off": GIVEN, "stock/full/on": {"refused": "no reason"}}
    traced = {shape_key(describe(SHALLOW)): {"sets": sets}}
    return build_estimator(facts, [H100, LAPTOP], traced=traced)


@pytest.fixture(scope="module")
def estimator() -> Estimator:
    return make_estimator()


def test_a_traced_set_is_taken_as_it_is_and_what_was_refused_is_closed(estimator: Estimator) -> None:
    case = Case(method="lora", seq_len=2048, micro_batch=4)
    found = estimator.estimate("test/traced", case)
    rows = [row[0] + row[1] * 16 + row[2] * 8192 + row[3] * 16 * 8192 + row[4] * 8192 * 2048 for row in GIVEN["rows"]]
    assert max(rows) <= found.peak_allocated_bytes.value <= max(rows) * 1.001
    assert found.min_cap_bytes.value - max(rows) == pytest.approx(3 * GIB, rel=1e-2)
    assert found.peak_reserved_bytes.value - max(rows) == pytest.approx(4 * GIB, rel=1e-2)
    assert "traced" in found.basis_note
    closed = estimator.estimate("test/traced", Case(method="full"))
    assert "closed form" in closed.basis_note
    width = [answer.peak_allocated_bytes.high / answer.peak_allocated_bytes.value for answer in (found, closed)]
    assert width[0] < width[1]


@pytest.mark.parametrize(
    ("change", "field"),
    [({"schema": 9}, "schema"), ({"shape": "other"}, "shape"), ({"sets": {"stock/magic/on": GIVEN}}, "sets"),
     ({"sets": {"stock/lora/on": {**GIVEN, "rows": [[1, 2, 3]]}}}, "rows"),
     ({"sets": {"stock/lora/on": {**GIVEN, "speed": [1, 2]}}}, "speed"),
     ({"sets": {"stock/lora/on": {**GIVEN, "allocator": [[1024, 5, 4, 6]]}}}, "allocator")],
)  # fmt: skip
def test_a_broken_traced_file_is_a_problem_with_its_field(tmp_path: Path, change: dict[str, Any], field: str) -> None:
    sound = {"schema": 1, "shape": "abc", "sets": {"stock/lora/on": GIVEN}}
    (tmp_path / "abc.json").write_text(json.dumps(sound), encoding="utf-8")
    assert read_traced(tmp_path) == ({"abc": sound}, [])
    (tmp_path / "abc.json").write_text(json.dumps({**sound, **change}), encoding="utf-8")
    found, (problem,) = read_traced(tmp_path)
    assert found == {} and field in problem.field and problem.file == "catalog/traced/abc.json"


@pytest.fixture(scope="module")
def reader(estimator: Estimator) -> CaseReader:
    return CaseReader(estimator, {gpu.id: gpu for gpu in (H100, LAPTOP)}, {})


def test_parameters_are_those_of_the_checkpoints() -> None:
    assert count_parameters(QWEN) == 7_615_616_512
    assert count_parameters(GPT2) == 124_439_808


def test_every_snapshot_config_counts_as_the_snapshot_says() -> None:
    checked = 0
    for path in sorted((ROOT / "catalog" / "hub").glob("*.json")):
        facts = json.loads(path.read_text(encoding="utf-8"))
        count = count_parameters(facts.get("config") or {})
        if count and facts.get("parameters"):
            assert count == pytest.approx(facts["parameters"], rel=0.005), path.name
            checked += 1
    assert checked > 150


def test_an_unknown_architecture_is_refused_by_name() -> None:
    with pytest.raises(UnknownArchitecture, match="'nonsense'"):
        describe({"model_type": "nonsense", "hidden_size": 1})
    with pytest.raises(UnknownArchitecture, match="hidden_size"):
        describe({"model_type": "llama"})


@pytest.mark.parametrize(
    ("method", "recipe", "micro_batch", "seq_len", "mib"),
    [("qlora", "stock", 1, 1024, 11169), ("qlora", "stock", 4, 2048, 27527), ("qlora", "lean", 1, 1024, 6151),
     ("qlora", "lean", 4, 2048, 10718)],
)  # fmt: skip
def test_first_measurements_lie_in_the_interval(
    estimator: Estimator, method: Any, recipe: Any, micro_batch: int, seq_len: int, mib: int
) -> None:
    """Qwen2.5-7B on one H100: allocated peaks measured before the campaign, which no fit uses."""
    case = Case(method=method, recipe=recipe, micro_batch=micro_batch, seq_len=seq_len)
    found = estimator.estimate("test/qwen", case, H100).peak_allocated_bytes
    assert found.low <= mib * 1024**2 <= found.high


def test_the_breakdown_sums_to_the_peak(estimator: Estimator) -> None:
    for entry in estimator.table.sets:
        recipe, method, checkpointing = entry.id.split("/")
        case = Case(recipe=recipe, method=method, gradient_checkpointing=checkpointing == "on")  # type: ignore[arg-type]
        if estimator.knows("test/qwen", case):
            answer = estimator.estimate("test/qwen", case)
            assert sum(answer.breakdown_bytes.values()) == pytest.approx(answer.peak_allocated_bytes.value)
            assert min(answer.breakdown_bytes.values()) >= 0, entry.id


def test_more_work_never_needs_less(estimator: Estimator) -> None:
    small, *others = (
        estimator.estimate("test/qwen", case, H100).needed_bytes.value
        for case in (Case(), Case(seq_len=4096), Case(micro_batch=2), Case(lora_rank=64), Case(method="lora"))
    )
    assert all(other > small for other in others)
    one = estimator.estimate("test/qwen", Case(lora_targets=("q_proj", "v_proj")), H100)
    assert one.needed_bytes.value < small


def test_the_largest_length_fits_and_the_next_does_not(estimator: Estimator) -> None:
    answer = estimator.estimate("test/qwen", Case(), H100)
    assert answer.largest_seq_len and answer.largest_micro_batch
    assert estimator.estimate("test/qwen", Case(seq_len=answer.largest_seq_len), H100).fits == "yes"
    assert estimator.estimate("test/qwen", Case(seq_len=answer.largest_seq_len + 64), H100).fits != "yes"
    assert estimator.estimate("test/qwen", Case(method="full"), LAPTOP).fits == "no"
    assert estimator.estimate("test/qwen", Case(method="full"), LAPTOP).largest_seq_len is None


def test_sharding_divides_the_states(estimator: Estimator) -> None:
    case = Case(method="full")
    one, eight = (estimator.estimate("test/qwen", case, H100, count) for count in (1, 8))
    assert eight.breakdown_bytes["optimizer"] == pytest.approx(one.breakdown_bytes["optimizer"] / 8)
    assert eight.basis == "estimated" and "not measured" in eight.basis_note


def test_the_table_is_the_single_answer_many_times(estimator: Estimator) -> None:
    cases = [Case(seq_len=n, method=m) for n in (512, 4096) for m in ("qlora", "lora", "full")]  # type: ignore[arg-type]
    names = ["test/qwen", "test/gpt2", "test/traced"]
    found = estimator.matrix(names, cases, [H100.id])
    for i, hub_id in enumerate(names):
        for j, case in enumerate(cases):
            answer = estimator.estimate(hub_id, case, H100)
            assert found["allocated"][i, j] == pytest.approx(answer.peak_allocated_bytes.value, rel=1e-12)
            assert found["cap"][i, j] == pytest.approx(answer.min_cap_bytes.value, rel=1e-12)
            assert answer.tokens_per_second
            assert found["tokens_per_second"][i, j, 0] == pytest.approx(answer.tokens_per_second.value, rel=1e-9)


def test_bad_cases_are_answered_with_their_reason(reader: CaseReader) -> None:
    lines = [
        '{"model": "test/qwen", "gpu": "h100-sxm-80gb"}', "not json", '{"model": "test/qwen", "seq_len": "long"}',
        '{"model": "no/such"}', '{"config": {"model_type": "nonsense"}}', '{"model": "test/gpt2", "recipe": "lean"}',
        '{"model": "test/qwen", "lora_targets": ["nope"]}', json.dumps({"config": GPT2, "method": "full"}),
    ]  # fmt: skip
    answers, code = answer_cases(reader, lines)
    assert code == 1
    assert [("error" in answer) for answer in answers] == [False, True, True, True, True, True, True, False]
    assert "not JSON" in answers[1]["error"] and answers[2]["error"].startswith("seq_len: ")
    assert answers[0]["needed_bytes_low"] < answers[0]["needed_bytes"] < answers[0]["needed_bytes_high"]
    assert answers[0]["fits"] == "yes" and answers[0]["needed_bytes"] > 8 * GIB


def test_the_published_table_reads_back(estimator: Estimator) -> None:
    published = json.loads(json.dumps(publish_coefficients(estimator)))
    assert to_json(from_json(published)) == published
    with pytest.raises(NotEstimable, match="version"):
        from_json({**published, "version": 99})


def make_run(estimator: Estimator, case: Case, factor: float) -> Run:
    """A run of test/qwen on the H100 that measured ``factor`` times the estimate."""
    answer = estimator.estimate("test/qwen", case, H100)
    assert answer.tokens_per_second
    tokens = case.micro_batch * case.seq_len
    return Run(
        id=f"run-{tokens}", hub_id="test/qwen", config_sha256=None, stands_for=None, case=case, gpu=H100.id,
        gpu_count=1, sharding=None, status="ok", reason=None, holdout=False, extrapolated=False, repeat=0,
        peak_allocated_bytes=round(answer.peak_allocated_bytes.value * factor),
        peak_reserved_bytes=round(answer.peak_reserved_bytes.value * factor), process_bytes=None, context_bytes=None,
        min_cap_bytes=round(answer.min_cap_bytes.value * factor), load_peak_bytes=None, breakdown_bytes=None,
        step_seconds=None, tokens_per_second=answer.tokens_per_second.value * factor, tflops_per_second=None,
        mfu=None, environment={}, date=date(2026, 11, 25),
    )  # fmt: skip


def test_a_case_between_two_runs_is_interpolated(estimator: Estimator) -> None:
    runs = [make_run(estimator, Case(seq_len=1024), 1.0), make_run(estimator, Case(seq_len=4096), 1.1)]
    both = Estimator(estimator.table, runs, estimator.shapes)
    plain = estimator.estimate("test/qwen", Case(seq_len=2048), H100)
    found = both.estimate("test/qwen", Case(seq_len=2048), H100)
    assert found.basis == "interpolated" and "run-1024" in found.basis_note and "run-4096" in found.basis_note
    for name in ("peak_allocated_bytes", "min_cap_bytes", "tokens_per_second"):
        value = getattr(found, name).value / getattr(plain, name).value
        assert value == pytest.approx(1.05, rel=0.01), name
    assert sum(found.breakdown_bytes.values()) == pytest.approx(found.peak_allocated_bytes.value)
    for other in (Case(seq_len=8192), Case(seq_len=2048, lora_rank=8), Case(seq_len=2048, method="lora")):
        assert both.estimate("test/qwen", other, H100).basis == "estimated"


@pytest.mark.parametrize(
    ("busy", "launch_share", "undisturbed", "spread", "said"),
    [(0.95, 0.4, True, REPEATED_RATE, False), (0.5, 0.4, True, LAUNCHED_RATE, True),
     (0.95, 0.4, False, LAUNCHED_RATE, False), (None, 0.4, True, REPEATED_RATE, False),
     (None, 0.99, True, LAUNCHED_RATE, True), (None, None, True, LAUNCHED_RATE, False)],
)  # fmt: skip
def test_a_measured_rate_is_as_sure_as_what_set_it(
    estimator: Estimator, busy: float | None, launch_share: float | None, undisturbed: bool, spread: float, said: bool
) -> None:
    """``busy``: share of the step in which the GPU worked; where it was not measured, the processor's share decides."""
    case = Case(seq_len=1024)
    pace = {"launch_share": launch_share, "undisturbed": undisturbed, "step_seconds": 2.0,
            "gpu_seconds": busy and 2.0 * busy}  # fmt: skip
    run = make_run(estimator, case, 1.1).model_copy(update=pace)
    found = Estimator(estimator.table, [run], estimator.shapes).estimate("test/qwen", case, H100)
    rate = found.tokens_per_second
    assert found.basis == "measured" and rate and run.tokens_per_second
    assert (rate.value, rate.low, rate.high) == pytest.approx(
        (run.tokens_per_second, run.tokens_per_second * (1 - spread), run.tokens_per_second * (1 + spread))
    )
    assert (PROCESSOR_PACED in found.basis_note) is said
    silent = Estimator(estimator.table, [run.model_copy(update={"tokens_per_second": None})], estimator.shapes)
    assert PROCESSOR_PACED not in silent.estimate("test/qwen", case, H100).basis_note


def test_a_slower_processor_slows_only_what_it_paces_and_a_known_one_is_surer(estimator: Estimator) -> None:
    def rate(case: Case, pace: float | None) -> Range:
        found = estimator.estimate("test/qwen", case.model_copy(update={"processor_pace": pace}), H100)
        assert found.tokens_per_second and found.limited_by == ("processor" if case.seq_len < 500 else "gpu")
        return found.tokens_per_second

    short, long = Case(seq_len=128, method="lora"), Case(seq_len=4096, micro_batch=8, method="lora")
    assert rate(short, 1.5).value == pytest.approx(rate(short, None).value / 1.5, rel=0.02)
    assert rate(long, 1.5).value == pytest.approx(rate(long, None).value, rel=0.02)
    known, unknown = rate(short, 1.0), rate(short, None)
    assert known.value == unknown.value and known.high - known.low < unknown.high - unknown.low


def test_a_training_takes_its_tokens_at_the_estimated_rate(reader: CaseReader) -> None:
    case = {"model": "test/qwen", "gpu": H100.id, "samples": 1000, "epochs": 3}
    rented = CaseReader(reader.estimator, {H100.id: H100.model_copy(update={"hourly_usd": 2.0})}, {})
    answer, training = rented.answer_training(case)
    assert answer.tokens_per_second
    assert training["training_tokens"] == 1000 * 2048 * 3
    seconds = training["training_seconds"]
    assert seconds == pytest.approx(training["training_tokens"] / answer.tokens_per_second.value, abs=0.1)
    assert training["training_seconds_low"] < seconds < training["training_seconds_high"]
    assert training["training_usd"] == pytest.approx(seconds / 3600 * 2, abs=0.01)
    with pytest.raises(ValueError, match="samples: "):
        rented.answer({**case, "samples": -1})


def test_a_config_without_entry_is_traced_where_torch_is(reader: CaseReader, monkeypatch: pytest.MonkeyPatch) -> None:
    config = {**QWEN, "hidden_size": 256, "intermediate_size": 512, "num_attention_heads": 4, "num_hidden_layers": 5,
              "num_key_value_heads": 2, "vocab_size": 32000}  # fmt: skip
    case = {"config": config, "method": "lora"}
    unknown = {**config, "model_type": "cohere"}
    with monkeypatch.context() as patch:
        patch.setattr("generator.estimate_command.can_trace", lambda: False)
        closed = reader.answer(case)
        assert "closed form" in closed.basis_note
        with pytest.raises(UnknownArchitecture, match="cohere"):
            reader.answer({**case, "config": unknown})
    traced = reader.answer(case)
    assert "traced" in traced.basis_note
    assert traced.peak_allocated_bytes.value == pytest.approx(closed.peak_allocated_bytes.value, rel=0.15)
    other = reader.answer({**case, "config": unknown, "gpu": H100.id})
    assert other.tokens_per_second is None and other.fits == "yes"
    assert other.peak_allocated_bytes.value == pytest.approx(traced.peak_allocated_bytes.value, rel=0.1)


def vectors(estimator: Estimator) -> dict[str, Any]:
    """The shared vectors: a table, knobs, and what ``evaluate`` answers."""
    cases = []
    factors = {"traced": (0.9, 1.3), "closed": (1.1, 0.8)}
    table = replace(estimator.table, sets=tuple(replace(entry, factors=factors) for entry in estimator.table.sets))
    for hub_id, number in table.models.items():
        for index, entry in enumerate(table.sets):
            architecture = table.architectures[number]
            if index not in architecture.cells:
                continue
            recipe, method, checkpointing = entry.id.split("/")
            for micro_batch, seq_len, rank, targets, pace in (
                (1, 1000, 16, "all-linear", None), (3, 2048, 8, ("q_proj", "v_proj", "c_attn"), 1.3),
            ):  # fmt: skip
                case = Case(
                    recipe=recipe, method=method, gradient_checkpointing=checkpointing == "on",  # type: ignore[arg-type]
                    micro_batch=micro_batch, seq_len=seq_len, lora_rank=rank, lora_targets=targets,
                    processor_pace=pace,
                )  # fmt: skip
                answer = evaluate(entry, architecture, architecture.cells[index], case, table.gpus[H100.id])
                knobs = case.model_dump(mode="json")
                cases.append({"model": hub_id, "gpu": H100.id, "knobs": knobs,
                              "answer": {k: v for k, v in vars(answer).items() if k != "work"}})  # fmt: skip
    return {"coefficients": publish_coefficients(Estimator(table)), "cases": cases}


def test_the_vectors_are_what_python_answers(estimator: Estimator) -> None:
    assert json.loads(VECTORS.read_text(encoding="utf-8")) == json.loads(json.dumps(vectors(estimator)))


def test_the_browser_answers_the_same_to_the_last_bit() -> None:
    done = subprocess.run(
        [node_path(), "--test", str(ROOT / "tests" / "js" / "estimate.test.mjs")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_step_that_waits_for_the_processor_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """A short step of a small model has its own band; a long one of a large model is the card's."""
    small = ["estimate", "--model", "Qwen/Qwen3-0.6B", "--method", "lora", "--gpu", "h100-sxm-80gb"]
    large = ["estimate", "--model", "Qwen/Qwen3-14B", "--method", "lora", "--gpu", "h100-sxm-80gb"]
    widths = {}
    for arguments, pace in (
        ([*small, "--seq-len", "300", "--micro-batch", "1"], "processor"),
        ([*large, "--seq-len", "3000", "--micro-batch", "4"], "gpu"),
    ):
        assert main([*arguments, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["limited_by"] == pace and found["basis"] == "estimated"
        widths[pace] = found["tokens_per_second_high"] / found["tokens_per_second_low"]
        assert main(arguments) == 0
        assert ("wait for the processor" in capsys.readouterr().out) == (pace == "processor")
    assert widths["processor"] > 1.5 * widths["gpu"]
