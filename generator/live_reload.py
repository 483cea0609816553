"""Quick rebuilds while `mkdocs serve` runs: a save builds the pages whose text it changed, and no others.

MkDocs knows "dirty" builds, which skip files that are older than their output. Generated pages have no age, so they say
themselves whether they changed: their Markdown is compared with that of the last build. The frame around the pages
(settings, theme, templates) is watched as a whole; when it changes, everything is built again. The search index stays
that of the first build.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mkdocs.commands import build as mkdocs_build
from mkdocs.structure.files import File

from .records import Language
from .views.page import Page

FRAME = ("mkdocs.yml", "generator/theme", "generator/views/templates")
"""What every page depends on besides its data, relative to the repository root."""
SOON = 24
"""Pages that one rebuild takes at once, per language; more are split into the edited page and the rest."""


@dataclass(frozen=True)
class Share:
    """What one build does with the pages of a language: `now` is rendered, `kept` is Markdown of the last build."""

    now: list[Page]
    kept: Mapping[str, bytes]
    later: bool
    """Whether some of `kept` is out of date and waits for the next build."""


@dataclass
class LastBuild:
    """What the process built last: pages with their Markdown, by language and path."""

    frame: str = ""
    started_ns: int = 0
    pages: dict[Language, dict[str, tuple[Page, bytes]]] = field(default_factory=dict)

    def keep_frame(self, root: Path) -> None:
        """Forget everything if settings, theme or templates were edited since."""
        frame = frame_digest(root)
        if frame != self.frame:
            self.frame = frame
            self.pages.clear()

    def share_out(self, language: Language, pages: Sequence[Page], root: Path) -> Share:
        """Which pages to render. Where a save touches many, the pages of the saved file itself come first and the rest
        with the next build, so that what a contributor edits is there within seconds.
        """
        old = self.pages.get(language, {})
        moved = old.keys() != {page.path for page in pages}
        changed = [page for page in pages if moved or page.path not in old or old[page.path][0] != page]
        now = changed
        if old and len(changed) > SOON:
            now = [p for p in changed if p.path not in old or self.was_saved(root, p)] or changed
        skipped = {page.path for page in pages} - {page.path for page in now}
        return Share(now, {path: old[path][1] for path in skipped}, len(now) < len(changed))

    def was_saved(self, root: Path, page: Page) -> bool:
        """Whether the page's own source file was written since the last build began."""
        source = root / page.edit if page.edit else None
        return source is not None and source.is_file() and source.stat().st_mtime_ns > self.started_ns

    def remember(self, language: Language, share: Share, contents: Mapping[str, bytes]) -> None:
        """Keep what was built; pages left for later keep the state that the next build compares with."""
        old = self.pages.get(language, {})
        self.pages[language] = {path: old[path] for path in share.kept} | {
            page.path: (page, contents[page.path]) for page in share.now
        }


class GeneratedFile(File):
    """A page that exists only in memory, and knows whether it differs from the last build's."""

    changed = True

    def is_modified(self) -> bool:
        return self.changed


class _DirtyWarning(logging.Filter):
    """MkDocs warns that a dirty build may miss changes; this one does not."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "A 'dirty' build is being performed" not in record.getMessage()


def build_changes_only() -> None:
    """From here on the builds of this process skip what did not change; for `serve`, after its first build."""
    import mkdocs_static_i18n.plugin as i18n
    from mkdocs.commands import serve as mkdocs_serve

    def build_changes(config: Any, *, serve_url: str | None = None, dirty: bool = False) -> None:
        mkdocs_build.build(config, serve_url=serve_url, dirty=True)

    setattr(mkdocs_serve, "build", build_changes)  # noqa: B010  (the module does not export what it calls)
    i18n.build = build_changes
    logging.getLogger("mkdocs.commands.build").addFilter(_DirtyWarning())


def skip_search(search: Any) -> None:
    """Leave the search index of the first build as it is."""
    search.config.enabled = False
    if hasattr(search, "search_index"):
        search.search_index.entries.clear()


def frame_digest(root: Path) -> str:
    """Digest of names, sizes and change times of the frame's files."""
    digest = hashlib.blake2b(digest_size=16)
    for name in FRAME:
        top = root / name
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            if path.is_file():
                stat = path.stat()
                digest.update(f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()
