"""Reads every model of the catalog from the Hub and writes what changed to ``catalog/hub``, and nowhere else.

Nothing is lost when the Hub misbehaves: a model that cannot be read keeps its old facts and is marked ``stale`` with
the reason, the others go on, and the exit code says so.

Dates. Facts that changed carry the day of the refresh. Facts that were confirmed unchanged keep the day written with
them while it is at most seven days back, so that refreshing twice leaves the tree byte-identical; older days are
renewed. A written day is thus never later than the last reading and at most a week earlier.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from generator.hub.client import HubClient
from generator.hub.difference import Change, compare, same_facts
from generator.hub.facts import EXPAND, FROM_CONFIG, Count, build_facts
from generator.hub.freshness import RENEW_AFTER_DAYS
from generator.hub.limits import Tally, Unanswered
from generator.hub.snapshot import read_snapshot, write_facts
from generator.records import HubFacts, Problem, slug

EXIT_CODES = {
    0: "every model was read",
    1: "catalog/hub holds a file that is no valid record: nothing was asked, nothing written",
    2: "wrong usage",
    3: "some models could not be read: their old facts stay, marked stale",
    4: "the Hub gave no answer at all: nothing was written",
    130: "interrupted: what was read until then is written",
}


@dataclass
class Summary:
    """What a refresh came to."""

    asked: int = 0
    read: int = 0
    written: int = 0
    changes: list[Change] = field(default_factory=list)
    unread: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    interrupted: bool = False

    @property
    def exit_code(self) -> int:
        if self.problems:
            return 1
        if self.interrupted:
            return 130
        if self.asked and self.tally.answers == 0 and self.unread:
            return 4
        return 3 if self.unread else 0

    def line(self) -> str:
        """One line for people."""
        tally = self.tally
        begin = "interrupted: " if self.interrupted else ""
        models = f"{begin}{self.read} of {self.asked} models read"
        return (
            f"{models}, {len(self.changes)} changed, {self.written} files written, "
            f"{len(self.unread)} not read; {tally.requests} requests ({tally.not_modified} not modified, "
            f"{tally.retries} retries), {tally.bytes_read / 1e6:.1f} MB, {tally.waited_seconds:.0f} s waited for limits"
        )


def refresh(
    folder: Path,
    ids: Sequence[str],
    client: HubClient,
    *,
    today: date,
    count: Count,
    count_active: Count,
    jobs: int = 8,
    dry_run: bool = False,
    listed: Iterable[str] = (),
    progress: Callable[[str], None] = lambda hub_id: None,
) -> Summary:
    """Read ``ids`` with ``jobs`` threads and write the changed records to ``folder`` (unless ``dry_run``).

    ``listed`` are all ids of the catalog, for recognising that an entry follows a rename. Returns a ``Summary``; raises
    nothing for what the Hub does.
    """
    snapshot, problems = read_snapshot(folder)
    summary = Summary(asked=len(ids), problems=problems, tally=client.tally)
    if problems:
        return summary
    followed = _followed_renames(snapshot, {*listed, *ids})
    results: dict[str, HubFacts | None] = {}

    def read(hub_id: str) -> tuple[HubFacts | None, str | None]:
        old = snapshot.get(hub_id)
        before = old or followed.get(hub_id)
        facts, reason = read_model(hub_id, before, client, today=today, count=count, count_active=count_active)
        if facts is not None and old is None and before is not None:
            facts = facts.model_copy(update={"hub_id": hub_id, "renamed_from": before.hub_id, "renamed_to": None})
        return facts, reason

    with ThreadPoolExecutor(max_workers=max(1, jobs)) as pool:
        futures = {pool.submit(read, hub_id): hub_id for hub_id in dict.fromkeys(ids)}
        try:
            for future in as_completed(futures):
                hub_id = futures[future]
                facts, reason = future.result()
                results[hub_id] = facts
                if reason is None:
                    summary.read += 1
                else:
                    summary.unread[hub_id] = reason
                progress(hub_id)
        except KeyboardInterrupt:
            client.stop()
            pool.shutdown(wait=True, cancel_futures=True)
            summary.interrupted = True
            for future, hub_id in futures.items():  # read before the interruption, but not yet taken from its thread
                if hub_id not in results and not future.cancelled() and future.result()[1] is None:
                    results[hub_id] = future.result()[0]
                    summary.read += 1
    summary.unread = dict(sorted(summary.unread.items()))
    if summary.exit_code == 4:
        return summary
    _settle(folder, results, {**followed, **snapshot}, summary, today=today, dry_run=dry_run)
    return summary


def read_model(
    hub_id: str, old: HubFacts | None, client: HubClient, *, today: date, count: Count, count_active: Count
) -> tuple[HubFacts | None, str | None]:
    """One model's new record and, where it is not a complete fresh one, the reason.

    The record is None only if the model was never read and cannot be read now.
    """
    try:
        info, renamed_to = client.model_info(hub_id, EXPAND)
    except Unanswered as error:
        return _keep(old, str(error)), str(error)
    day = today.isoformat()
    facts = build_facts(hub_id, info, None, today=day, count=count, count_active=count_active, renamed_to=renamed_to)
    if facts.revision is None:
        return _keep(old, "the Hub's record names no revision"), "the Hub's record names no revision"
    if isinstance(info, dict) and info.get("disabled") is True:
        return _keep(old, "gone: the repository is disabled"), "gone: the repository is disabled"
    reason: str | None = None
    try:
        config = client.config(renamed_to or hub_id, facts.revision)
        if not isinstance(config, dict):
            raise Unanswered("invalid", "it is no JSON object")
        facts = build_facts(
            hub_id, info, config, today=day, count=count, count_active=count_active, renamed_to=renamed_to
        )
        if facts.config is None:
            raise Unanswered("too large", "it has too many values")
    except Unanswered as error:
        reason = f"config.json: {error}"
        if error.reason == "no such file" and (old is None or old.config is None):
            return facts.model_copy(update={"notes": [*facts.notes, reason]}), None
        if old is None:
            # A model seen for the first time: what its record says is worth having, its shape stays unknown.
            provenance = {"info": facts.provenance["info"]}
            facts = facts.model_copy(update={"stale": reason, "refreshed": None, "provenance": provenance})
        else:
            facts = _with_old_config(facts, old, reason)
    return facts, reason


def _keep(old: HubFacts | None, reason: str) -> HubFacts | None:
    return old.model_copy(update={"stale": reason}) if old else None


def _with_old_config(new: HubFacts, old: HubFacts, reason: str) -> HubFacts:
    """Fresh facts of the model's record with the old configuration and what was derived from it."""
    kept = {name: getattr(old, name) for name in FROM_CONFIG}
    origins = {name: item for name, item in old.provenance.items() if name.split(".")[0] in FROM_CONFIG}
    return new.model_copy(
        update={
            **kept,
            "provenance": {**origins, "info": new.provenance["info"]},
            "refreshed": old.refreshed,
            "stale": reason,
        }
    )


def _followed_renames(snapshot: Mapping[str, HubFacts], listed: set[str]) -> dict[str, HubFacts]:
    """Old records whose catalog entry has moved on to the id that the Hub redirects them to, by that new id."""
    return {
        facts.renamed_to: facts
        for facts in snapshot.values()
        if facts.renamed_to in listed and facts.hub_id not in listed and facts.renamed_to not in snapshot
    }


def _settle(
    folder: Path,
    results: Mapping[str, HubFacts | None],
    before: Mapping[str, HubFacts],
    summary: Summary,
    *,
    today: date,
    dry_run: bool,
) -> None:
    """Write what changed, in order of id, and note the changes."""
    for hub_id in sorted(results, key=str.lower):
        new, old = results[hub_id], before.get(hub_id)
        if new is None:
            continue
        if old is not None and same_facts(old, new) and not _due(old, today):
            continue
        change = compare(old, new)
        if change is not None:
            summary.changes.append(change)
        if dry_run:
            continue
        try:
            summary.written += write_facts(folder, new)
        except (OSError, ValueError) as error:
            summary.unread[hub_id] = str(error)
            continue
        if old is not None and old.hub_id != new.hub_id:
            (folder / f"{slug(old.hub_id)}.json").unlink(missing_ok=True)


def _due(old: HubFacts, today: date) -> bool:
    """Whether the written day of unchanged facts is far enough back to be renewed."""
    days = [item.observed for item in old.provenance.values() if item.observed] if old.stale else [old.refreshed or ""]
    if old.stale:
        return False
    try:
        return (today - date.fromisoformat(min(days))).days > RENEW_AFTER_DAYS
    except ValueError:
        return True
