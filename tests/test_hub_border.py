"""Whatever the Hub answers, a valid record comes out that survives the file, and nothing hidden is in it."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from generator.architecture import count_active_parameters, count_parameters
from generator.hub.difference import code
from generator.hub.facts import EXPAND, build_facts
from generator.hub.snapshot import format_facts, read_snapshot, write_facts

nasty = st.sampled_from(
    ["<script>alert(1)</script>", "[a](javascript:x)", "{{ 7*7 }}", "\x00\x1b[2J", "\u202eevil", "\ud800", "```"]
)  # fmt: skip
leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | nasty
anything: st.SearchStrategy[Any] = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text() | nasty, inner, max_size=4),
    max_leaves=9,
)
keys = st.sampled_from(["model_type", "hidden_size", "num_hidden_layers", "vocab_size", "text_config"]) | st.text()
configs = st.dictionaries(keys, anything, max_size=6) | anything
infos = st.fixed_dictionaries({}, optional={name: anything for name in EXPAND}) | anything


@settings(max_examples=150, deadline=None)
@given(infos, configs)
def test_any_answer_becomes_a_record_that_survives_the_file(
    tmp_path_factory: pytest.TempPathFactory, info: Any, config: Any
) -> None:
    facts = build_facts(
        "a/b", info, config, today="2026-11-20", count=count_parameters, count_active=count_active_parameters
    )
    folder = tmp_path_factory.mktemp("hub")
    write_facts(folder, facts)
    read, problems = read_snapshot(folder)
    assert problems == []
    assert format_facts(read["a/b"]) == format_facts(facts)
    assert not any(c in format_facts(facts) for c in "\x00\x1b\u202e")


@given(st.text() | nasty)
def test_a_code_span_cannot_be_left(text: str) -> None:
    shown = code(text)
    assert "`" not in shown[1:-1]
    assert len(shown.splitlines()) == 1
