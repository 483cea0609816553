"""Finds open models that the catalog lacks: what trends, what is downloaded a lot, what the makers it lists published.

The listings are those of ``huggingface_hub.HfApi.list_models`` (same address, same parameters; a test compares them),
read row by row: ``list_models`` builds typed objects and fails whole when a maker wrote one field of a wrong type.
A model counts as notable by the limits below; what was left out, and why, is counted and written down too.
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
from generator.hub.discovered import Discovered, Discovery, Reason, read_discovered, write_discovered
from generator.hub.draft import model_type
from generator.hub.facts import EXPAND, Count, read_info
from generator.hub.freshness import RENEW_AFTER_DAYS
from generator.hub.limits import Tally, Unanswered
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

LEAST_TRENDING = 10
LEAST_DOWNLOADS = 50_000
LEAST_DOWNLOADS_OF_A_MAKER = 1_000
PARAMETERS = (20_000_000, 500_000_000_000)
"""Sizes that anybody fine-tunes, by the Hub's total of stored parameters."""

MOST_RECORD_BYTES = 40_000
"""Of one record in the index: its reader refuses more than 2 MB in all."""

LISTED = (*EXPAND, "config", "private", "trendingScore")

_CONVERTED = re.compile(
    r"(gguf|ggml|awq|gptq|mlx|fp8|fp4|nvfp4|mxfp4|int4|int8|bnb|exl2|exl3|onnx|w4a16|w8a8|4bit|8bit)"
)
_DERIVED = ("base_model:quantized:", "base_model:adapter:", "base_model:merge:")
_MINOR_LIBRARIES = {"mlx", "gguf", "peft", "onnx", "transformers.js", "ctranslate2"}


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


@dataclass(frozen=True)
class _Candidate:
    hub_id: str
    downloads: int
    trending: int | None
    notable: tuple[Reason, ...]


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
    candidates = _choose(rows, listed, makers, left_out)
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


def _choose(
    rows: Mapping[str, dict[str, Any]], listed: Collection[str], makers: Collection[str], left_out: Counter[str]
) -> list[_Candidate]:
    """The notable ones, most notable first; ``left_out`` counts the others by reason."""
    known = {hub_id.lower() for hub_id in listed}
    owners = {maker.lower() for maker in makers}
    chosen = []
    for hub_id, row in rows.items():
        candidate = _judge(hub_id, row, known, owners)
        if isinstance(candidate, str):
            left_out[candidate] += 1
        else:
            chosen.append(candidate)
    return sorted(chosen, key=lambda c: (-(c.trending or 0), -c.downloads, c.hub_id.lower(), c.hub_id))


def _judge(hub_id: str, row: dict[str, Any], known: set[str], owners: set[str]) -> _Candidate | str:
    """A candidate, or why the model is none."""
    border = Border()
    facts = read_info(row, border)
    owner, _, name = hub_id.lower().partition("/")
    tags = facts["tags"] or []
    shape = row.get("config")
    kind = shape.get("model_type") if isinstance(shape, dict) else None
    if hub_id.lower() in known:
        return "in the catalog"
    if row.get("private") is True or row.get("disabled") is True:
        return "private or disabled"
    if not isinstance(kind, str) or kind not in known_types():
        return "architecture not known to transformers"
    converted = any(_CONVERTED.fullmatch(word) for word in re.split(r"[-_.]", name))
    if converted or facts["library_name"] in _MINOR_LIBRARIES or any(tag.startswith(_DERIVED) for tag in tags):
        return "a conversion, adapter or merge of another model"
    bases = [base.split("/")[0].lower() for base in facts["base_models"] or ()]
    if any(base != owner for base in bases) and owner not in owners:
        return "a fine-tune of another maker's model"
    stored = facts["parameters_hub"]
    if stored is None or not PARAMETERS[0] <= stored <= PARAMETERS[1]:
        return "size unknown or out of range"
    if facts["licence"] is None:
        return "no licence named"
    downloads = facts["downloads"] or 0
    trending = border.count(row.get("trendingScore"), "trendingScore", 10**9)
    notable: list[Reason] = []
    if (trending or 0) >= LEAST_TRENDING:
        notable.append("trending")
    if downloads >= LEAST_DOWNLOADS:
        notable.append("downloads")
    if owner in owners and downloads >= LEAST_DOWNLOADS_OF_A_MAKER:
        notable.append("maker")
    return _Candidate(hub_id, downloads, trending, tuple(notable)) if notable else "too few downloads"


def _read_candidates(
    client: HubClient,
    candidates: list[_Candidate],
    old: Mapping[str, Discovered],
    today: date,
    count: Count,
    count_active: Count,
    jobs: int,
    search: Search,
) -> list[tuple[_Candidate, HubFacts | None]]:
    """The facts of each candidate, in the same order; the old ones, marked stale, where they cannot be read."""

    def read(candidate: _Candidate) -> tuple[HubFacts | None, str | None]:
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


def _join(candidate: _Candidate, facts: HubFacts, old: Discovered | None, today: date) -> Discovered:
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
