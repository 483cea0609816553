"""Answers kept with their ETag, outside the repository, so that an unchanged one is asked for by its ETag only."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from generator.hub.snapshot import write_bytes


@dataclass(frozen=True)
class Kept:
    """One answer as it was: its ETag, its body."""

    etag: str
    body: bytes


@dataclass(frozen=True)
class Cache:
    """A folder of answers, one file each; without a folder it keeps nothing."""

    folder: Path | None

    def entry(self, name: str) -> Path | None:
        """The file that keeps the answer called ``name``."""
        return self.folder / f"{hashlib.sha256(name.encode()).hexdigest()[:40]}.json" if self.folder else None

    def read(self, entry: Path | None) -> Kept | None:
        """The answer in ``entry``; None if there is none or the file is damaged."""
        if entry is None:
            return None
        try:
            kept = json.loads(entry.read_bytes())
            found = Kept(kept["etag"], kept["body"].encode())
            json.loads(found.body)
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None
        return found if isinstance(found.etag, str) else None

    def write(self, entry: Path, kept: Kept) -> None:
        """Keep an answer whose body is UTF-8."""
        content = json.dumps({"etag": kept.etag, "body": kept.body.decode("utf-8")})
        write_bytes(entry, content.encode(), durable=False)
