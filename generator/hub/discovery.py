"""Finds open models that the catalog lacks: what trends, what is downloaded a lot, what the makers it lists published.

The listings are those of ``huggingface_hub.HfApi.list_models`` (same address, same parameters; a test compares them),
read row by row: ``list_models`` builds typed objects and fails whole when a maker wrote one field of a wrong type.
What counts as notable is said in `notable`; what was left out, and why, is counted and written down too.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from generator.hub.architectures import known_types
from generator.hub.border import Border
from generator.hub.client import HubClient
from generator.hub.difference import code, same_facts
from generator.hub.discovered import Discovered, Discovery, read_discovered, write_discovered
from generator.hub.draft import model_type
from generator.hub.facts import EXPAND, Count
from generator.hub.freshness import RENEW_AFTER_DAYS
from generator.hub.limits import Tally, Unanswered
from generator.hub.notable import Candidate, choose
from generator.hub.refresh import read_model
from generator.hub.snapshot import format_facts
from generator.records import HubFacts, Problem

TASKS = ("text-generation", "image-text-to-text")
"""Pipelines whose models this guide is about; most new language models also read images."""

SORTS = ("trendingScore", "downloads")
ROWS = 200
"""Rows read of each listing by task."""

MAKER_ROWS = 50
"""Newest models read of each maker."""

MOST_RECORD_BYTES = 40_000
"""Of one record in the index: its reader refuses more than 2 MB in all."""

LISTED = (*EXPAND, "config", "private", "trendingScore")


@dataclass
class Search:
    """What a search came to. ``found`` is None if the Hub gave no answer at all."""

    found: Discovery | None = None
    news: list[str] = field(default_factory=list)
    unread: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    written: int = 0
    tally: Tally = field(default_factory=Tally)

    @property
    def exit_code(self) -> int:
        if self.problems:
            return 1
        if self.tally.answers == 0 and self.unread:
            return 4
        return 3 if self.unread else 0

    def line(self) -> str:
        """One line for people."""
        models, seen = (len(self.found.models), self.found.seen) if self.found else (0, 0)
        return (
            f"{seen} models looked at, {models} notable ones that the catalog lacks, {len(self.news)} of them "
            f"new on the list; {self.written} files written, {len(self.unread)} not read; "
            f"{self.tally.requests} requests, {self.tally.bytes_read / 1e6:.1f} MB"
        )


def discover(
    folder: Path,
    listed: Collection[str],
    client: HubClient,
    *,
    today: date,
    count: Count,
    count_active: Count,
    stub: Callable[[HubFacts], str],
    most: int = 40,
    jobs: int = 8,
    dry_run: bool = False,
) -> Search:
    """Search, read the facts of the ``most`` notable models and write ``folder`` (unless ``dry_run``).

    ``listed`` are the Hub ids of the catalog; their owners are the makers whose newest models are looked at. Raises
    nothing for what the Hub does: a listing or model that cannot be read is named in ``unread``, and what an earlier
    search found stays as long as this one could not look everywhere. Ctrl-C raises ``KeyboardInterrupt``; nothing is
    written before the search is over.
    """
    before, problems = read_discovered(folder)
    search = Search(problems=problems, tally=client.tally)
    if problems:
        return search
    makers = sorted({hub_id.split("/")[0] for hub_id in listed}, key=str.lower)
    rows = _read_listings(client, makers, jobs, search)
    if search.exit_code == 4:
        return search
    everywhere = not search.unread
    left_out: Counter[str] = Counter()
    candidates = choose(rows, listed, makers, left_out)
    left_out["less notable than the others"] = len(candidates[most:])
    old = {model.facts.hub_id: model for model in (before.models if before else ())}
    known = {hub_id.lower() for hub_id in listed}
    models = []
    for candidate, facts in _read_candidates(client, candidates[:most], old, today, count, count_active, jobs, search):
        if facts is None:
            continue
        if (facts.renamed_to or "").lower() in known:
            left_out["in the catalog"] += 1
        elif model_type(facts) not in known_types():
            left_out["architecture not known to transformers"] += 1
        elif len(format_facts(facts)) > MOST_RECORD_BYTES:
            left_out["record too large"] += 1
        else:
            models.append(_join(candidate, facts, old.get(candidate.hub_id), today))
    if not everywhere:
        again = {model.facts.hub_id for model in models}
        models += [model for id_, model in old.items() if id_ not in again and id_.lower() not in known]
    search.news = [model.facts.hub_id for model in models if model.facts.hub_id not in old]
    search.found = Discovery(
        searched=today.isoformat(), seen=len(rows), left_out={k: v for k, v in sorted(left_out.items()) if v},
        models=models,
    )  # fmt: skip
    if before is not None and _says_the_same(before, search.found) and not _aged(before.searched, today):
        search.found = before
    if not dry_run:
        search.written = write_discovered(folder, search.found, {m.facts.hub_id: stub(m.facts) for m in models})
    return search


def queries(makers: Iterable[str]) -> dict[str, tuple[list[tuple[str, str]], int]]:
    """Every listing to read: its name → (query, rows)."""
    expand = [("expand", name) for name in LISTED]
    asked: dict[str, tuple[list[tuple[str, str]], int]] = {}
    for task in TASKS:
        for sort in SORTS:
            query = [("filter", "safetensors"), ("pipeline_tag", task), ("sort", sort), ("limit", "100")]
            asked[f"{task} by {sort}"] = ([*query, *expand], ROWS)
    for maker in makers:
        query = [("filter", "safetensors"), ("author", maker), ("sort", "createdAt"), ("limit", str(MAKER_ROWS))]
        asked[f"newest of {maker}"] = ([*query, *expand], MAKER_ROWS)
    return asked


def format_report(search: Search) -> str:
    """The search as Markdown for an issue. Hub text stands in code spans only."""
    lines = [search.line(), ""]
    found = search.found
    if found is not None and found.models:
        lines += ["| Model | Parameters | Licence | Downloads | Notable | New |", "|---|---:|---|---:|---|---|"]
        for model in found.models:
            facts = model.facts
            size = f"{facts.parameters:,}" if facts.parameters else "unknown"
            downloads = "unknown" if facts.downloads is None else f"{facts.downloads:,}"
            new = "new" if facts.hub_id in search.news else model.first_seen
            licence = code(re.sub(r"[|\\]", " ", facts.licence or "unknown"))
            cells = (code(facts.hub_id), size, licence, downloads, ", ".join(model.notable), new)
            lines.append("| " + " | ".join(cells) + " |")
        lines += ["", "`python -m generator add ID` takes one of them to a page."]
    for name, reason in search.unread.items():
        lines.append(f"- not read: {code(name)}: {reason}")
    return "\n".join(lines) + "\n"


def _read_listings(client: HubClient, makers: list[str], jobs: int, search: Search) -> dict[str, dict[str, Any]]:
    """All rows with a Hub id, each once, by id."""
    rows: dict[str, dict[str, Any]] = {}
    asked = queries(makers)
    with ThreadPoolExecutor(max_workers=max(1, jobs)) as pool:
        answers = {name: pool.submit(client.listing, query, most) for name, (query, most) in asked.items()}
        try:
            for name, answer in answers.items():
                try:
                    listing = answer.result()
                except Unanswered as error:
                    search.unread[name] = str(error)
                    continue
                for row in listing:
                    hub_id = Border().hub_id(row.get("id") if isinstance(row, dict) else None, "id")
                    if hub_id:
                        rows.setdefault(hub_id, row)
        except BaseException:
            client.stop()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return rows


def _read_candidates(
    client: HubClient,
    candidates: list[Candidate],
    old: Mapping[str, Discovered],
    today: date,
    count: Count,
    count_active: Count,
    jobs: int,
    search: Search,
) -> list[tuple[Candidate, HubFacts | None]]:
    """The facts of each candidate, in the same order; the old ones, marked stale, where they cannot be read."""

    def read(candidate: Candidate) -> tuple[HubFacts | None, str | None]:
        before = old[candidate.hub_id].facts if candidate.hub_id in old else None
        return read_model(candidate.hub_id, before, client, today=today, count=count, count_active=count_active)

    results = []
    with ThreadPoolExecutor(max_workers=max(1, jobs)) as pool:
        futures = [pool.submit(read, candidate) for candidate in candidates]
        try:
            for candidate, future in zip(candidates, futures, strict=True):
                facts, reason = future.result()
                if reason is not None:
                    search.unread[candidate.hub_id] = reason
                results.append((candidate, facts))
        except BaseException:
            client.stop()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    search.unread = dict(sorted(search.unread.items()))
    return results


def _join(candidate: Candidate, facts: HubFacts, old: Discovered | None, today: date) -> Discovered:
    if old is not None and same_facts(old.facts, facts) and not _aged(old.facts.refreshed, today):
        facts = old.facts
    return Discovered(
        facts=facts,
        notable=list(candidate.notable),
        trending=candidate.trending,
        first_seen=old.first_seen if old else today.isoformat(),
    )


def _says_the_same(old: Discovery, new: Discovery) -> bool:
    return old.model_copy(update={"searched": new.searched}) == new


def _aged(day: str | None, today: date) -> bool:
    try:
        return (today - date.fromisoformat(day or "")).days > RENEW_AFTER_DAYS
    except ValueError:
        return True
