"""``python -m generator {serve|build|check|changes|refresh|add|plan|estimate|fit|accuracy|trace|distil}``: arguments.

Exit codes: 0 done, 1 the inputs have problems (printed one per line), 2 wrong usage; `refresh` documents its own.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import chdir
from datetime import datetime
from pathlib import Path

from click import ClickException

from .accuracy import register as register_accuracy
from .calibrate import register as register_fit
from .checks import find_all_problems, find_problems
from .dataset import BrokenInputs, load_dataset
from .distil import register as register_distil
from .estimate_command import register as register_estimate
from .hub.commands import register as register_hub
from .plan import register as register_plan
from .records import Problem
from .render import write_pages
from .result_changes import register as register_changes
from .trace import register as register_trace

ROOT = Path(__file__).parents[1]


def report(problems: Sequence[Problem], github: bool = False) -> int:
    """Print every problem, one a line; returns the exit code."""
    for problem in problems:
        if github:
            place = f"file={problem.file},line={max(problem.line, 1)},col={max(problem.column, 1)}"
            print(f"::error {place}::{problem.field}: {problem.reason}".replace("\r", "%0D").replace("\n", "%0A"))
        else:
            print(problem)
    return 1 if problems else 0


def check(arguments: argparse.Namespace) -> int:
    """Run every rule over the inputs."""
    dataset, problems = load_dataset(arguments.root)
    problems = find_all_problems(dataset, problems)
    code = report(problems, arguments.github)
    kinds = dataset.catalog
    print(
        f"{len(problems)} problems in {len(kinds.models)} models, {len(kinds.gpus)} GPUs, "
        f"{len(dataset.hub)} Hub records, {len(dataset.runs)} runs",
        file=sys.stderr,
    )
    return code


def build(arguments: argparse.Namespace) -> int:
    """Check, then build the site with MkDocs, or write the pages as plain files."""
    dataset, problems = load_dataset(arguments.root)
    problems = problems or find_problems(dataset, rendering=bool(arguments.pages))
    if problems:
        return report(problems)
    if arguments.pages:
        print(f"{write_pages(dataset, arguments.pages)} files in {arguments.pages}")
        return 0
    code = build_site(arguments.root, arguments.site.resolve(), dataset.data_date)
    if code:  # the build stops at the first page that fails: name them all
        report(find_problems(dataset))
    return code


def build_site(root: Path, site: Path, day: str) -> int:
    """Run a strict MkDocs build in this process, which has read the inputs already; returns the exit code.

    ``day`` (YYYY-MM-DD) stamps the sitemap with the data's date, so that a rebuild changes nothing.
    """
    stamp = f"{datetime.fromisoformat(day + 'T00:00:00+00:00').timestamp():.0f}"
    os.environ.setdefault("SOURCE_DATE_EPOCH", stamp)
    os.environ["NO_MKDOCS_2_WARNING"] = "1"  # the theme's end-of-life banner is known
    from mkdocs.__main__ import cli

    words = ["build", "--strict", "--site-dir", str(site), "--config-file", str(root / "mkdocs.yml")]
    with chdir(root):
        try:
            cli.main(words, prog_name="mkdocs", standalone_mode=False)
        except SystemExit as stopped:
            return int(stopped.code or 0)
        except ClickException as error:
            error.show()
            return error.exit_code
    return 0


def serve(arguments: argparse.Namespace) -> int:
    """Serve both languages with live reload."""
    command = [sys.executable, "-m", "mkdocs", "serve", "--livereload", "--dev-addr", arguments.address]
    command += ["--config-file", str(arguments.root / "mkdocs.yml")]
    server = subprocess.Popen(command, cwd=arguments.root, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"})
    terminate = signal.signal(signal.SIGTERM, lambda *_: server.terminate())  # else it would outlive this process
    try:
        return server.wait()
    except KeyboardInterrupt:
        server.wait()
        return 130
    finally:
        signal.signal(signal.SIGTERM, terminate)


def parser() -> argparse.ArgumentParser:
    """The command line, with every command's help."""
    top = argparse.ArgumentParser(prog="python -m generator", description=(__doc__ or "").splitlines()[0])
    top.add_argument("--root", type=Path, default=ROOT, help="repository root (default: this checkout)")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("serve", help="serve the guide with live reload of both languages")
    command.add_argument("--address", default="127.0.0.1:8000", help="host:port (default %(default)s)")
    command.set_defaults(run=serve)

    command = commands.add_parser("build", help="check everything, then build the site into site/")
    command.add_argument("--site", type=Path, default=ROOT / "site", help="output folder (default: site/)")
    command.add_argument("--pages", type=Path, metavar="DIR", help="write the pages and the JSON API to DIR instead")
    command.set_defaults(run=build)

    command = commands.add_parser("check", help="list every problem of the catalog, the snapshot and the results")
    command.add_argument("--github", action="store_true", help="print GitHub annotations")
    command.set_defaults(run=check)

    register_estimate(commands)
    register_fit(commands)
    register_accuracy(commands)
    register_plan(commands)
    register_changes(commands)
    register_trace(commands)
    register_distil(commands)
    register_hub(commands)
    return top


def main(words: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    arguments = parser().parse_args(words)
    try:
        result: int = arguments.run(arguments)
    except BrokenInputs as broken:
        return report(broken.problems)
    return result
