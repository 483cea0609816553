"""The MkDocs adapter: load, watch, and add this language's generated pages. All content comes from `render`."""

from __future__ import annotations

import gc
import logging
import shutil
import time
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import jieba
from mkdocs.config.base import Config
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.plugins import BasePlugin, event_priority
from mkdocs.structure.files import File, Files

from .checks import find_problems
from .dataset import INPUTS, Dataset, input_digest, load_dataset
from .live_reload import GeneratedFile, LastBuild, Share, build_changes_only, skip_search
from .records import LANGUAGES, Language
from .render import RENDERING_ERRORS, render, render_shared
from .views.page import Page, compiled, language_prefix
from .views.pages import collect_pages

log = logging.getLogger("mkdocs.plugins.atlas")


class AtlasConfig(Config):
    """The plugin has no options: what it needs is where the repository keeps it."""


class AtlasPlugin(BasePlugin[AtlasConfig]):
    """Adds the guide's pages to a MkDocs build (which mkdocs-static-i18n runs once per language)."""

    def __init__(self) -> None:
        self.dataset: Dataset | None = None
        self.pages: list[Page] = []
        self.digest = ""
        self.shared: dict[str, bytes] = {}
        self.last = LastBuild()
        self.built: dict[Language, tuple[Share, Mapping[str, bytes]]] = {}
        self.started_ns = 0
        self.again: Path | None = None
        """While serving: a watched file; touching it asks for one more build."""

    def on_startup(self, *, command: Literal["build", "gh-deploy", "serve"], dirty: bool) -> None:
        """Defined so that MkDocs keeps this object, and the loaded dataset with it, between rebuilds of `serve`."""
        if command == "build":
            gc.set_threshold(200_000, 20, 100)  # a build makes little garbage in circles and then ends
        remember_words()

    def on_config(self, config: MkDocsConfig) -> MkDocsConfig:
        """Runs first in each pass: load what changed, refuse what is broken."""
        root = Path(config.config_file_path).parent
        watched = [str(root / folder) for folder in (*INPUTS, "generator/views/templates", "generator/theme")]
        config.watch.extend(folder for folder in watched if folder not in config.watch and Path(folder).is_dir())
        digest = input_digest(root)
        if digest != self.digest:
            dataset, problems = load_dataset(root)
            problems = problems or find_problems(dataset, quick=True)
            if problems:
                raise PluginError("\n" + "\n".join(map(str, problems)))
            self.dataset, self.digest = dataset, digest
            self.pages = collect_pages(dataset)
            self.shared = dict(render_shared(dataset))
        self.last.keep_frame(root)
        i18n: Any = config.plugins["i18n"]
        if not i18n.building:  # the first language's pass
            self.started_ns = time.time_ns()
        if self.again:
            skip_search(config.plugins["material/search"])
        return config

    @event_priority(-200)  # after mkdocs-static-i18n (-100), which cannot digest files that exist only in memory
    def on_files(self, files: Files, *, config: MkDocsConfig) -> Files:
        """Add the generated pages of the language of this pass."""
        assert self.dataset is not None
        i18n: Any = config.plugins["i18n"]
        language: Language = i18n.current_language
        share = self.last.share_out(language, self.pages, Path(config.config_file_path).parent)
        try:
            contents, _ = render(self.dataset, language, share.now, [page.path for page in self.pages])
        except RENDERING_ERRORS as error:
            raise PluginError(f"{type(error).__name__}: {error}") from error
        self.built[language] = (share, contents)
        old = self.last.pages.get(language, {})
        for page in self.pages:
            content = contents[page.path] if page.path in contents else share.kept[page.path]
            file = generated(config, page.path, content, language, page.edit)
            file.changed = page.path not in old or old[page.path][1] != content
            file.alternates = {
                other: file if other == language else generated(config, page.path, b"", other, None)
                for other in LANGUAGES
            }
            files.append(file)
            i18n.i18n_files_per_language[language].append(file)
        if language == LANGUAGES[0]:
            for path, content in self.shared.items():
                files.append(File.generated(config, path, content=content))
        return files

    def on_env(self, env: Any, *, config: MkDocsConfig, files: Files) -> Any:
        """Compile the theme's templates once, not once per language and build."""
        env.bytecode_cache = compiled("theme")
        return env

    def on_serve(self, server: Any, *, config: MkDocsConfig, builder: Any) -> Any:
        """After the first build of `serve`, build only what changed."""
        self.again = Path(config.site_dir) / ".again"
        self.again.touch()
        server.watch(str(self.again))
        build_changes_only()
        return server

    @event_priority(100)  # before mkdocs-static-i18n builds the next language within the same event
    def on_post_build(self, *, config: MkDocsConfig) -> None:
        """Remember what was built; drop the overrides folder, which MkDocs copies and no reader needs."""
        i18n: Any = config.plugins["i18n"]
        share, contents = self.built.pop(i18n.current_language)
        self.last.remember(i18n.current_language, share, contents)
        if i18n.current_language == LANGUAGES[-1]:
            self.last.started_ns = self.started_ns
            if share.later and self.again:
                self.again.touch()
        shutil.rmtree(Path(config.site_dir) / "partials", ignore_errors=True)


def remember_words() -> None:
    """Let the search plugin cut each run of Chinese characters into words once: its pages hold fifty thousand runs, but
    only three thousand different ones."""
    if not hasattr(jieba.cut, "cache_info"):
        jieba.cut = lru_cache(maxsize=None)(jieba.lcut)


def generated(config: MkDocsConfig, path: str, content: bytes, language: Language, edit: str | None) -> Any:
    """A page that exists only in memory, in its language's folder, with the fields that the i18n plugin reads."""
    file: Any = GeneratedFile.generated(config, path, content=content)
    file.dest_uri = language_prefix(language) + file.dest_uri
    file.locale = language
    file.locale_alternate_of = language
    file.edit_uri = edit
    return file
