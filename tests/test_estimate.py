"""The estimator: shapes counted exactly, one sum in two languages, answers that make sense."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from generator.architecture import UnknownArchitecture, count_parameters, describe
from generator.estimate import NotEstimable, evaluate, from_json, to_json
from generator.estimate_answer import Estimator
from generator.estimate_command import CaseReader, answer_cases, build_estimator, publish_coefficients
from generator.records import GIB, Case, GpuEntry, HubFacts

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


@pytest.fixture(scope="module")
def estimator() -> Estimator:
    facts = [HubFacts(hub_id="test/qwen", config=QWEN), HubFacts(hub_id="test/gpt2", config=GPT2)]
    return build_estimator(facts, [H100, LAPTOP])


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
    found = estimator.matrix(["test/qwen", "test/gpt2"], cases, [H100.id])
    for i, hub_id in enumerate(("test/qwen", "test/gpt2")):
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


def vectors(estimator: Estimator) -> dict[str, Any]:
    """The shared vectors: a table, knobs, and what ``evaluate`` answers."""
    cases = []
    table = estimator.table
    for hub_id, number in table.models.items():
        for index, entry in enumerate(table.sets):
            architecture = table.architectures[number]
            if index not in architecture.cells:
                continue
            recipe, method, checkpointing = entry.id.split("/")
            for micro_batch, seq_len, rank, targets in (
                (1, 1000, 16, "all-linear"), (3, 2048, 8, ("q_proj", "v_proj", "c_attn")),
            ):  # fmt: skip
                case = Case(
                    recipe=recipe, method=method, gradient_checkpointing=checkpointing == "on",  # type: ignore[arg-type]
                    micro_batch=micro_batch, seq_len=seq_len, lora_rank=rank, lora_targets=targets,
                )  # fmt: skip
                answer = evaluate(entry, architecture, architecture.cells[index], case, table.gpus[H100.id])
                knobs = case.model_dump(mode="json")
                cases.append({"model": hub_id, "gpu": H100.id, "knobs": knobs, "answer": vars(answer)})
    return {"coefficients": publish_coefficients(estimator), "cases": cases}


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
