"""What a refresh says it changed: each kind of change by its name, the ones to review first, untrusted text inert."""

from pathlib import Path
from typing import Any

import pytest

from generator.hub.difference import ORDER, compare, format_changes, format_markdown
from generator.records import HubFacts
from tests.hub_server import FakeHub
from tests.test_hub_refresh import CONFIG, hub, run

__all__ = ["hub"]
OLD = HubFacts(hub_id="a/b", revision="1", licence="mit", gated=False, likes=1, downloads=10, refreshed="2026-11-01")


@pytest.mark.parametrize(
    ("changed", "kinds", "detail"),
    [
        ({"refreshed": "2026-11-20"}, None, ""),
        ({"likes": 2}, ("changed",), "likes: 1 → 2"),
        ({"licence": "cc-by-nc-4.0"}, ("licence changed",), "licence: mit → cc-by-nc-4.0"),
        ({"gated": True}, ("newly gated",), "gated: False → True"),
        ({"revision": "2"}, ("new revision",), "revision: 1 → 2"),
        ({"stale": "gone: 404"}, ("gone",), "stale: gone: 404"),
        ({"stale": "the Hub answers 503"}, ("stale",), "stale: the Hub answers 503"),
        ({"renamed_to": "a/c"}, ("renamed",), "renamed_to: unknown → a/c"),
        ({"licence": None, "gated": True, "revision": "2"}, ("licence changed", "newly gated", "new revision"), ""),
    ],
)
def test_a_change_is_named(changed: dict[str, Any], kinds: tuple[str, ...] | None, detail: str) -> None:
    change = compare(OLD, OLD.model_copy(update=changed))
    assert (change and change.kinds) == kinds
    assert not detail or (change and detail in change.details)


def test_what_was_stale_or_closed_comes_back() -> None:
    closed = OLD.model_copy(update={"gated": True, "stale": "gated"})
    change = compare(closed, OLD)
    assert change and change.kinds == ("no longer gated", "fresh again")


def test_a_refresh_lists_what_must_be_reviewed_first(hub: FakeHub, tmp_path: Path) -> None:
    hub.add("quiet/model", CONFIG)
    run(hub, tmp_path / "hub")
    hub.add("brand/new", CONFIG)
    hub.models["good/one"]["info"]["cardData"] = {"license": "cc-by-nc-4.0"}
    hub.models["good/two"]["info"]["gated"] = "manual"
    hub.models["quiet/model"]["info"]["likes"] = 5
    changes = run(hub, tmp_path / "hub").changes
    kinds = {change.hub_id: change.kinds for change in changes}
    assert kinds["brand/new"] == ("new",) and kinds["quiet/model"] == ("changed",)
    assert "licence changed" in kinds["good/one"] and "newly gated" in kinds["good/two"]
    lines = [line for line in format_changes(changes).splitlines() if not line.startswith(" ")]
    first = [line.partition(": ")[2].split(", ")[0] for line in lines]
    assert first == sorted(first, key=ORDER.index)
    assert lines[0].startswith("brand/new") and lines[-1].startswith("quiet/model")


def test_the_report_of_a_pull_request_runs_nothing_of_the_hub() -> None:
    evil = "mit`</details><script>alert(1)</script>\n# [x](javascript:alert(1))"
    change = compare(OLD, OLD.model_copy(update={"licence": evil}))
    assert change
    text = format_markdown([change], "1 model")
    line = next(line for line in text.splitlines() if "script" in line)
    assert line.strip().startswith("- `") and line.endswith("`") and line.count("`") == 2
    assert "licence changed: 1" in text
