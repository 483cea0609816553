"""Requests to the Hub: conditional, bounded, patient with limits and quick to see that the network is gone.

Built on ``huggingface_hub``: its session, token, headers, error classes and rate-limit parser, with the endpoint of
``HF_ENDPOINT``. Its ``HfApi.model_info`` is not used, because it builds a typed object that fails whole when one field
has a wrong type, where we keep every field that is right. Its own retries are not used either: they sleep for as long
as a server asks and close the session under other threads. Nothing is ever downloaded but JSON, and no code is run.
"""

from __future__ import annotations

import importlib
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urljoin, urlsplit

from huggingface_hub import constants, get_session, hf_raise_for_status
from huggingface_hub.errors import DisabledRepoError, EntryNotFoundError, GatedRepoError, HfHubHTTPError
from huggingface_hub.utils._headers import build_hf_headers

from generator.hub.border import HUB_ID
from generator.hub.cache import Cache, Kept
from generator.hub.limits import Limits, Patience, Tally, Unanswered

INFO_LIMIT_BYTES = 4_000_000
CONFIG_LIMIT_BYTES = 1_000_000
LISTING_LIMIT_BYTES = 40_000_000
MAX_REDIRECTS = 5

constants.HF_HUB_DISABLE_TELEMETRY = True
"""Else the library makes a request of its own, uncounted, to fill its User-Agent."""

http: Any = importlib.import_module(type(get_session()).__module__.partition(".")[0])
"""The HTTP library of huggingface_hub: httpx in its 1.x, the successor httpx2 in 2.x, alike in what we use."""


@dataclass(frozen=True)
class Answer:
    """A JSON answer. ``url`` is where it came from after redirects."""

    data: Any
    url: str
    links: Mapping[str, str] = field(default_factory=dict)


@dataclass
class HubClient:
    """Reads JSON from one Hub endpoint; safe to share between threads.

    ``cache`` is a folder for answers with an ETag, outside the repository; None keeps none.
    """

    endpoint: str = field(default_factory=lambda: constants.ENDPOINT)
    token: str | None = None
    cache: Path | None = None
    patience: Patience = field(default_factory=Patience)
    sleep: Callable[[float], object] | None = None
    """Waits for so many seconds; by default until ``stop`` is called at the latest."""
    tally: Tally = field(default_factory=Tally)

    def __post_init__(self) -> None:
        self.endpoint = self.endpoint.rstrip("/")
        self._lock = threading.Lock()
        self._cache = Cache(self.cache)
        self._stopped = threading.Event()
        self._sleep = self.sleep or self._stopped.wait
        self._limits = Limits(self.patience, self.tally, self._sleep)
        self._failures = 0

    def stop(self) -> None:
        """End all waits and ask nothing more, from any thread: questions under way raise ``Unanswered``."""
        self._stopped.set()

    # ------------------------------------------------------------------------------------------------ questions

    def model_info(self, hub_id: str, expand: tuple[str, ...]) -> tuple[Any, str | None]:
        """The Hub's record of one model (JSON) and the id it was renamed to, if any. Raises ``Unanswered``."""
        query = urlencode([("expand", name) for name in expand])
        answer = self.get(f"{self.endpoint}/api/models/{quote(hub_id)}?{query}", INFO_LIMIT_BYTES)
        path = urlsplit(answer.url).path
        now = path.partition("/api/models/")[2]
        renamed = now if now != hub_id and HUB_ID.fullmatch(now) else None
        return answer.data, renamed

    def config(self, hub_id: str, revision: str) -> Any:
        """``config.json`` at a commit (JSON). Raises ``Unanswered``."""
        url = f"{self.endpoint}/{quote(hub_id)}/resolve/{quote(revision, safe='')}/config.json"
        return self.get(url, CONFIG_LIMIT_BYTES, cache_as=f"{self.endpoint}/{hub_id}/config.json").data

    def listing(self, query: list[tuple[str, str]], most: int) -> list[Any]:
        """Up to ``most`` rows of a model listing, following the pages. Raises ``Unanswered``."""
        url: str | None = f"{self.endpoint}/api/models?{urlencode(query)}"
        rows: list[Any] = []
        while url and len(rows) < most:
            answer = self.get(url, LISTING_LIMIT_BYTES, keep=False)
            if not isinstance(answer.data, list):
                raise Unanswered("invalid", "the listing is not a list")
            rows.extend(answer.data)
            following = answer.links.get("next")
            url = self._at_endpoint(urljoin(url, following)) if following and answer.data else None
        return rows[:most]

    # ------------------------------------------------------------------------------------------------- requests

    def get(self, url: str, limit_bytes: int, *, cache_as: str | None = None, keep: bool = True) -> Answer:
        """One JSON answer of at most ``limit_bytes``, tried ``patience.attempts`` times. Raises ``Unanswered``."""
        entry = self._cache.entry(cache_as or url) if keep else None
        last: Unanswered | None = None
        for attempt in range(self.patience.attempts):
            if self._failures >= self.patience.failures_until_gone:
                raise Unanswered("network", "the network is gone")
            if attempt:
                with self._lock:
                    self.tally.retries += 1
                if last is None or last.reason != "limited":
                    self._sleep(self.patience.pause_seconds * 2 ** (attempt - 1))
            try:
                answer = self._follow(url, limit_bytes, entry)
            except Unanswered as error:
                last = error
                if error.reason in ("gated", "gone", "no such file", "too large", "stopped"):
                    self._failures = 0
                    raise
                continue
            self._failures = 0
            return answer
        assert last is not None
        with self._lock:
            self._failures = self._failures + 1 if last.reason in ("network", "timeout") else 0
        raise last

    def _follow(self, url: str, limit_bytes: int, entry: Path | None) -> Answer:
        for _ in range(MAX_REDIRECTS):
            answer = self._request(url, limit_bytes, entry)
            if isinstance(answer, Answer):
                return answer
            url = answer
        raise Unanswered("invalid", f"more than {MAX_REDIRECTS} redirects")

    def _request(self, url: str, limit_bytes: int, entry: Path | None) -> Answer | str:
        """An answer, or the address that the Hub redirects to."""
        self._limits.wait(url)
        self._refuse_if_stopped()
        kept = self._cache.read(entry)
        headers = {**self._headers(url), "Accept-Encoding": "identity"}
        if kept:
            headers["If-None-Match"] = kept.etag
        deadline = time.monotonic() + self.patience.request_seconds
        with self._lock:
            self.tally.requests += 1
        try:
            with get_session().stream(
                "GET", url, headers=headers, timeout=self.patience.timeout_seconds, follow_redirects=False
            ) as response:
                self._limits.observe(url, response.status_code, response.headers)
                if response.status_code == 304 and kept:
                    with self._lock:
                        self.tally.not_modified += 1
                        self.tally.answers += 1
                    return Answer(_parse(kept.body), url)
                if response.has_redirect_location:
                    return self._at_endpoint(urljoin(url, response.headers["location"]))
                body = self._read(response, limit_bytes, deadline)
        except http.TimeoutException as error:
            raise Unanswered("timeout", "the Hub did not answer in time") from error
        except http.RemoteProtocolError as error:
            raise Unanswered("network", "the answer was cut off") from error
        except (http.TransportError, OSError) as error:
            raise Unanswered("network", "no connection to the Hub") from error
        except (http.InvalidURL, http.HTTPError) as error:
            raise Unanswered("invalid", "the answer is not valid HTTP") from error
        data = _parse(body)
        links = {str(name): link.get("url", "") for name, link in response.links.items()}
        with self._lock:
            self.tally.answers += 1
        if entry and (etag := response.headers.get("etag")):
            self._cache.write(entry, Kept(etag, body))
        return Answer(data, url, links)

    def _read(self, response: Any, limit_bytes: int, deadline: float) -> bytes:
        """The whole body of a good answer. Raises ``Unanswered`` for errors and for what is too large or too slow."""
        failed = response.status_code >= 400
        limit_bytes = 100_000 if failed else limit_bytes
        length = response.headers.get("content-length", "")
        too_large = Unanswered("too large", f"the answer is larger than {limit_bytes} bytes")
        if not failed and length.isdigit() and int(length) > limit_bytes:
            raise too_large
        if response.headers.get("content-encoding", "identity") != "identity":
            raise Unanswered("invalid", "the answer is compressed though that was declined")
        body = bytearray()
        for chunk in response.iter_raw():  # as it arrives: collecting larger chunks would wait for a slow server
            body += chunk
            with self._lock:
                self.tally.bytes_read += len(chunk)
            if len(body) > limit_bytes:
                if failed:
                    break
                raise too_large
            self._refuse_if_stopped()
            if time.monotonic() > deadline:
                raise Unanswered("timeout", "the Hub answered too slowly")
        if failed:
            raise self._failure(response, bytes(body))
        return bytes(body)

    def _failure(self, response: Any, body: bytes) -> Unanswered:
        status = response.status_code
        whole = http.Response(status, headers=response.headers, content=body, request=response.request)
        try:
            hf_raise_for_status(whole)
        except GatedRepoError:
            return Unanswered("gated", f"gated: the Hub answered {status}")
        except EntryNotFoundError:
            return Unanswered("no such file", "the repository has no such file")
        except DisabledRepoError:
            return Unanswered("gone", f"the repository is disabled ({status})")
        except HfHubHTTPError:
            pass
        if status == 429:
            return Unanswered("limited", "the Hub's rate limit was reached (429)")
        if status == 403:
            return Unanswered("gated", "access refused (403)")
        if status == 401:
            return Unanswered("gone", "gone or private: the Hub answered 401")
        if status in (404, 410):
            return Unanswered("gone", f"gone: the Hub answered {status}")
        return Unanswered("server", f"the Hub answered {status}")

    # ---------------------------------------------------------------------------------------------- small things

    def _refuse_if_stopped(self) -> None:
        if self._stopped.is_set():
            raise Unanswered("stopped", "interrupted")

    def _headers(self, url: str) -> dict[str, str]:
        headers: dict[str, str] = build_hf_headers(token=self.token, library_name="finetune-atlas")
        if urlsplit(url).netloc != urlsplit(self.endpoint).netloc:
            headers.pop("authorization", None)
        return headers

    def _at_endpoint(self, url: str) -> str:
        """``url`` at our endpoint if it is the Hub's own: a mirror's readers may not reach the Hub itself."""
        hub = "https://huggingface.co"
        if url.startswith(hub + "/"):
            url = self.endpoint + url.removeprefix(hub)
        if urlsplit(url).scheme not in ("https", urlsplit(self.endpoint).scheme):
            raise Unanswered("invalid", "redirected to an address that is not https")
        return url


def _parse(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Unanswered("invalid", "the answer is not valid JSON") from error
