"""What is known of the data itself: unknown facts, ages and sources of the Hub snapshot, sources of everything else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from ...dataset import Dataset
from ...hub.freshness import count_unknown
from ...records import HubFacts, Source, Text
from ..hub_facts import NAMES, reading_of
from ..page import Page


@dataclass(frozen=True)
class LastRead:
    """One kind of input on the page of sources. Days are YYYY-MM-DD or YYYY-MM, empty where none is recorded."""

    name: Text
    entries: int
    undated: int
    first: str
    last: str


def pages(dataset: Dataset) -> Iterator[Page]:
    """``data/quality.md`` and ``data/sources.md``."""
    facts = list(dataset.hub.values())
    unknown = count_unknown(facts)
    readings = Counter(reading_of(item, "downloads", dataset.data_date) for item in facts)
    shared = {"total": len(facts), "live": sum(item.refreshed is not None for item in facts)}
    yield Page(
        path="data/quality.md",
        template="quality.md.j2",
        title=Text(zh="数据质量：哪些还不知道", en="Data quality: what is still unknown"),
        description=Text(
            zh="Hub 快照里每个字段有多少模型还是未知，下载量读于哪天，多少条来自实时读取，多少条来自混合来源的起始快照。",
            en="How many models lack each fact in the Hub snapshot, when downloads were read, and how many records are live or from the mixed starting snapshot.",
        ),
        context={
            **shared,
            "unknown": sorted(((name, unknown[field]) for field, name in NAMES.items()), key=lambda pair: -pair[1]),
            "readings": sorted(readings.items(), key=lambda pair: pair[0].day, reverse=True),
            "runs": len(dataset.runs),
            "old": sum(n for reading, n in readings.items() if reading.old),
            "stale": Counter(item.stale for item in facts if item.stale),
        },
        hide=(),
    )
    origins: Counter[str] = Counter()
    newest: dict[str, str] = {}
    for item in facts:
        for noted in item.provenance.values():
            live = noted.source.startswith(f"{item.hub_id} config.json")
            source = "Hub, config.json at the recorded revision" if live else noted.source
            origins[source] += 1
            newest[source] = max(newest.get(source, ""), _day(noted.observed))
    catalog = dataset.catalog
    yield Page(
        path="data/sources.md",
        template="data_sources.md.j2",
        title=Text(zh="数据来源与读取日期", en="Where the data come from, and when they were read"),
        description=Text(
            zh="本站数据的全部来源：Hub 快照、显卡规格、评测成绩、许可条款，各自最后一次读取的日期。",
            en="All sources of this guide: Hub snapshot, card figures, benchmark scores, licence terms, and when each was last read.",
        ),
        context={
            **shared,
            "readings": list(last_readings(dataset)),
            "search": dataset.discovery,
            "origins": [(name, count, newest[name]) for name, count in origins.most_common(40)],
            "rest": max(len(origins) - 40, 0),
            "benchmarks": sorted(catalog.benchmarks.values(), key=lambda group: group.id),
            "gpus": len(catalog.gpus),
            "licences": len(catalog.licences),
            "data_date": dataset.data_date,
        },
        hide=(),
    )


def last_readings(dataset: Dataset) -> Iterator[LastRead]:
    """First and last day of reading of every kind of input but the search for new models."""
    catalog, hub = dataset.catalog, dataset.hub.values()
    yield _dated(Text(zh="Hub 快照：模型记录", en="Hub snapshot: models’ records"), (_record_days(f) for f in hub))
    yield _dated(
        Text(zh="Hub 快照：config.json", en="Hub snapshot: config.json"),
        ([reading_of(f, "config", dataset.data_date).day] for f in hub if f.config is not None),
    )
    yield _dated(Text(zh="实测", en="Measured runs"), ([str(run.date)] for run in dataset.runs))
    for name, entries in (
        (Text(zh="模型条目", en="Model entries"), catalog.models),
        (Text(zh="显卡规格与租价", en="Card figures and rents"), catalog.gpus),
        (Text(zh="评测成绩", en="Benchmark scores"), catalog.benchmarks),
        (Text(zh="许可条款", en="Licence terms"), catalog.licences),
        (Text(zh="任务：数据集与公开微调", en="Tasks: data sets and published fine-tunes"), catalog.scenarios),
        (Text(zh="旧文章的说法", en="Claims of the old article"), catalog.claims),
    ):
        yield _dated(name, (_source_days(entry) for entry in entries.values()))


def _dated(name: Text, days_of_entries: Iterable[list[str]]) -> LastRead:
    entries = [[day for day in days if day] for days in days_of_entries]
    days = sorted(day for entry in entries for day in entry)
    undated = sum(not entry for entry in entries)
    return LastRead(name, len(entries), undated, days[0] if days else "", days[-1] if days else "")


def _record_days(facts: HubFacts) -> list[str]:
    return [_day(noted.observed) for name, noted in facts.provenance.items() if not name.startswith("config")]


def _source_days(value: Any) -> list[str]:
    """Days of all ``Source`` records inside an entry."""
    if isinstance(value, Source):
        return [_day(value.observed)]
    if isinstance(value, BaseModel):
        return [day for field in vars(value).values() for day in _source_days(field)]
    if isinstance(value, list):
        return [day for item in value for day in _source_days(item)]
    return []


def _day(observed: str | None) -> str:
    """The day of '<= 2026-09-24 (not recorded)' and the like."""
    words = (observed or "").replace("<=", " ").split()
    return words[0] if words and words[0][:2] == "20" else ""
