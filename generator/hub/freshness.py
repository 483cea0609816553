"""How old a figure is and where it comes from, for the pages that show it. Uses no clock: see ``reference_date``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date

from generator.records import HubFacts, Provenance

OLD_AFTER_DAYS = 30
"""Figures older than this are marked on every page that shows them."""

RENEW_AFTER_DAYS = 7
"""A confirmed, unchanged record gets a new date only when its written one is this old (see ``refresh``)."""

_FROM_CONFIG = ("config", "context_length", "parameters", "parameters_active", "parameters_check")

FACT_FIELDS = tuple(
    name
    for name in HubFacts.model_fields
    if name
    not in {"schema_version", "hub_id", "notes", "provenance", "refreshed", "stale", "renamed_from", "renamed_to"}
)
"""The fields that hold facts, as opposed to those that say how they were come by."""


def origin(facts: HubFacts, field: str) -> Provenance | None:
    """Where the value of ``field`` comes from and when it was read; None if nothing is recorded."""
    own = facts.provenance.get(field)
    group = facts.provenance.get("config" if field in _FROM_CONFIG else "info")
    return own or group


def observed_day(facts: HubFacts, field: str | None = None) -> date | None:
    """The day on which ``field`` (or the whole record) was read, or a bound such as '<= 2026-09-24' read as that day.

    For the whole record: the last complete live read, else the oldest day recorded for any of its facts.
    """
    if field is not None:
        found = origin(facts, field)
        days = [found.observed] if found and found.observed else [facts.refreshed]
    elif facts.refreshed:
        days = [facts.refreshed]
    else:
        days = [item.observed for item in facts.provenance.values()]
    parsed = [day for text in days if (day := _parse(text)) is not None]
    return min(parsed, default=None)


def reference_date(snapshot: Mapping[str, HubFacts], others: Iterable[date] = ()) -> date | None:
    """The day that ages are counted from: the latest day named anywhere in the data.

    A build must not depend on when it runs, so the clock is not asked. ``others`` are days from other inputs, such as
    those of measurements. A page that stays up longer ages on in the reader's browser, from the day it shows.
    """
    texts = (text for facts in snapshot.values() for text in [facts.refreshed, *_observed(facts)])
    return max([*others, *(day for text in texts if (day := _parse(text)) is not None)], default=None)


def age_days(facts: HubFacts, reference: date, field: str | None = None) -> int | None:
    """Whole days from the reading of the facts to ``reference``; None if no day is recorded."""
    day = observed_day(facts, field)
    return None if day is None else max(0, (reference - day).days)


def is_old(facts: HubFacts, reference: date, field: str | None = None) -> bool:
    """Whether to mark the figure: older than 30 days, of unknown age, or kept because the Hub gave no answer."""
    age = age_days(facts, reference, field)
    return age is None or age > OLD_AFTER_DAYS or facts.stale is not None


def is_live(facts: HubFacts) -> bool:
    """Whether the record comes from a live read; otherwise it is from the starting snapshot, of mixed sources."""
    return facts.refreshed is not None


def count_unknown(snapshot: Iterable[HubFacts]) -> dict[str, int]:
    """Number of records in which each fact is unknown, in the order of the record's fields."""
    records = list(snapshot)
    return {name: sum(getattr(facts, name) is None for facts in records) for name in FACT_FIELDS}


def _observed(facts: HubFacts) -> list[str | None]:
    return [item.observed for item in facts.provenance.values()]


def _parse(text: str | None) -> date | None:
    if not text:
        return None
    try:
        return date.fromisoformat(text.removeprefix("<=").strip()[:10])
    except ValueError:
        return None
