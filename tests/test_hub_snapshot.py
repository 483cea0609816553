"""The committed snapshot: canonical bytes, and every bad file named with its place."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generator.hub.snapshot import format_facts, read_facts, read_snapshot, write_facts
from generator.records import HubFacts, slug

ROOT = Path(__file__).parents[1]


def test_a_written_record_reads_back_and_writing_again_changes_nothing(tmp_path: Path) -> None:
    facts = HubFacts(hub_id="Maker/Model_1", config={"b": 1, "a": {"d": None, "c": [1.5]}}, languages=["zh"])
    assert write_facts(tmp_path, facts) is True
    before = (tmp_path / "maker--model-1.json").read_bytes()
    assert write_facts(tmp_path, facts) is False
    assert (tmp_path / "maker--model-1.json").read_bytes() == before
    assert read_snapshot(tmp_path) == ({"Maker/Model_1": facts}, [])
    assert [p.name for p in tmp_path.iterdir()] == ["maker--model-1.json"]


def test_key_order_of_the_source_does_not_reach_the_file() -> None:
    one = HubFacts(hub_id="a/b", config={"x": 1, "y": {"q": 1, "p": 2}})
    two = HubFacts(hub_id="a/b", config={"y": {"p": 2, "q": 1}, "x": 1})
    assert format_facts(one) == format_facts(two)


def test_two_ids_that_fold_to_one_file_do_not_overwrite_each_other(tmp_path: Path) -> None:
    write_facts(tmp_path, HubFacts(hub_id="a/b_c"))
    with pytest.raises(ValueError, match="already holds a/b_c"):
        write_facts(tmp_path, HubFacts(hub_id="a/b-c"))
    assert list(read_snapshot(tmp_path)[0]) == ["a/b_c"]


@pytest.mark.parametrize(
    ("content", "line", "column", "field", "reason"),
    [
        ('{\n  "hub_id": "a/b",\n  "likes": "12"\n}', 3, 12, "likes", "integer"),
        ('{\n  "hub_id": "a/b",\n  "languages": ["en",\n    7]\n}', 4, 5, "languages.1", "string"),
        ('{\n  "hub_id": "a/b",\n  "price": 1\n}', 3, 12, "price", "Extra"),
        ('{\n  "likes": 1\n}', 1, 1, "hub_id", "required"),
        ('{\n  "hub_id": "a/b"\n  "likes": 1\n}', 3, 3, "", "delimiter"),
        ('{"hub_id": "a/b", "likes": NaN}', 1, 1, "", "NaN"),
        ('{"hub_id": "a/b", "config": {"x": 1e999}}', 1, 1, "", "JSON compliant"),
        ('{"hub_id": "a/b", "hub_id": "a/c"}', 1, 1, "", "appears twice"),
        ('{"hub_id": "a/b", "config": {"x": "\\ud800"}}', 1, 1, "", "surrogates"),
        ("[" * 200_000, 1, 1, "", "nested too deeply"),
        ('{"hub_id": "a/b", "likes": ' + "9" * 5000 + "}", 1, 1, "", "digits"),
        ("[]", 1, 1, "", "one JSON object"),
        (" " * 2_000_001, 1, 1, "", "more than"),
        ('{\n  "hub_id": "a/other"\n}', 2, 13, "hub_id", "belongs in a--other.json"),
    ],
)
def test_a_bad_file_is_a_located_problem(
    tmp_path: Path, content: str, line: int, column: int, field: str, reason: str
) -> None:
    (tmp_path / "a--b.json").write_text(content, encoding="utf-8")
    write_facts(tmp_path, HubFacts(hub_id="c/d"))
    facts, problems = read_snapshot(tmp_path)
    assert list(facts) == ["c/d"], "one bad file must not hide the others"
    assert len(problems) == 1
    problem = problems[0]
    assert (problem.line, problem.column, problem.field) == (line, column, field)
    assert reason in problem.reason
    assert str(problem).startswith(f"{tmp_path / 'a--b.json'}:{line}:{column}: ")
    assert len(problem.reason.splitlines()) == 1


def test_bytes_that_are_not_utf8_are_a_problem(tmp_path: Path) -> None:
    (tmp_path / "a--b.json").write_bytes(b'{"hub_id":\n "a/\xff"}')
    record, problems = read_facts(tmp_path / "a--b.json")
    assert record is None
    assert problems[0].line == 2


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=12,
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
records = st.builds(
    HubFacts,
    hub_id=st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,20}/[A-Za-z0-9][A-Za-z0-9._-]{0,20}\Z"),
    config=st.none() | st.dictionaries(texts, json_values, max_size=6),
    licence=st.none() | texts,
    tags=st.none() | st.lists(texts, max_size=4),
    notes=st.lists(texts, max_size=3),
    likes=st.none() | st.integers(),
    stale=st.none() | texts,
)


@given(records)
def test_any_record_survives_the_file_byte_for_byte(tmp_path_factory: pytest.TempPathFactory, facts: HubFacts) -> None:
    folder = tmp_path_factory.mktemp("hub")
    write_facts(folder, facts)
    read, problems = read_snapshot(folder)
    assert problems == []
    assert format_facts(read[facts.hub_id]) == format_facts(facts)
    assert not write_facts(folder, read[facts.hub_id])


def test_the_committed_snapshot_is_valid_and_canonical() -> None:
    folder = ROOT / "catalog" / "hub"
    facts, problems = read_snapshot(folder)
    assert [str(p) for p in problems] == []
    for record in facts.values():
        path = folder / f"{slug(record.hub_id)}.json"
        assert path.read_text(encoding="utf-8") == format_facts(record), f"{path.name} is not in canonical form"
