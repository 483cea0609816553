"""The catalog loader: what it accepts, and the exact place it names when something is wrong."""

from pathlib import Path

import pytest
import yaml

from generator.catalog import _Loader, load_catalog
from generator.catalog_template import render_template

FAMILY = """\
name: Qwen3
maker: {zh: 阿里云, en: Alibaba Cloud}
about: {zh: 一个家族, en: A family}
model_types: [qwen3]
"""
GPU = """\
name: Card 12 GB
vendor: NVIDIA
category: consumer
memory_gb: 12
"""


def write(root: Path, name: str, text: str) -> None:
    path = root / "catalog" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def messages(root: Path) -> list[str]:
    return [str(problem) for problem in load_catalog(root)[1]]


def test_a_valid_entry_takes_its_id_from_the_file_name(tmp_path: Path) -> None:
    write(tmp_path, "families/qwen3.yaml", FAMILY)
    catalog, problems = load_catalog(tmp_path)
    assert problems == []
    assert catalog.families["qwen3"].id == "qwen3"
    assert catalog.families["qwen3"].maker["en"] == "Alibaba Cloud"


def test_files_that_start_with_an_underscore_are_not_read(tmp_path: Path) -> None:
    write(tmp_path, "families/_template.yaml", "not: an entry\n")
    assert load_catalog(tmp_path)[0].families == {}
    assert messages(tmp_path) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GPU + "memory_gb: 24\n", "5:1: memory_gb: this key stands twice in the same mapping"),
        (GPU.replace("12\n", "twelve\n"), "4:12: memory_gb: Input should be a valid number"),
        (GPU + "vram: 12\n", "5:1: vram: Extra inputs are not permitted"),
        (GPU.replace("vendor: NVIDIA\n", ""), "1:1: vendor: Field required"),
        (GPU + "compute_capability: 8.6\n", "5:21: compute_capability: Input should be a valid string (YAML read 8.6"),
        (GPU + "tensor_basis: no\n", "5:15: tensor_basis: Input should be a valid string (YAML read False as yes/no"),
        (GPU + "note: {zh: 说明}\n", "5:7: note.en: Field required"),
        (GPU + "note: {zh: 说明, en: '  '}\n", "5:20: note.en: must not be empty"),
        (GPU + "sources:\n- title: ok\n- {title: t, url: 3}\n", "7:19: sources.1.url: Input should be a valid string"),
        (GPU + "sources:\n- {title: t, observed: 2026-01-02}\n", "as a date: put it in quotes"),
        (GPU + "bandwidth_gb_s: 1e3\n", "5:17: bandwidth_gb_s: Input should be a valid number (got the text '1e3'"),
        (GPU + "id: other\n", "5:5: id: must equal the file name, 'card'"),
        (GPU + "  indented: wrong\n", "5:11: not valid YAML: mapping values are not allowed"),
        (GPU + "name: [unclosed\n", "not valid YAML"),
        ("- a list\n", "1:1: must be a mapping of fields"),
        ("", "1:1: must be a mapping of fields"),
    ],
)
def test_a_wrong_entry_names_file_line_column_and_field(tmp_path: Path, text: str, expected: str) -> None:
    write(tmp_path, "gpus/card.yaml", text)
    found = messages(tmp_path)
    assert len(found) == 1
    assert found[0].startswith("catalog/gpus/card.yaml:")
    assert expected in found[0]
    assert load_catalog(tmp_path)[0].gpus == {}


@pytest.mark.parametrize(
    "text",
    [
        "a: [x, 1, 1.5, yes, null, 2024-01-02, {b: [c, '3']}]\n5: v",
        "a: &anchor {b: [c, Q & A]}\nd: *anchor",
        "base: &base {a: 1, b: x}\nmore: {<<: *base, b: y}",
        "merged: {<<: {a: x, b: y}, b: z}\n!!str 5: !!seq [a]\n= : value",
        "- plain\n- |\n  block\n- !!binary aGk=",
    ],
)
def test_the_loader_reads_what_yaml_means(text: str) -> None:
    assert _Loader(text).get_single_data() == yaml.safe_load(text)


def test_text_that_is_not_utf8_is_a_problem_not_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "catalog" / "gpus" / "card.yaml"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"name: ok\nvendor: \xff\xfe\n")
    assert messages(tmp_path) == ["catalog/gpus/card.yaml:2:1: not UTF-8 text (invalid start byte)"]


def test_a_file_name_that_is_no_id_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "gpus/RTX 3060.yaml", GPU)
    assert "catalog/gpus/RTX 3060.yaml:1:1: id: String should match pattern" in messages(tmp_path)[0]


def test_all_problems_of_all_files_come_in_one_run(tmp_path: Path) -> None:
    write(tmp_path, "gpus/a.yaml", GPU.replace("12\n", "twelve\n") + "vram: 1\n")
    write(tmp_path, "gpus/b.yaml", "name: [\n")
    write(tmp_path, "families/c.yaml", FAMILY.replace("name: Qwen3\n", ""))
    write(tmp_path, "families/d.yaml", FAMILY)
    assert len(messages(tmp_path)) == 4
    assert list(load_catalog(tmp_path)[0].families) == ["d"]


MODEL = """\
hub_id: Qwen/Qwen3-8B
name: Qwen3-8B
family: qwen3
variant: chat
status: current
why: {zh: 原因, en: reason}
instead:
- gone
"""


def test_an_id_that_leads_nowhere_is_found_at_its_own_line(tmp_path: Path) -> None:
    write(tmp_path, "models/m.yaml", MODEL + "licence: none-such\n")
    assert messages(tmp_path) == [
        "catalog/models/m.yaml:3:9: family: there is no catalog/families/qwen3.yaml",
        "catalog/models/m.yaml:8:3: instead.0: there is no catalog/models/gone.yaml",
        "catalog/models/m.yaml:9:10: licence: there is no catalog/licences/none-such.yaml",
    ]


def test_a_reference_to_a_broken_entry_is_not_reported_again(tmp_path: Path) -> None:
    write(tmp_path, "families/qwen3.yaml", "name: [\n")
    write(tmp_path, "models/m.yaml", MODEL.replace("instead:\n- gone\n", ""))
    assert len(messages(tmp_path)) == 1


def test_rules_between_models(tmp_path: Path) -> None:
    write(tmp_path, "families/qwen3.yaml", FAMILY)
    write(tmp_path, "models/a.yaml", MODEL.replace("- gone", "- b"))
    write(tmp_path, "models/b.yaml", MODEL.replace("- gone", "- b").replace("current", "superseded"))
    assert messages(tmp_path) == [
        "catalog/models/b.yaml:1:9: hub_id: already listed in catalog/models/a.yaml",
        "catalog/models/b.yaml:5:9: status: a superseded model needs a successor",
        "catalog/models/b.yaml:8:3: instead.0: a model cannot stand in for itself",
    ]


def test_size_classes_must_leave_no_gap(tmp_path: Path) -> None:
    rest = "order: 1\nname: &t {zh: 名, en: name}\nsummary: *t\nadvice: *t\n"
    rest += "good_for: []\npros: []\nlimits: []\nexamples: []\n"
    write(tmp_path, "size_classes/micro.yaml", "low_billions: 0\nhigh_billions: 1\n" + rest)
    write(tmp_path, "size_classes/large.yaml", "low_billions: 3\nhigh_billions: null\n" + rest)
    assert messages(tmp_path) == [
        "catalog/size_classes/large.yaml:1:15: low_billions: the classes must join: the one before ends at 1.0"
    ]


@pytest.mark.parametrize("folder", ["models", "gpus", "scenarios", "families"])
def test_a_filled_template_is_a_valid_entry(tmp_path: Path, folder: str) -> None:
    write(tmp_path, f"{folder}/x.yaml", render_template(folder))
    assert [m for m in messages(tmp_path) if "there is no catalog/" not in m] == []


@pytest.mark.parametrize("folder", ["models", "gpus", "scenarios"])
def test_the_committed_templates_agree_with_the_schema(folder: str) -> None:
    committed = Path(__file__).parents[1] / "catalog" / folder / "_template.yaml"
    assert committed.read_text(encoding="utf-8") == render_template(folder)
