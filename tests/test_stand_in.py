"""Models that need their repository's code: what was measured is compared with itself, and adapters are the model's."""

import json
from dataclasses import replace
from pathlib import Path

from generator.accuracy import errors_of, locate, usable
from generator.architecture import describe
from generator.coefficients import build_coefficients, shape_key
from generator.dataset import load_dataset
from generator.distil import architectures
from generator.estimate import evaluate
from generator.estimate_command import build_estimator
from generator.records import Case, HubFacts
from generator.stand_in import CLASSES, NAMES, stand_in
from generator.traced import read_traced
from generator.views.measured import measured_cells

from .test_estimate import GIVEN, H100, QWEN

ROOT = Path(__file__).parents[1]
QWEN_1 = {
    "model_type": "qwen", "hidden_size": 4096, "intermediate_size": 22016, "kv_channels": 128,
    "num_attention_heads": 32, "num_hidden_layers": 32, "vocab_size": 151936, "tie_word_embeddings": False,
}  # fmt: skip


def test_the_stand_in_is_what_the_harness_builds() -> None:
    dataset, _ = load_dataset(ROOT)
    measured = {run.hub_id for run in dataset.runs if run.on_stand_in}
    assert measured
    for path in sorted((ROOT / "measurements" / "configs").glob("*.json")):
        built = json.loads(path.read_text(encoding="utf-8"))
        if built["hub_id"] not in measured:
            continue
        config = stand_in(describe(dataset.hub[built["hub_id"]].config or {}))
        assert config is not None and config["model_type"] == built["config"]["model_type"]
        assert shape_key(describe(config)) == shape_key(describe(built["config"])), built["hub_id"]
        measured.remove(built["hub_id"])
    assert not measured


def test_a_stand_in_has_the_parameters_of_its_model_but_for_the_adapters() -> None:
    dataset, _ = load_dataset(ROOT)
    seen = set()
    for fact in dataset.hub.values():
        if (fact.config or {}).get("model_type") in CLASSES:
            shape = describe(fact.config or {})
            other = describe(stand_in(shape) or {})
            assert other.text_parameters == shape.text_parameters and other.linear_weights == shape.linear_weights
            assert other.lora_parameters_per_rank >= shape.lora_parameters_per_rank
            seen.add(shape.model_type)
    assert seen == set(CLASSES)


def test_models_of_transformers_stand_for_themselves() -> None:
    assert stand_in(describe(QWEN)) is None


def test_only_stand_ins_of_remote_code_are_traced() -> None:
    facts = [HubFacts(hub_id="a/remote", config=QWEN_1), HubFacts(hub_id="b/own", config=QWEN)]
    items = architectures(facts)
    kinds = {item.hub_id: (item.config or {})["model_type"] for item in items.values()}
    assert kinds == {"a/remote (stand-in)": "qwen2", "b/own": "qwen2"}
    same = HubFacts(hub_id="c/same", config=stand_in(describe(QWEN_1)))
    assert [item.hub_id for item in architectures([*facts, same]).values()] == ["c/same", "b/own"]


def test_a_model_takes_its_stand_ins_trace_with_its_own_adapters_and_a_wider_interval() -> None:
    shape = describe(QWEN_1)
    config = stand_in(shape)
    assert config is not None
    other = describe(config)
    traced = {shape_key(other): {"sets": {"stock/lora/on": GIVEN, "stock/full/on": GIVEN}}}
    estimator = build_estimator([HubFacts(hub_id="test/remote", config=QWEN_1)], [H100], traced=traced)
    table, case = estimator.table, Case(method="lora", lora_rank=64)
    index = table.set_index(case)
    own, stands = table.architectures[table.models["test/remote"]], table.stand_ins["test/remote"]
    values = [evaluate(table.sets[index], item, item.cells[index], case).allocated for item in (own, stands)]
    fewer = other.lora_parameters_per_rank - shape.lora_parameters_per_rank
    assert fewer == 32 * 2 * 4096
    share = fewer / other.lora_parameters_per_rank
    least, most = (share * 64 * per_rank for per_rank in (17506000, 23340000))  # of GIVEN's rows
    assert least * 0.9 < values[1] - values[0] < most * 1.3
    assert own.cells[index].extra == stands.cells[index].extra is not None
    full = table.set_index(Case(method="full"))
    assert own.cells[full].rows == stands.cells[full].rows
    found = estimator.estimate("test/remote", case)
    assert "stands for it" in found.basis_note
    assert found.peak_allocated_bytes.high / found.peak_allocated_bytes.value > 1.1


def test_a_run_on_a_stand_in_is_judged_as_one_and_never_answers_for_the_model() -> None:
    dataset, _ = load_dataset(ROOT)
    traced, _ = read_traced(ROOT / "catalog" / "traced")
    table, _ = build_coefficients(dataset.hub.values(), dataset.catalog.gpus.values(), None, traced)
    runs = [run for run in usable(dataset.runs, table) if run.on_stand_in and not run.extrapolated]
    assert len(runs) > 40
    for run in runs:
        assert locate(table, run)[1] is table.stand_ins[run.hub_id]
    errors = sorted(abs(record["allocated"]["error"]) for record in errors_of(table, runs))
    assert errors[len(errors) // 2] < 0.005 and errors[-1] < 0.03  # traced, not fitted
    estimator = build_estimator(dataset.hub.values(), dataset.catalog.gpus.values(), dataset.runs, ROOT / "catalog")
    answer = estimator.estimate(runs[0].hub_id, runs[0].case, dataset.catalog.gpus[runs[0].gpu])
    assert answer.basis != "measured"
    whole = replace(dataset, runs=tuple(run for run in dataset.runs if not run.on_stand_in))
    assert len(estimator.measured) <= len(whole.runs)


def test_lists_of_measurements_name_the_class_that_was_measured() -> None:
    dataset, _ = load_dataset(ROOT)
    by_id = {run.id: run for run in dataset.runs}
    rows = measured_cells(dataset)
    assert {row.id for row in rows if row.measured_as} == {run.id for run in dataset.runs if run.on_stand_in}
    for row in rows:
        if row.measured_as:
            shape = describe(dataset.hub[row.hub_id].config or {})
            assert NAMES[CLASSES[shape.model_type]] == row.measured_as and row.name.endswith(f" ≈ {row.measured_as}")
            assert by_id[row.id].stands_for
