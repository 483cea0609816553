"""What a contributed result changes, as the comment on its pull request says it."""

from collections import Counter
from pathlib import Path

import pytest

from generator import cli
from generator.dataset import Dataset
from generator.estimate_answer import case_key

ROOT = Path(__file__).parents[1]


def test_each_result_is_set_against_the_estimate_shown_before(
    dataset: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = Counter(case_key(run.hub_id, run.case, run.gpu) for run in dataset.runs)
    single = (run for run in dataset.runs if cells[case_key(run.hub_id, run.case, run.gpu)] == 1)
    run = next(run for run in single if run.status == "ok" and run.gpu_count == 1)
    assert cli.main(["changes", str(ROOT / "measurements" / "results" / f"{run.id}.json")]) == 0
    line, total = capsys.readouterr().out.splitlines()
    assert run.hub_id in line and line.isascii()
    assert "measured) -> " not in line, "the result itself does not count as known before"
    assert f"{(run.peak_reserved_bytes or 0) / 2**30:.2f} GiB measured" in line
    assert total.startswith("1 results:")


def test_a_file_that_is_no_result_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.json").write_text("{}")
    assert cli.main(["changes", str(tmp_path / "x.json")]) == 1
    assert "x.json: no result" in capsys.readouterr().out
