"""The MkDocs adapter: load, watch, and add this language's generated pages. All content comes from `render`."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any, Literal

from mkdocs.config.base import Config
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.plugins import BasePlugin, event_priority
from mkdocs.structure.files import File, Files

from .checks import find_problems
from .dataset import INPUTS, Dataset, input_digest, load_dataset
from .records import LANGUAGES, Language
from .render import render, render_shared
from .views.page import Page, language_prefix
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

    def on_startup(self, *, command: Literal["build", "gh-deploy", "serve"], dirty: bool) -> None:
        """Defined so that MkDocs keeps this object, and the loaded dataset with it, between rebuilds of `serve`."""

    def on_config(self, config: MkDocsConfig) -> MkDocsConfig:
        """Runs first in each pass: load what changed, refuse what is broken."""
        root = Path(config.config_file_path).parent
        watched = [str(root / folder) for folder in (*INPUTS, "generator/views/templates")]
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
        return config

    @event_priority(-200)  # after mkdocs-static-i18n (-100), which cannot digest files that exist only in memory
    def on_files(self, files: Files, *, config: MkDocsConfig) -> Files:
        """Add the generated pages of the language of this pass."""
        assert self.dataset is not None
        i18n: Any = config.plugins["i18n"]
        language: Language = i18n.current_language
        try:
            contents, by_path = render(self.dataset, language, self.pages)
        except (ValueError, LookupError) as error:
            raise PluginError(f"{type(error).__name__}: {error}") from error
        for path, content in contents.items():
            page = by_path[path]
            file = generated(config, path, content, language, page.edit)
            file.alternates = {
                other: file if other == language else generated(config, path, b"", other, None) for other in LANGUAGES
            }
            files.append(file)
            i18n.i18n_files_per_language[language].append(file)
        if language == LANGUAGES[0]:
            for path, content in self.shared.items():
                files.append(File.generated(config, path, content=content))
        return files

    def on_post_build(self, *, config: MkDocsConfig) -> None:
        """MkDocs copies theme files it finds beside templates; the overrides folder holds none that a reader needs."""
        shutil.rmtree(Path(config.site_dir) / "partials", ignore_errors=True)


def generated(config: MkDocsConfig, path: str, content: bytes, language: Language, edit: str | None) -> Any:
    """A page that exists only in memory, in its language's folder, with the fields that the i18n plugin reads."""
    file: Any = File.generated(config, path, content=content)
    file.dest_uri = language_prefix(language) + file.dest_uri
    file.locale = language
    file.locale_alternate_of = language
    file.edit_uri = edit
    return file
