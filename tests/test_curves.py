"""Loss curves of both recipes: read strictly, shown as measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from generator.curves import read_curves
from generator.dataset import Dataset

RECORD = {
    "schema": 1, "model": "a/b", "layers": 2, "method": "lora", "micro_batch": 1, "seq_len": 8, "steps": 2,
    "gradient_checkpointing": True, "learning_rate": 0.001, "text_sha256": "0", "stock": [2.0, 1.0],
    "lean": [2.0, 1.0], "stock_reordered": None, "mean_difference": 0.0, "max_difference": 0.0, "mean_noise": None,
    "final_difference": "+0.0000 %", "agree": True, "tolerance": 0.005, "environment": {"date": "2026-11-25"},
}  # fmt: skip


def write(folder: Path, text: str) -> Path:
    (folder / "curves").mkdir()
    (folder / "curves" / "x.json").write_text(text, encoding="utf-8")
    return folder


def test_the_committed_curves_are_read_and_their_differences_follow_from_their_losses(dataset: Dataset) -> None:
    assert dataset.curves
    for curve in dataset.curves:
        assert len(curve.stock) == len(curve.lean) == curve.steps
        apart = [abs(a - b) / a for a, b in zip(curve.stock, curve.lean, strict=True)]
        assert curve.mean_difference == pytest.approx(sum(apart) / len(apart), abs=1e-6)
        assert curve.max_difference == pytest.approx(max(apart), abs=1e-6)
        assert curve.agree is (curve.mean_difference <= curve.tolerance)
        assert curve.stock[-1] < curve.stock[0]


def test_a_good_record_has_its_day(tmp_path: Path) -> None:
    (curve,), problems = read_curves(write(tmp_path, json.dumps(RECORD)))
    assert not problems and str(curve.day) == "2026-11-25"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "x.json:1:2: not JSON"),
        (json.dumps(RECORD | {"agree": "yes"}, indent=1), "agree: Input should be a valid boolean"),
        (json.dumps(RECORD | {"more": 1}, indent=1), "more: Extra inputs are not permitted"),
        (json.dumps(RECORD | {"environment": {}}, indent=1), "environment.date: no day"),
        ("[]", "x.json:1:1"),
    ],
)
def test_a_broken_record_is_one_problem_with_its_place(tmp_path: Path, text: str, expected: str) -> None:
    curves, (problem,) = read_curves(write(tmp_path, text))
    assert not curves and problem.line >= 1 and expected in str(problem)
