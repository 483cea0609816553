"""The commands ``refresh`` and ``add``: arguments, progress, exit codes."""

from __future__ import annotations

import argparse
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from generator.architecture import count_active_parameters, count_parameters
from generator.catalog import load_catalog
from generator.hub.discovered import FOLDER, forget
from generator.hub.draft import draft_entry, draft_family, format_entry, format_stub
from generator.hub.snapshot import read_snapshot, write_bytes, write_facts


def register(commands: Any) -> None:
    """Add both commands to the command line's sub-parsers."""
    command = commands.add_parser(
        "refresh",
        help="read every model's facts from the Hub into catalog/hub",
        description="Honours HF_ENDPOINT and HF_TOKEN. Exit codes: 0 every model read; 1 catalog/hub holds an invalid "
        "file, nothing asked; 3 some models not read, their old facts stay, marked stale; 4 no answer from the Hub, "
        "nothing written; 130 interrupted, what was read is written (nothing with --discover).",
    )
    command.add_argument("--only", nargs="+", metavar="ID", help="Hub ids to read (default: all of the catalog)")
    command.add_argument("--jobs", type=int, default=8, help="requests at a time (default %(default)s)")
    command.add_argument("--dry-run", action="store_true", help="show what would change, write nothing")
    command.add_argument("--report", type=Path, metavar="FILE", help="also write the changes as Markdown")
    command.add_argument("--cache", type=Path, default=_cache(), help="folder for answers and ETags")
    command.add_argument("--discover", action="store_true", help="look for new models that the catalog lacks instead")
    command.add_argument(
        "--most", type=int, default=40, metavar="N", help="with --discover: models to list (default 40)"
    )
    command.set_defaults(run=run_refresh)

    command = commands.add_parser(
        "add",
        help="read one model from the Hub and write its catalog entry",
        description="Honours HF_ENDPOINT and HF_TOKEN. Exit codes: 0 record and entry written; 1 catalog/hub holds an "
        "invalid file; 2 no Hub id, or listed already; 3 not read, nothing written (a gated model is written "
        "without its config.json).",
    )
    command.add_argument("id", metavar="ID", help="Hub id, such as Qwen/Qwen3-8B")
    command.add_argument("--why-zh", default="", help="one line in Chinese: why it is listed")
    command.add_argument("--why-en", default="", help="one line in English: why it is listed")
    command.add_argument("--cache", type=Path, default=_cache(), help="folder for answers and ETags")
    command.set_defaults(run=run_add)


def run_refresh(arguments: argparse.Namespace) -> int:
    """Refresh, print what changed, return the exit code."""
    from rich.console import Console
    from rich.progress import Progress

    from generator.hub.client import HubClient
    from generator.hub.difference import format_changes, format_markdown
    from generator.hub.refresh import refresh

    if arguments.discover:
        return run_discover(arguments)
    catalog, _ = load_catalog(arguments.root)
    folder = arguments.root / "catalog" / "hub"
    listed = sorted({model.hub_id for model in catalog.models.values()})
    ids = arguments.only or sorted({*listed, *read_snapshot(folder)[0]}, key=str.lower)
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("models", total=len(ids))
        summary = refresh(
            folder,
            ids,
            HubClient(cache=arguments.cache),
            today=datetime.now(UTC).date(),
            count=count_parameters,
            count_active=count_active_parameters,
            jobs=arguments.jobs,
            dry_run=arguments.dry_run,
            listed=listed,
            progress=lambda hub_id: bar.advance(task),
        )
    for problem in summary.problems:
        print(problem)
    if summary.changes:
        print(format_changes(summary.changes))
    for hub_id, reason in summary.unread.items():
        print(f"{hub_id}: not read: {reason}", file=sys.stderr)
    print(summary.line(), file=sys.stderr)
    if arguments.report:
        write_bytes(arguments.report, format_markdown(summary.changes, summary.line()).encode())
    return summary.exit_code


def run_discover(arguments: argparse.Namespace) -> int:
    """Search for new models, print them, return the exit code."""
    from generator.hub.client import HubClient
    from generator.hub.discovery import discover, format_report

    catalog, _ = load_catalog(arguments.root)
    try:
        search = discover(
            arguments.root / FOLDER,
            sorted({model.hub_id for model in catalog.models.values()}),
            HubClient(cache=arguments.cache),
            today=datetime.now(UTC).date(),
            count=count_parameters,
            count_active=count_active_parameters,
            stub=lambda facts: format_stub(facts, catalog),
            most=arguments.most,
            jobs=arguments.jobs,
            dry_run=arguments.dry_run,
        )
    except KeyboardInterrupt:
        print("interrupted, nothing written", file=sys.stderr)
        return 130
    for problem in search.problems:
        print(problem)
    for model in search.found.models if search.found else ():
        mark = "new" if model.facts.hub_id in search.news else f"listed since {model.first_seen}"
        print(f"{model.facts.hub_id}: {', '.join(model.notable)}; {mark}")
    for name, reason in search.unread.items():
        print(f"{name}: not read: {reason}", file=sys.stderr)
    print(search.line(), file=sys.stderr)
    if arguments.report:
        write_bytes(arguments.report, format_report(search).encode())
    return search.exit_code


def run_add(arguments: argparse.Namespace) -> int:
    """Read one model and write its record and its catalog entry: both, or nothing."""
    from generator.hub.border import HUB_ID
    from generator.hub.client import HubClient
    from generator.hub.refresh import read_model

    hub_id = arguments.id
    if not HUB_ID.fullmatch(hub_id):
        print(f"{hub_id!r} is not a Hub id such as Qwen/Qwen3-8B", file=sys.stderr)
        return 2
    catalog, _ = load_catalog(arguments.root)
    folder = arguments.root / "catalog" / "hub"
    snapshot, problems = read_snapshot(folder)
    if problems:
        print(*problems, sep="\n")
        return 1
    client = HubClient(cache=arguments.cache)
    for _ in range(2):  # the second time under the id that a renamed model has today
        if any(model.hub_id.lower() == hub_id.lower() for model in catalog.models.values()):
            print(f"{hub_id} is in the catalog already", file=sys.stderr)
            return 2
        facts, reason = read_model(
            hub_id, snapshot.get(hub_id), client, today=datetime.now(UTC).date(), count=count_parameters,
            count_active=count_active_parameters,
        )  # fmt: skip
        if facts is None or facts.renamed_to is None:
            break
        print(f"{hub_id} is {facts.renamed_to} today")
        hub_id = facts.renamed_to
    if facts is None or (reason is not None and not facts.gated):
        print(f"{hub_id}: not read: {reason}; nothing written", file=sys.stderr)
        return 3
    if reason is not None:  # the files of a gated model stay closed to who has not asked for access
        print(f"{hub_id}: {reason}; HF_TOKEN of an account that was granted access opens it", file=sys.stderr)
    entry = draft_entry(facts, catalog, arguments.why_zh, arguments.why_en)
    path = arguments.root / "catalog" / "models" / f"{entry['id']}.yaml"
    if path.exists():
        print(f"{path} exists already and stays as it is", file=sys.stderr)
        return 2
    write_facts(folder, facts)
    if entry["family"] and entry["family"] not in catalog.families:
        family = draft_family(facts)
        where = arguments.root / "catalog" / "families" / f"{family['id']}.yaml"
        write_bytes(where, format_entry({k: v for k, v in family.items() if k != "id"}).encode())
        print(f"wrote {where}: say there what this family is")
    write_bytes(path, format_entry({k: v for k, v in entry.items() if k != "id"}).encode())
    forget(arguments.root / FOLDER, facts.hub_id)
    print(f"wrote {path}")
    if not entry["family"]:
        print("`family` is empty: transformers does not know this architecture; `python -m generator check` says where")
    if not (arguments.why_zh and arguments.why_en):
        print("its `why` only repeats the facts: say in zh and en what is true of this model alone")
    return 3 if reason else 0


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "finetune-atlas" / "hub"
