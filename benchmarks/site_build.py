"""``python -m benchmarks.site_build [--rounds N]``: seconds of a site build, beside a bare Material build.

The bare build takes the Markdown that ``generator build --pages`` writes, one plain MkDocs project per language with
the same theme, menu, Markdown extensions, search and assets, and nothing of this product: no plugin, no template
override, no check. The ratio is what the guide adds to its site generator. Builds alternate and the least of each
counts, since whatever else runs on the machine only adds time; processor seconds are given too, which it disturbs less.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from generator.dataset import load_dataset
from generator.records import LANGUAGES
from generator.render import write_pages

ROOT = Path(__file__).parents[1]
KEPT = ("site_url", "nav", "markdown_extensions", "extra_css", "extra_javascript", "validation", "not_in_nav")


class SettingsLoader(yaml.SafeLoader):
    """Reads mkdocs.yml, environment tags as null."""


SettingsLoader.add_multi_constructor("!", lambda loader, suffix, node: None)


def write_bare_project(folder: Path, pages: Path, language: str) -> Path:
    """A MkDocs project of one language's pages in `folder`; returns its settings file."""
    settings = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), SettingsLoader)
    bare = {key: settings[key] for key in KEPT if settings.get(key)}
    bare["site_name"] = "bare"
    bare["theme"] = {key: value for key, value in settings["theme"].items() if key not in ("custom_dir", "logo")}
    bare["theme"]["language"] = language
    search = next(plugin["search"] for plugin in settings["plugins"] if isinstance(plugin, dict) and "search" in plugin)
    search = {key: value for key, value in search.items() if key != "jieba_dict_user"}
    bare["plugins"] = [{"search": search}]
    docs = folder / "docs"
    docs.mkdir(parents=True)
    source = pages if language == LANGUAGES[0] else pages / language
    skipped = {pages / name for name in (*LANGUAGES[1:], "api", "assets")} if source == pages else set()
    for entry in source.iterdir():
        if entry not in skipped:
            (docs / entry.name).symlink_to(entry)
    (docs / "assets").symlink_to(ROOT / "docs" / "assets")
    path = folder / "mkdocs.yml"
    path.write_text(yaml.safe_dump(bare, allow_unicode=True), encoding="utf-8")
    return path


def time_command(*words: str) -> tuple[float, float]:
    """Seconds of a Python module's command, elapsed and of processors. Raises CalledProcessError when it fails."""
    begin, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    subprocess.run([sys.executable, "-m", *words], cwd=ROOT, env=environment, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - begin, processor


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dataset, _ = load_dataset(ROOT)
        files = write_pages(dataset, folder / "pages")
        projects = [write_bare_project(folder / language, folder / "pages", language) for language in LANGUAGES]
        ours: list[tuple[float, float]] = []
        bare: list[tuple[float, float]] = []
        checked: list[tuple[float, float]] = []
        for number in range(rounds):
            out = str(folder / f"site-{number}")
            ours.append(time_command("mkdocs", "build", "--strict", "--quiet", "--site-dir", out))
            both = [
                time_command("mkdocs", "build", "--quiet", "-f", str(path), "--site-dir", f"{out}-{path.parent.name}")
                for path in projects
            ]
            bare.append((sum(elapsed for elapsed, _ in both), sum(processor for _, processor in both)))
            checked.append(time_command("generator", "check"))
    result: dict[str, object] = {"files": files, "rounds": rounds, "python": platform.python_version()}
    for index, kind in enumerate(("seconds", "processor_seconds")):
        least = {name: min(t[index] for t in times) for name, times in (("build", ours), ("bare", bare))}
        result[kind] = {
            **{name: round(value, 1) for name, value in least.items()},
            "ratio": round(least["build"] / least["bare"], 3),
            "check": round(min(t[index] for t in checked), 1),
        }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
