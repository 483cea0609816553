"""The accuracy page shows the hold-out and nothing else, in both languages, as the command prints it."""

from pathlib import Path

import pytest

from generator.accuracy import accuracy, explain, summarise
from generator.cli import main
from generator.coefficients import build_coefficients
from generator.dataset import load_dataset
from generator.estimate import NotEstimable
from generator.estimate_command import build_estimator
from generator.records import Case, HubFacts
from generator.views.pages.accuracy import REASONS, pages

from .test_calibrate import configs, make_runs
from .test_estimate import H100

ROOT = Path(__file__).parents[1]


def test_errors_come_from_the_holdout_alone() -> None:
    facts = configs()
    runs = make_runs(facts)
    table, _ = build_coefficients(facts, [H100])
    found = accuracy(table, runs)
    held = [run for run in runs if run.holdout]
    assert {record["run"] for record in found["records"]} == {run.id for run in held}
    assert found["overall"]["allocated"]["count"] == len(held)
    assert len(found["worst"]) == 10
    errors = [abs(record["allocated"]["error"]) for record in found["worst"]]
    assert errors == sorted(errors, reverse=True)
    for parts in found["by"].values():
        assert sum(part["allocated"]["count"] for part in parts.values()) == len(held)


def test_broken_promises_are_caps_estimated_too_low() -> None:
    facts = configs()
    table, _ = build_coefficients(facts, [H100])
    runs = [run for run in make_runs(facts) if run.holdout]
    calm = [run.model_copy(update={"min_cap_bytes": 1}) for run in runs]
    assert accuracy(table, calm)["promises"] == {"checked": len(runs), "broken": 0}
    wild = [run.model_copy(update={"min_cap_bytes": 10**14}) for run in runs]
    assert accuracy(table, wild)["promises"]["broken"] == len(runs)


def test_the_summary_counts_what_lies_inside() -> None:
    records = [{"cap": {"error": error, "inside": abs(error) < 0.1}} for error in (-0.2, 0.05, 0.01)]
    assert summarise(records)["cap"] == {"count": 3, "median": 0.05, "p95": 0.185, "worst": 0.2, "inside": 0.6667}


def test_every_reason_has_words() -> None:
    base = {"model": "a", "checkpointing": True, "micro_batch": 1, "seq_len": 512, "clean": True}
    cases = [
        (base, set()),
        (base, {"a"}),
        ({**base, "checkpointing": False}, {"a"}),
        ({**base, "seq_len": 9999}, {"a"}),
        ({**base, "clean": False}, {"a"}),
    ]
    assert {explain(record, measured) for record, measured in cases} == set(REASONS)


def test_the_page_and_the_command_show_the_committed_errors(capsys: pytest.CaptureFixture[str]) -> None:
    dataset, _ = load_dataset(ROOT)
    (page,) = pages(dataset)
    assert page.context["held_out"] == sum(
        run.holdout and run.status == "ok" and run.gpu_count == 1 for run in dataset.runs
    )
    assert main(["accuracy"]) == 0
    printed = capsys.readouterr().out
    assert "by method" in printed and f"{page.context['overall']['allocated']['median']:.1%}" in printed


def test_the_comparison_covers_the_held_out_cells_of_today() -> None:
    """A new hold-out needs ``python -m benchmarks.peers`` again; no calculator has to be installed to know that."""
    dataset, _ = load_dataset(ROOT)
    (page,) = pages(dataset)
    peers = page.context["peers"]
    assert peers["cells"] == page.context["held_out"]
    assert all(peer["answered"] + peer["refused"] == peers["cells"] for peer in peers["peers"])
    own = next(peer for peer in peers["peers"] if peer["id"] == "atlas")
    assert own["median"] == pytest.approx(page.context["overall"]["allocated"]["median"], abs=1e-3)


def test_a_config_without_a_shape_says_what_is_missing() -> None:
    fact = HubFacts(hub_id="a/b", config={"model_type": "lfm2", "hidden_size": 64, "num_hidden_layers": 2})
    with pytest.raises(NotEstimable, match=r"a/b: .*lfm2.* lacks"):
        build_estimator([fact], [H100]).estimate("a/b", Case())
