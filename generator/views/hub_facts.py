"""How facts from the Hub are shown: their names, where each was read, when, and whether that is long ago."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date

from ..hub.freshness import FACT_FIELDS, OLD_AFTER_DAYS, observed_day, origin
from ..records import HubFacts, Text

NAMES: Mapping[str, Text] = {
    "config": Text(zh="架构（config.json）", en="Architecture (config.json)"),
    "parameters": Text(zh="参数量", en="Parameters"),
    "parameters_hub": Text(zh="Hub 标的总量", en="The Hub’s own total"),
    "parameters_hub_by_dtype": Text(zh="各精度存了多少", en="Stored per precision"),
    "parameters_check": Text(zh="两个参数量的核对", en="Check of both counts"),
    "context_length": Text(zh="上下文长度", en="Context length"),
    "licence": Text(zh="许可证", en="Licence"),
    "gated": Text(zh="是否需要申请访问", en="Whether access is gated"),
    "languages": Text(zh="语言", en="Languages"),
    "tags": Text(zh="标签", en="Tags"),
    "pipeline_tag": Text(zh="任务标签", en="Pipeline tag"),
    "library_name": Text(zh="所用的库", en="Library"),
    "downloads": Text(zh="近 30 天下载量", en="Downloads of the last 30 days"),
    "likes": Text(zh="点赞数", en="Likes"),
    "created": Text(zh="创建日期", en="Created"),
    "modified": Text(zh="修改日期", en="Modified"),
    "revision": Text(zh="版本（commit）", en="Revision (commit)"),
    "base_models": Text(zh="基座模型（没有基座的也算未知）", en="Base model (none counts as unknown)"),
}
"""Every fetched fact but ``parameters_active``, which is null where all parameters are active."""


@dataclass(frozen=True)
class Reading:
    """A day on which something was read, as a page shows it; ``day`` is empty where it was not recorded."""

    day: str
    bound: bool = False
    """Read on that day or earlier: nobody wrote down which."""
    old: bool = False
    """Over 30 days before the newest day of all data."""


@dataclass(frozen=True)
class Origin:
    """Facts of one record that have the same source and day."""

    names: tuple[Text, ...]
    source: str
    reading: Reading


def reading_of(facts: HubFacts, field: str, data_date: str) -> Reading:
    """When ``field`` was read; ``data_date`` (YYYY-MM-DD) is the day that ages are counted from."""
    day, found = observed_day(facts, field), origin(facts, field)
    if day is None:
        return Reading("")
    bound = bool(found and found.observed and found.observed.startswith("<="))
    return Reading(day.isoformat(), bound, (date.fromisoformat(data_date) - day).days > OLD_AFTER_DAYS)


def origins(facts: HubFacts, data_date: str) -> Iterator[Origin]:
    """Where the known facts of a record come from, in the order of ``NAMES``."""
    grouped: dict[tuple[str, Reading], list[Text]] = {}
    for field in NAMES:
        found = origin(facts, field)
        if getattr(facts, field) is not None and found is not None:
            grouped.setdefault((found.source, reading_of(facts, field, data_date)), []).append(NAMES[field])
    for (source, reading), names in grouped.items():
        yield Origin(tuple(names), source, reading)


assert set(NAMES) == set(FACT_FIELDS) - {"parameters_active"}
