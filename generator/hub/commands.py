"""The commands ``refresh`` and ``add``: arguments, progress, exit codes."""

from __future__ import annotations

import argparse
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from generator.architecture import count_active_parameters, count_parameters
from generator.catalog import Catalog, load_catalog
from generator.hub.snapshot import read_snapshot, write_bytes
from generator.records import HubFacts


def register(commands: Any) -> None:
    """Add both commands to the command line's sub-parsers."""
    command = commands.add_parser(
        "refresh",
        help="read every model's facts from the Hub into catalog/hub",
        description="Honours HF_ENDPOINT and HF_TOKEN. Exit codes: 0 every model read; 1 catalog/hub holds an invalid "
        "file, nothing asked; 3 some models not read, their old facts stay, marked stale; 4 no answer from the Hub, "
        "nothing written; 130 interrupted, what was read is written.",
    )
    command.add_argument("--only", nargs="+", metavar="ID", help="Hub ids to read (default: all of the catalog)")
    command.add_argument("--jobs", type=int, default=8, help="requests at a time (default %(default)s)")
    command.add_argument("--dry-run", action="store_true", help="show what would change, write nothing")
    command.add_argument("--report", type=Path, metavar="FILE", help="also write the changes as Markdown")
    command.add_argument("--cache", type=Path, default=_cache(), help="folder for answers and ETags")
    command.set_defaults(run=run_refresh)

    command = commands.add_parser("add", help="read one model from the Hub and write its catalog entry")
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


def run_add(arguments: argparse.Namespace) -> int:
    """Read one model and write its record and its catalog entry."""
    from generator.hub.border import HUB_ID
    from generator.hub.client import HubClient
    from generator.hub.refresh import refresh

    if not HUB_ID.fullmatch(arguments.id):
        print(f"{arguments.id!r} is not a Hub id such as Qwen/Qwen3-8B", file=sys.stderr)
        return 2
    catalog, _ = load_catalog(arguments.root)
    if any(model.hub_id.lower() == arguments.id.lower() for model in catalog.models.values()):
        print(f"{arguments.id} is in the catalog already", file=sys.stderr)
        return 2
    folder = arguments.root / "catalog" / "hub"
    summary = refresh(
        folder,
        [arguments.id],
        HubClient(cache=arguments.cache),
        today=datetime.now(UTC).date(),
        count=count_parameters,
        count_active=count_active_parameters,
    )
    facts = read_snapshot(folder)[0].get(arguments.id)
    if facts is None:
        print(*summary.problems, *summary.unread.values(), sep="\n", file=sys.stderr)
        return summary.exit_code or 3
    entry = draft_entry(facts, catalog, arguments.why_zh, arguments.why_en)
    name = facts.hub_id.split("/")[1].lower()
    path = arguments.root / "catalog" / "models" / f"{name}.yaml"
    if path.exists():
        print(f"{path} exists already and stays as it is", file=sys.stderr)
        return 2
    write_bytes(path, yaml.safe_dump(entry, sort_keys=False, allow_unicode=True, width=1000).encode())
    print(f"wrote {path}")
    if not (arguments.why_zh and arguments.why_en and entry["family"]):
        print("fill in the empty fields; `python -m generator check` names each of them until then")
    return summary.exit_code


def draft_entry(facts: HubFacts, catalog: Catalog, why_zh: str, why_en: str) -> dict[str, Any]:
    """A catalog entry from what the Hub says. What only a person can say stays empty, which ``check`` refuses."""
    name = facts.hub_id.split("/")[1]
    words = name.lower()
    kind = (facts.config or {}).get("model_type")
    family = next((id_ for id_, entry in catalog.families.items() if kind in entry.model_types), "")
    licence = next((id_ for id_, entry in catalog.licences.items() if facts.licence in (id_, *entry.hub_names)), None)
    if "code" in words:
        variant = "code"
    elif any(word in words for word in ("think", "reason", "-r1")):
        variant = "reasoning"
    else:
        variant = "chat" if any(word in words for word in ("instruct", "chat", "-it")) else "base"
    return {
        "id": words,
        "hub_id": facts.hub_id,
        "name": name,
        "family": family,
        "variant": variant,
        "status": "current",
        "released": facts.created,
        "licence": licence,
        "languages": facts.languages,
        "why": {"zh": why_zh, "en": why_en},
    }


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "finetune-atlas" / "hub"
