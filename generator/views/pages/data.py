"""What is known of the data itself: unknown facts, ages and sources of the Hub snapshot, sources of everything else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from ...dataset import Dataset
from ...records import Text
from ..page import Page

FIELDS: tuple[tuple[str, Text], ...] = (
    ("config", Text(zh="架构（config.json）", en="Architecture (config.json)")),
    ("parameters", Text(zh="参数量", en="Parameters")),
    ("context_length", Text(zh="上下文长度", en="Context length")),
    ("licence", Text(zh="许可证", en="Licence")),
    ("gated", Text(zh="是否需要申请访问", en="Whether access is gated")),
    ("languages", Text(zh="语言", en="Languages")),
    ("downloads", Text(zh="近 30 天下载量", en="Downloads of the last 30 days")),
    ("likes", Text(zh="点赞数", en="Likes")),
    ("created", Text(zh="创建日期", en="Created")),
    ("modified", Text(zh="修改日期", en="Modified")),
    ("revision", Text(zh="版本（commit）", en="Revision (commit)")),
    ("base_models", Text(zh="基座模型", en="Base model")),
)
"""Fetched facts that the pages show."""


def pages(dataset: Dataset) -> Iterator[Page]:
    """``data/quality.md`` and ``data/sources.md``."""
    facts = list(dataset.hub.values())
    unknown = [(name, sum(getattr(item, field) is None for item in facts)) for field, name in FIELDS]
    months: Counter[str] = Counter()
    for item in facts:
        noted = item.provenance.get("downloads") or item.provenance.get("info")
        text = (noted.observed if noted else None) or item.refreshed or ""
        months[text.replace("<=", "≤").strip() or "–"] += 1
    live = sum(item.refreshed is not None for item in facts)
    shared = {"total": len(facts), "live": live}
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
            "unknown": sorted(unknown, key=lambda pair: -pair[1]),
            "months": sorted(months.items(), reverse=True),
            "runs": len(dataset.runs),
            "old": sum(dataset.is_old(item) for item in facts),
        },
        hide=(),
    )
    origins: Counter[str] = Counter()
    newest: dict[str, str] = {}
    for item in facts:
        for noted in item.provenance.values():
            origins[noted.source] += 1
            day = (noted.observed or "").replace("<=", "").strip()
            newest[noted.source] = max(newest.get(noted.source, ""), day)
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
            "origins": [(name, count, newest[name]) for name, count in origins.most_common(40)],
            "rest": max(len(origins) - 40, 0),
            "benchmarks": sorted(catalog.benchmarks.values(), key=lambda group: group.id),
            "gpus": len(catalog.gpus),
            "licences": len(catalog.licences),
            "data_date": dataset.data_date,
        },
        hide=(),
    )
