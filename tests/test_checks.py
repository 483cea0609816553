"""`python -m generator check`: one run finds every kind of fault, each at its file, line and column; exit code 1."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from generator import render
from generator.checks import find_all_problems, find_problems, menu, page_problem, parameter_counts, placeholders
from generator.cli import report
from generator.dataset import Dataset, load_dataset
from generator.records import Problem, Text
from generator.views.page import DeadLink, Page

from .conftest import ROOT

LOCATED = re.compile(r"^[\w./-]+:[1-9]\d*:[1-9]\d*: (?:[\w./-]+: )?\S")


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text, f"{file} does not hold {old!r}"
    file.write_text(text.replace(old, new, 1), encoding="utf-8")


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the inputs with one fault of each kind."""
    root = tmp_path_factory.mktemp("broken")
    for name in ("catalog", "measurements/results"):
        shutil.copytree(ROOT / name, root / name)
    catalog = root / "catalog"
    edit(catalog / "gpus/rtx-4090.yaml", "memory_gb: 24", "memory_gb: plenty")
    edit(catalog / "gpus/rtx-3090.yaml", "name: RTX 3090", "name: [RTX 3090")
    edit(catalog / "models/qwen3-8b.yaml", "family: qwen3", "family: qwen33")
    edit(catalog / "methods/qlora.yaml", "title: {zh: QLoRA, en: QLoRA}", "title: {zh: QLoRA}")
    shutil.copy(catalog / "models/qwen3-4b-instruct-2507.yaml", catalog / "models/twin.yaml")
    edit(catalog / "hub/qwen--qwen3-14b.json", '"parameters": 14', '"parameters": 15')
    edit(catalog / "hub/qwen--qwen3-32b.json", '"likes": ', '"likes": "many", "was": ')
    (catalog / "hub/qwen--qwen3-0.6b.json").unlink()
    for run in sorted((root / "measurements/results").glob("*/*.json")):
        if "memory" in (data := json.loads(run.read_text(encoding="utf-8"))):
            break
    data["memory"]["peak_allocated_bytes"] = "a lot"
    run.write_text(json.dumps(data, indent=1), encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def printed(broken: Path) -> tuple[int, list[str]]:
    command = [sys.executable, "-m", "generator", "--root", str(broken), "check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, encoding="utf-8", check=False)
    return done.returncode, done.stdout.splitlines()


def test_check_fails_on_a_broken_catalog(printed: tuple[int, list[str]]) -> None:
    assert printed[0] == 1


def test_every_problem_has_a_place(printed: tuple[int, list[str]]) -> None:
    assert printed[1]
    assert [line for line in printed[1] if not LOCATED.match(line)] == []


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("catalog/gpus/rtx-4090.yaml", "memory_gb: Input should be a valid number"),
        ("catalog/gpus/rtx-3090.yaml", "not valid YAML"),
        ("catalog/models/qwen3-8b.yaml", "family: there is no catalog/families/qwen33.yaml"),
        ("catalog/methods/qlora.yaml", "title.en: Field required"),
        ("catalog/models/twin.yaml", "hub_id: already listed in catalog/models/qwen3-4b-instruct-2507.yaml"),
        ("catalog/hub/qwen--qwen3-14b.json", "parameters: 15,"),
        ("catalog/hub/qwen--qwen3-32b.json", "likes: Input should be a valid integer"),
        ("catalog/models/qwen3-0.6b.yaml", "hub_id: no catalog/hub/qwen--qwen3-0.6b.json"),
        ("measurements/results/", "peak_allocated_bytes: Input should be a valid integer"),
    ],
)
def test_one_run_finds_every_kind_of_problem(printed: tuple[int, list[str]], file: str, said: str) -> None:
    assert [line for line in printed[1] if line.startswith(file) and said in line], "\n".join(printed[1])


def test_the_line_is_that_of_the_value(broken: Path, printed: tuple[int, list[str]]) -> None:
    for name, value in (("catalog/gpus/rtx-4090.yaml", "plenty"), ("catalog/hub/qwen--qwen3-32b.json", '"many"')):
        text = (broken / name).read_text(encoding="utf-8")
        at = text.index(value)
        line, column = text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)
        assert [said for said in printed[1] if said.startswith(f"{name}:{line}:{column}: ")], printed[1]


def test_what_depends_on_an_unreadable_entry_is_not_reported_too(printed: tuple[int, list[str]]) -> None:
    assert not [line for line in printed[1] if line.startswith("generator/")]


def test_the_committed_inputs_have_no_problem(dataset: Dataset) -> None:
    assert find_problems(dataset) == []


def fail_at_home(error: Exception) -> Iterator[tuple[Page, Exception]]:
    text = Text(zh="甲", en="a")
    yield Page(path="index.md", template="home.md.j2", title=text, description=text), error


@pytest.mark.parametrize(
    ("target", "found"), [("models/gone.md", True), ("gpus/rtx-4090.md", False)], ids=["really dead", "not read"]
)
def test_dead_links_are_found_beside_other_problems(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, target: str, found: bool
) -> None:
    problem = Problem(file="catalog/gpus/rtx-4090.yaml", line=3, column=1, reason="broken")
    failing = lambda _: fail_at_home(DeadLink("index.md", target))  # noqa: E731
    monkeypatch.setattr("generator.checks.rendering_problems", failing)
    problems = find_all_problems(dataset, [problem])
    assert problems[0] == problem
    assert bool(problems[1:]) == found
    assert find_all_problems(dataset, [])[-1].reason.startswith("index.md links to")


def test_a_dead_link_is_placed_at_its_line_of_the_template(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = [page for page in render.collect_pages(dataset) if page.path != "recipes.md"]
    monkeypatch.setattr(render, "collect_pages", lambda _: pages)
    problem = next(page_problem(page, error) for page, error in render.rendering_problems(dataset))
    text = (ROOT / problem.file).read_text(encoding="utf-8").splitlines()[problem.line - 1]
    assert "recipes.md" in text and "recipes.md" in problem.reason


def test_annotations_for_github_stay_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    problem = Problem(file="catalog/gpus/a.yaml", line=2, column=7, field="name", reason="two\nlines")
    assert report([problem], github=True) == 1
    assert capsys.readouterr().out == "::error file=catalog/gpus/a.yaml,line=2,col=7::name: two%0Alines\n"


def test_problems_are_named_from_the_root(broken: Path) -> None:
    assert not [p for p in load_dataset(broken)[1] if Path(p.file).is_absolute()]


def test_a_count_within_the_tolerance_passes(dataset: Dataset) -> None:
    """0.4 % off is accepted, 0.6 % is not."""
    facts = dataset.hub["Qwen/Qwen3-14B"]
    assert facts.parameters
    for share, problems in ((1.004, 0), (1.006, 1)):
        off = facts.model_copy(update={"parameters": round(facts.parameters * share)})
        changed = replace(dataset, hub={**dataset.hub, facts.hub_id: off})
        assert len(list(parameter_counts(changed))) == problems


def test_words_left_over_from_a_template_are_found(tmp_path: Path) -> None:
    for folder in ("models", "gpus", "scenarios"):
        (tmp_path / "catalog" / folder).mkdir(parents=True)
        shutil.copy(ROOT / "catalog" / folder / "_template.yaml", tmp_path / "catalog" / folder / "mine.yaml")
    found = [str(problem) for problem in placeholders(load_dataset(tmp_path)[0])]
    assert "catalog/models/mine.yaml:6:9: 'owner/name' is left over from the template" in found
    assert {problem.partition(":")[0] for problem in found} == {
        f"catalog/{folder}/mine.yaml" for folder in ("models", "gpus", "scenarios")
    }


def test_a_scenario_that_the_menu_lacks_is_found(dataset: Dataset, tmp_path: Path) -> None:
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    (tmp_path / "mkdocs.yml").write_text(settings.replace("scenarios/maths.md", "scenarios/math.md"), encoding="utf-8")
    found = [str(problem) for problem in menu(replace(dataset, root=tmp_path))]
    assert len(found) == 1 and re.match(r"mkdocs\.yml:\d+:1: nav: scenarios/maths\.md is not in the menu", found[0])
