"""``python -m generator plan``: which cells are worth measuring next, as the JSON Lines that the harness reads.

Order of worth: models just discovered on the Hub, cells without a result, stale results (older than so many months, or
taken with another version of the recipes), contradictory results (two results of one cell disagree, or a result lies
outside the interval of its estimate). Within a class the most informative cell of every model comes before the second
of any, and much downloaded models come first, so that a queue cut off anywhere is balanced.

Each line has every field of a cell of ``measurements/cells.py``; nothing of the catalog is needed to measure it. The
hold-out is drawn as the harness draws it, by the digest of the cell. Whether a held-out result agrees with its
estimate is never asked here: measuring those again that disagree would bend the test.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Literal

from .accuracy import locate
from .estimate import NotEstimable, evaluate
from .estimate_answer import Estimator, case_key
from .records import Case, HubFacts, Run, slug

Reason = Literal["discovered", "missing", "stale", "contradictory"]
REASONS: tuple[Reason, ...] = ("discovered", "missing", "stale", "contradictory")
STALE_MONTHS = 6
HELD_OUT_SHARE = 4
"""One cell in so many is set aside, as in the harness's own campaign."""
MEMORY_AGREES, SPEED_AGREES = 0.01, 0.1
"""Relative difference of two results of one cell above which they contradict each other."""
WITH_ADAPTERS = ("lora", "qlora", "lora_8bit", "dora")

# The cells of a model, most informative first: (recipe, method, micro-batch, seq_len, checkpointing, min_cap).
GRID: tuple[tuple[str, str, int, int, bool, bool], ...] = (
    ("stock", "qlora", 1, 1024, True, True),
    ("stock", "lora", 4, 2048, True, False),
    ("lean", "qlora", 4, 2048, True, False),
    ("lean", "full_bf16_adam8bit", 1, 1024, True, True),
    ("stock", "full", 4, 1024, True, False),
    ("lean", "lora", 1, 4096, True, False),
    ("stock", "qlora", 1, 4096, True, False),
    ("stock", "lora", 1, 1024, False, False),
    ("stock", "prompt_tuning", 2, 1024, True, False),
    ("lean", "full", 1, 1024, True, False),
    ("stock", "full_bf16_adam8bit", 4, 1024, True, False),
    ("lean", "qlora", 1, 1024, False, False),
)


@dataclass(frozen=True)
class Wish:
    """One cell to measure, and why."""

    hub_id: str
    case: Case
    reason: Reason
    min_cap: bool = False
    repeat: int = 0

    def line(self) -> dict[str, Any]:
        """The plan line: every field of the harness's ``Cell``, in its order."""
        adapters = self.case.method in WITH_ADAPTERS
        targets = self.case.lora_targets
        line: dict[str, Any] = {
            "model": self.hub_id, "recipe": self.case.recipe, "method": self.case.method,
            "micro_batch": self.case.micro_batch, "seq_len": self.case.seq_len,
            "gradient_checkpointing": self.case.gradient_checkpointing,
            "lora_rank": self.case.lora_rank if adapters else None,
            "lora_targets": (targets if isinstance(targets, str) else list(targets)) if adapters else None,
            "gpu_count": 1, "sharding": None, "repeat": self.repeat,
        }  # fmt: skip
        return {**line, "min_cap": self.min_cap, "holdout_kind": draw_holdout(line), "depths": None}


def draw_holdout(knobs: Mapping[str, Any]) -> str | None:
    """ "cell" for one cell in four, by the digest of what identifies it; a repeat goes with its first measurement."""
    base = {**knobs, "repeat": 0}
    text = json.dumps(base, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return "cell" if int(hashlib.sha256(text.encode()).hexdigest(), 16) % HELD_OUT_SHARE == 0 else None


def wanted_cells(hub_id: str, context_length: int | None) -> list[tuple[Case, bool]]:
    """The grid of one model, without what is longer than it can read: (case, with min_cap)."""
    found: list[tuple[Case, bool]] = []
    for recipe, method, micro_batch, seq_len, checkpointing, min_cap in GRID:
        length = min(seq_len, context_length or seq_len)
        case = Case(
            recipe=recipe, method=method, micro_batch=micro_batch, seq_len=length, gradient_checkpointing=checkpointing  # type: ignore[arg-type]
        )  # fmt: skip
        if all(case != other for other, _ in found):
            found.append((case, min_cap))
    return found


def current_recipe(runs: Iterable[Run]) -> str | None:
    """Hash of the recipe code of the newest results (of several that day: the most frequent)."""
    hashes = [(run.date, str(run.environment["recipe_hash"])) for run in runs if run.environment.get("recipe_hash")]
    if not hashes:
        return None
    newest = max(day for day, _ in hashes)
    counts = Counter(name for day, name in hashes if day == newest)
    return min(counts, key=lambda name: (-counts[name], name))


def is_stale(run: Run, today: date, months: int, recipe: str | None) -> bool:
    """Older than ``months``, or taken with recipe code other than ``recipe``."""
    age = (today.year - run.date.year) * 12 + today.month - run.date.month
    if today.day < run.date.day:
        age -= 1
    own = run.environment.get("recipe_hash")
    return age >= months or (recipe is not None and own is not None and own != recipe)


def disagree(runs: Sequence[Run]) -> bool:
    """Whether results of one cell differ by more than repeated measurements should.

    Speeds are asked only where the card set the pace: the others say more about the machine around it.
    """
    for field, most in (("peak_allocated_bytes", MEMORY_AGREES), ("tokens_per_second", SPEED_AGREES)):
        asked = runs if field == "peak_allocated_bytes" else [run for run in runs if run.paced_by == "gpu"]
        values = [value for run in asked if (value := getattr(run, field))]
        if len(values) > 1 and max(values) > min(values) * (1 + most):
            return True
    return False


def outside_interval(estimator: Estimator, run: Run) -> bool:
    """Whether a run that is not held out lies outside the interval that the formula alone gives for it."""
    if run.holdout or not run.peak_allocated_bytes or run.gpu_count != 1 or not estimator.knows(run.hub_id, run.case):
        return False
    entry, architecture, cell = locate(estimator.table, run)
    value = evaluate(entry, architecture, cell, run.case).allocated
    low, high = entry.bands[("estimated", "interpolated", "closed")[cell.basis]]["allocated"]
    return not value * low <= run.peak_allocated_bytes <= value * high


def make_plan(
    estimator: Estimator,
    facts: Mapping[str, HubFacts],
    runs: Sequence[Run],
    gpu: str,
    usable_bytes: float,
    *,
    discovered: Sequence[str] = (),
    today: date,
    stale_months: int = STALE_MONTHS,
    recipe: str | None = None,
) -> list[Wish]:
    """Everything worth measuring on ``gpu``, best first. ``discovered``: Hub ids in the order they should come in.

    A model whose architecture has no coefficients gets no cell (nothing could size it), nor does a cell whose
    estimate needs more than ``usable_bytes``. ``recipe``: hash of the recipe code, by default that of the newest runs.
    """
    recipe = recipe or current_recipe(runs)
    here = [run for run in runs if run.gpu == gpu and run.gpu_count == 1]
    results: dict[Any, list[Run]] = {}
    for run in sorted(here, key=lambda run: (run.date, run.repeat, run.id)):
        results.setdefault(case_key(run.hub_id, run.case, gpu), []).append(run)
    order = {hub_id: place for place, hub_id in enumerate(discovered)}
    ranked: list[tuple[tuple[Any, ...], Wish]] = []
    for hub_id in choose_representatives(estimator, facts, runs, order):
        fact = facts[hub_id]
        for place, (case, min_cap) in enumerate(wanted_cells(hub_id, fact.context_length)):
            if case_key(hub_id, case, gpu) in results or not _possible(estimator, hub_id, case, usable_bytes):
                continue
            reason: Reason = "discovered" if hub_id in order else "missing"
            rank = (REASONS.index(reason), order.get(hub_id, 0), place, -(fact.downloads or 0), hub_id)
            ranked.append((rank, Wish(hub_id, case, reason, min_cap)))
    for members in results.values():
        last = members[-1]
        if last.status == "skipped":
            continue
        if is_stale(last, today, stale_months, recipe):
            reason, weight = "stale", last.date.toordinal()
        elif last.status == "ok" and (disagree(members[-2:]) or outside_interval(estimator, last)):
            reason, weight = "contradictory", len(members)
        else:
            continue
        wish = Wish(last.hub_id, last.case, reason, last.min_cap_bytes is not None, max(m.repeat for m in members) + 1)
        ranked.append(((REASONS.index(reason), 0, weight, 0, last.hub_id, str(last.case)), wish))
    return [wish for _, wish in sorted(ranked, key=lambda pair: pair[0])]


def choose_representatives(
    estimator: Estimator, facts: Mapping[str, HubFacts], runs: Iterable[Run], order: Mapping[str, int]
) -> list[str]:
    """One model of every shape: memory and speed depend on nothing else, so its results stand for its twins.

    The one with results, else the one that is to come first, else the most downloaded.
    """
    measured = {run.hub_id for run in runs}
    best: dict[int, tuple[bool, int, int, str]] = {}
    for hub_id, fact in facts.items():
        shape = estimator.table.models.get(hub_id)
        if shape is None:
            continue
        rank = (hub_id not in measured, order.get(hub_id, len(order)), -(fact.downloads or 0), hub_id)
        best[shape] = min(best.get(shape, rank), rank)
    return [hub_id for *_, hub_id in best.values()]


def _possible(estimator: Estimator, hub_id: str, case: Case, usable_bytes: float) -> bool:
    try:
        return estimator.estimate(hub_id, case).needed_bytes.low <= usable_bytes
    except NotEstimable:
        return False


def write_lines(wishes: Iterable[Wish], path: Path) -> None:
    """Write the plan whole or not at all."""
    handle, temporary = tempfile.mkstemp(prefix=".", suffix=".part", dir=path.absolute().parent)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        for wish in wishes:
            file.write(json.dumps(wish.line(), ensure_ascii=False) + "\n")
    Path(temporary).chmod(0o644)
    Path(temporary).replace(path)


def write_configs(wishes: Iterable[Wish], facts: Mapping[str, HubFacts], folder: Path) -> list[str]:
    """Give the harness the config.json of every planned model that it lacks; returns the Hub ids written."""
    written = []
    for hub_id in dict.fromkeys(wish.hub_id for wish in wishes):
        path, fact = folder / f"{slug(hub_id)}.json", facts[hub_id]
        if path.exists() or not fact.config:
            continue
        noted = fact.provenance.get("config")
        source = noted.source if noted else f"Hub, revision {fact.revision}, read {fact.refreshed}"
        names = fact.config.get("architectures")
        content = {
            "hub_id": hub_id, "architecture": names[0] if names else None, "stands_for": None, "source": source,
            "config": fact.config,
        }  # fmt: skip
        path.write_text(json.dumps(content, ensure_ascii=False, indent=1, sort_keys=False) + "\n", encoding="utf-8")
        written.append(hub_id)
    return written


def run_plan(arguments: argparse.Namespace) -> int:
    from .dataset import require_dataset
    from .estimate_command import build_estimator

    dataset = require_dataset(arguments.root)
    gpus = dataset.catalog.gpus
    if arguments.gpu not in gpus:
        print(f"--gpu: unknown GPU {arguments.gpu!r} (ids are the file names in catalog/gpus)", file=sys.stderr)
        return 2
    listed = {model.hub_id for model in dataset.catalog.models.values()}
    found_new = {model.facts.hub_id: model.facts for model in dataset.discovered}
    facts = {hub_id: fact for hub_id, fact in dataset.hub.items() if hub_id in listed} | found_new
    known = {**dataset.hub, **found_new}
    estimator = build_estimator(known.values(), gpus.values(), (), arguments.root / "catalog")
    wishes = make_plan(
        estimator, facts, dataset.runs, arguments.gpu, estimator.table.gpus[arguments.gpu].usable_bytes,
        discovered=[*arguments.first, *found_new], today=datetime.now(UTC).date(), stale_months=arguments.stale_months,
        recipe=arguments.recipe_hash,
    )  # fmt: skip
    found = len(wishes)
    wishes = wishes[: arguments.limit]
    if arguments.configs:
        for hub_id in write_configs(wishes, known, arguments.root / "measurements" / "configs"):
            print(f"measurements/configs/{slug(hub_id)}.json written", file=sys.stderr)
    if str(arguments.out) == "-":
        for wish in wishes:
            print(json.dumps(wish.line(), ensure_ascii=False))
    else:
        write_lines(wishes, arguments.out)
    counts = Counter(wish.reason for wish in wishes)
    reasons = ", ".join(f"{counts[reason]} {reason}" for reason in REASONS)
    print(f"{len(wishes)} of {found} cells for {arguments.gpu}: {reasons}", file=sys.stderr)
    have = arguments.root / "measurements" / "configs"
    lacking = sorted({wish.hub_id for wish in wishes if not (have / f"{slug(wish.hub_id)}.json").exists()})
    if lacking:
        print(f"{len(lacking)} models have no file in measurements/configs (--configs writes them)", file=sys.stderr)
    return 0


def register(commands: Any) -> None:
    """Add ``plan`` to the command line."""
    command = commands.add_parser("plan", help="which cells are worth measuring next, for the harness")
    command.add_argument("--gpu", default="h100-sxm-80gb", help="catalog id of the card to measure on (%(default)s)")
    command.add_argument("--limit", type=_positive, help="only the first N cells")
    command.add_argument("--out", type=Path, default=Path("plan.jsonl"), help="'-' for the screen (%(default)s)")
    command.add_argument(
        "--first", nargs="+", default=[], metavar="ID", help="models to put first, before those just discovered"
    )
    command.add_argument(
        "--stale-months", type=_positive, default=STALE_MONTHS, help="results this old are measured again (%(default)s)"
    )
    command.add_argument("--recipe-hash", help="hash of the recipes today (default: that of the newest results)")
    command.add_argument("--configs", action="store_true", help="also give the harness the config.json files it lacks")
    command.set_defaults(run=run_plan)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError
    return value
