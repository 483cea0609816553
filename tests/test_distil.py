"""Distilled traces: what a file holds, when it is written anew, what is done with a model that cannot be traced."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from generator.architecture import describe
from generator.checks import traced_coefficients
from generator.coefficients import shape_key
from generator.dataset import load_dataset
from generator.distil import architectures, distil, is_expensive, wanted_sets
from generator.estimate_closed import make_sets
from generator.records import HubFacts
from generator.traced import TRACER, find_fault, is_stale, read_traced

from .test_estimate import GPT2, QWEN

ROOT = Path(__file__).parents[1]
TINY = {
    "model_type": "qwen2", "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 6,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 32000, "tie_word_embeddings": True,
}  # fmt: skip
IDS = {entry.id for entry in make_sets()}


def test_a_file_holds_every_wanted_set_and_is_not_written_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    item = HubFacts(hub_id="test/tiny", config=TINY)
    found = distil(item, None, ("prompt_tuning",))
    assert find_fault(found, shape_key(describe(TINY)), IDS) is None
    assert set(found["sets"]) == set(wanted_sets(item, ("prompt_tuning",)))
    assert "rows" in found["sets"]["stock/prompt_tuning/on"]
    assert found["model"] == "test/tiny" and found["tracer"] == TRACER and found["versions"]["torch"]
    assert not is_stale(found, found["versions"]) and is_stale(found, {**found["versions"], "torch": "0"})

    def fail(*_: object) -> None:
        raise AssertionError("traced again")

    monkeypatch.setattr("generator.trace_distil.distil_set", fail)
    assert distil(item, found, ("prompt_tuning",))["sets"] == found["sets"]
    with pytest.raises(AssertionError, match="traced again"):
        monkeypatch.setattr("generator.distil.Exception", ZeroDivisionError, raising=False)
        distil(item, {**found, "tracer": -1}, ("prompt_tuning",))


def test_what_cannot_be_traced_is_refused_with_its_reason() -> None:
    config = {**TINY, "model_type": "internlm3"}
    found = distil(HubFacts(hub_id="test/remote", config=config), None, ("lora",))
    assert all("no native class" in values["refused"] for values in found["sets"].values())


@pytest.mark.parametrize("layers", [1, 6])
def test_the_name_of_a_file_is_the_digest_of_the_whole_shape(layers: int) -> None:
    shape = describe({**TINY, "num_hidden_layers": layers, "use_sliding_window": True, "sliding_window": 64})
    mixed = replace(shape, layers=(*shape.layers, replace(shape.layers[0], window=None)))
    for each in (shape, mixed):
        assert shape_key(each) == hashlib.sha256(repr(each).encode()).hexdigest()[:16]
    assert shape_key(mixed) != shape_key(shape)


def test_models_of_one_shape_share_a_file_named_by_the_most_downloaded() -> None:
    facts = [
        HubFacts(hub_id="a/few", config=QWEN, downloads=5), HubFacts(hub_id="a/many", config=QWEN, downloads=50),
        HubFacts(hub_id="b/other", config=GPT2, downloads=7), HubFacts(hub_id="c/none", config=None),
    ]  # fmt: skip
    assert [item.hub_id for item in architectures(facts).values()] == ["a/many", "b/other"]
    assert not is_expensive(facts[0])


def test_a_traced_file_of_no_model_is_a_problem() -> None:
    dataset, _ = load_dataset(ROOT)
    assert list(traced_coefficients(dataset)) == []
    first = next(iter(read_traced(ROOT / "catalog" / "traced")[0].values()))["model"]
    other = dataset.hub[first].model_copy(update={"config": {"model_type": "nonsense"}})
    alone = replace(dataset, hub={**{name: fact for name, fact in dataset.hub.items()
                                     if fact.config != dataset.hub[first].config}, first: other})  # fmt: skip
    assert list(traced_coefficients(alone)) == []  # records are missing: nothing can be said
    emptied = {name: fact.model_copy(update={"config": None}) for name, fact in dataset.hub.items()}
    found = list(traced_coefficients(replace(dataset, hub=emptied)))
    assert len(found) == len(read_traced(ROOT / "catalog" / "traced")[0])
    assert all("delete it" in problem.reason and problem.line == 1 for problem in found)


def test_the_most_used_architectures_are_traced() -> None:
    dataset, _ = load_dataset(ROOT)
    files, problems = read_traced(ROOT / "catalog" / "traced")
    assert problems == []
    top = list(architectures(dataset.hub.values()))[:30]
    rows = [any("rows" in values for values in files.get(key, {}).get("sets", {}).values()) for key in top]
    assert sum(rows) >= 20
