"""How figures are written: bytes as GiB, counts as billions, at most two significant decimals, unknown as a dash."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from ..records import GIB, Range

UNKNOWN = "–"

remembered = lru_cache(maxsize=16384)
"""The same figures stand on many pages, in both languages."""


def is_unknown(value: Any) -> bool:
    """True for None and NaN."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def decimals(value: float) -> str:
    """A figure with as many decimals as it deserves: 0.62, 6.2, 62."""
    magnitude = abs(value)
    if magnitude >= 100:
        return f"{value:,.0f}"
    if magnitude >= 10:
        return f"{value:.0f}" if magnitude >= 30 else f"{value:.1f}"
    return f"{value:.1f}" if magnitude >= 1 else f"{value:.2f}"


@remembered
def gib(size_bytes: float | None) -> str:
    """Bytes in GiB, without the unit."""
    return UNKNOWN if is_unknown(size_bytes) else decimals(float(size_bytes or 0) / GIB)


def gib_range(size: Range | None) -> str:
    """``6.2 (5.9–6.6)`` in GiB, without the unit."""
    return UNKNOWN if size is None else f"{gib(size.value)} ({gib(size.low)}–{gib(size.high)})"


@remembered
def billions(count: float | None) -> str:
    """Parameters as ``7.62B`` or ``124M``."""
    if is_unknown(count):
        return UNKNOWN
    value = float(count or 0)
    if value >= 999.5e6:
        return f"{value / 1e9:.3g}B" if value < 999.5e9 else f"{value / 1e12:.3g}T"
    return f"{value / 1e6:.3g}M"


@remembered
def count(value: float | None) -> str:
    """A plain count with thousands separators."""
    return UNKNOWN if is_unknown(value) else f"{int(value or 0):,}"


def short_count(value: float | None) -> str:
    """``12.3M``, ``45k``: popularity figures, where the magnitude is the message."""
    if is_unknown(value):
        return UNKNOWN
    number = float(value or 0)
    for limit, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= limit * 0.9995:
            return f"{number / limit:.3g}{unit}"
    return f"{number:.0f}"


def tokens(value: float | None) -> str:
    """A context length: ``128k`` where it is a multiple of 1,024."""
    if is_unknown(value):
        return UNKNOWN
    number = int(value or 0)
    return f"{number // 1024}k" if number >= 1024 and number % 1024 == 0 else f"{number:,}"


def percent(value: float | None, digits: int = 1) -> str:
    """A ratio as per cent."""
    return UNKNOWN if is_unknown(value) else f"{float(value or 0) * 100:.{digits}f}%"


def href(url: str | None) -> str:
    """An outside address for an attribute; anything but http(s) leads nowhere."""
    return url if url and url.startswith(("https://", "http://")) else "#"


def plain(value: float | None) -> str:
    """A given figure as it was given: 24 and not 24.0."""
    return UNKNOWN if is_unknown(value) else f"{value:g}"


def anchor(text: str) -> str:
    """An id that is safe in an address and in an attribute."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


FILTERS: Mapping[str, Callable[..., str]] = {
    "gib": gib,
    "gib_range": gib_range,
    "billions": billions,
    "count": count,
    "short_count": short_count,
    "tokens": tokens,
    "percent": percent,
    "decimals": decimals,
    "href": href,
    "plain": plain,
    "anchor": anchor,
}
