"""How hard to try: attempts, waits, and the Hub's own limits, which all threads of one client share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal

from huggingface_hub.utils._http import parse_ratelimit_headers

Reason = Literal[
    "gated", "gone", "no such file", "limited", "server", "network", "timeout", "invalid", "too large", "stopped"
]


class Unanswered(Exception):
    """The Hub gave no usable answer. ``reason`` classifies, the message says it in one line without Hub text."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Patience:
    """How long to try. Times in seconds."""

    attempts: int = 3
    pause_seconds: float = 0.5
    timeout_seconds: float = 10.0
    request_seconds: float = 30.0
    longest_wait_seconds: float = 310.0
    """The Hub counts requests in windows of 300 s; a server that asks for more is not waited for."""
    failures_until_gone: int = 5
    """After so many questions in a row without any connection, no more are asked."""


@dataclass
class Tally:
    """What the requests of one client came to."""

    requests: int = 0
    not_modified: int = 0
    answers: int = 0
    bytes_read: int = 0
    retries: int = 0
    waited_seconds: float = 0.0


class Limits:
    """Holds requests back while the Hub's window for their kind is used up.

    The Hub counts API calls and file requests apart (500 and 3,000 in 5 minutes without a token, 1,000 and 5,000 with
    one; huggingface.co/docs/hub/rate-limits) and says what is left in a ``RateLimit`` header.
    """

    def __init__(self, patience: Patience, tally: Tally, sleep: Callable[[float], object]) -> None:
        self._patience, self._tally, self._sleep = patience, tally, sleep
        self._lock = threading.Lock()
        self._open_at: dict[str, float] = {}

    def wait(self, url: str) -> None:
        """Sleep until a request to ``url`` may go out. Raises ``Unanswered`` if that takes too long."""
        seconds = self._open_at.get(_kind(url), 0.0) - time.monotonic()
        if seconds <= 0:
            return
        if seconds > self._patience.longest_wait_seconds:
            raise Unanswered("limited", "the Hub's rate limit was reached (429) and it asks for too long a wait")
        with self._lock:
            self._tally.waited_seconds += seconds
        self._sleep(seconds)

    def observe(self, url: str, status: int, headers: Mapping[str, str]) -> None:
        """Take note of what a response says of the limits."""
        limit = parse_ratelimit_headers(headers)
        seconds: float | None = None
        if limit is not None and limit.remaining == 0:
            seconds = float(limit.reset_in_seconds)
        if status in (429, 503):
            asked = retry_after_seconds(headers.get("retry-after"))
            seconds = asked if asked is not None else seconds
            if seconds is None and status == 429:
                seconds = self._patience.pause_seconds * 4
        if seconds:
            with self._lock:
                opens = time.monotonic() + seconds
                self._open_at[_kind(url)] = max(opens, self._open_at.get(_kind(url), 0.0))


def retry_after_seconds(value: str | None) -> float | None:
    """Seconds of a Retry-After header: a number or an HTTP date (RFC 9110, 10.2.3)."""
    if not value:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None


def _kind(url: str) -> str:
    return "resolvers" if "/resolve/" in url else "api"
