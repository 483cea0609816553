"""``python -m generator distil``: traces every architecture and writes ``catalog/traced/<shape>.json``.

Needs torch (``pip install '.[gpu]'``), no GPU, and about half a minute per architecture; nothing is fitted. What the
files hold is described in ``traced.py``; a site build only reads them. Files that are up to date are left alone, so an
interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from multiprocessing import get_context
from typing import Any

from .architecture import UnknownArchitecture, describe
from .calibrate import write_calibration
from .coefficients import shape_key
from .estimate_closed import make_sets, supports
from .records import HubFacts
from .stand_in import name_stand_in, stand_in
from .traced import FOLDER, SCHEMA, TRACER, is_stale, read_traced

METHODS = ("full", "full_bf16_adam8bit", "lora", "qlora", "lora_8bit", "prompt_tuning", "dora")


def architectures(facts: Iterable[HubFacts]) -> dict[str, HubFacts]:
    """Shape key → the most downloaded model of that shape, most downloaded first; stand-ins in place of models that
    need their repository's code, unless a model has their shape."""
    found: dict[str, HubFacts] = {}
    others: dict[str, HubFacts] = {}
    for item in sorted(facts, key=lambda item: (-(item.downloads or 0), item.hub_id)):
        try:
            shape = describe(item.config or {})
        except UnknownArchitecture:
            continue
        config = stand_in(shape)
        if config is None:
            found.setdefault(shape_key(shape), item)
        else:
            named = {"hub_id": name_stand_in(item.hub_id), "config": config}
            others.setdefault(shape_key(describe(config)), item.model_copy(update=named))
    return {**others, **found}


def is_expensive(item: HubFacts) -> bool:
    """Whether a trace takes many times longer than most: scans loop over chunks of tokens in Python."""
    return any(layer.kind in ("linear_attention", "mamba2") for layer in describe(item.config or {}).layers)


def wanted_sets(item: HubFacts, methods: Sequence[str], checkpointed: bool = False) -> list[str]:
    """Ids of the sets of these methods that the architecture has; only those with checkpointing if so asked."""
    shape = describe(item.config or {})
    ids = [entry.id for entry in make_sets() if entry.id.split("/")[1] in methods and supports(shape, entry.id)]
    return [name for name in ids if name.endswith("/on")] if checkpointed else ids


def distil(
    item: HubFacts, known: Mapping[str, Any] | None, methods: Sequence[str], checkpointed: bool = False
) -> dict[str, Any]:
    """Content of one architecture's file: the sets of ``known`` that are not stale, and what was missing of them."""
    import gc
    import logging

    from .trace_distil import distil_set, library_versions
    from .trace_model import NotTraceable

    logging.disable(logging.WARNING)
    versions = library_versions()
    shape = describe(item.config or {})
    sets = dict(known["sets"]) if known and not is_stale(known, versions) else {}
    wanted = set(wanted_sets(item, methods, checkpointed))
    gc.collect()
    gc.freeze()  # what the libraries hold need not be looked through after every trace
    for entry in make_sets():
        if entry.id not in wanted or entry.id in sets:
            continue
        try:
            sets[entry.id] = distil_set(dict(item.config or {}), shape, entry)
        except NotTraceable as error:
            sets[entry.id] = {"refused": str(error)}
        except Exception as error:  # whatever modeling code raises on the meta device: the closed form stays
            sets[entry.id] = {"refused": f"{type(error).__name__}: {error}".splitlines()[0][:200]}
    order = [entry.id for entry in make_sets() if entry.id in sets]
    return {
        "schema": SCHEMA, "shape": shape_key(shape), "model": item.hub_id, "model_type": shape.model_type,
        "tracer": TRACER, "versions": versions, "date": date.today().isoformat(),
        "sets": {name: sets[name] for name in order},
    }  # fmt: skip


def _distil(task: tuple[HubFacts, Mapping[str, Any] | None, Sequence[str], bool]) -> dict[str, Any]:
    return distil(*task)


def run_distil(arguments: argparse.Namespace) -> int:
    from .dataset import require_dataset

    try:
        from .trace_distil import library_versions
    except ModuleNotFoundError as error:
        print(f"{error.name} is not installed: pip install '.[gpu]'", file=sys.stderr)
        return 1
    dataset = require_dataset(arguments.root)
    folder = arguments.root / "catalog" / FOLDER
    folder.mkdir(exist_ok=True)
    known, problems = read_traced(folder)
    for problem in problems:
        print(problem, file=sys.stderr)
    versions = library_versions()
    methods = arguments.methods.split(",")
    stale: dict[str, HubFacts] = {}
    only = {shape_key(describe(dataset.hub[name].config or {})) for name in arguments.only or () if name in dataset.hub}
    only |= set(arguments.only or ())
    for key, item in architectures(dataset.hub.values()).items():
        if only and key not in only:
            continue
        old = known.get(key)
        if (
            old
            and not is_stale(old, versions)
            and set(wanted_sets(item, methods, arguments.checkpointed)) <= set(old["sets"])
        ):
            continue
        stale[key] = item
    print(f"{len(stale)} architectures to trace, {len(known)} known", file=sys.stderr)
    begin = time.perf_counter()
    cheap_first = sorted(stale, key=lambda key: is_expensive(stale[key]))
    tasks = [(stale[key], known.get(key), methods, arguments.checkpointed) for key in cheap_first]
    # Not ProcessPoolExecutor: with max_tasks_per_child it waits for ever once a process has done its share.
    with get_context("spawn").Pool(arguments.jobs, maxtasksperchild=50) as pool:
        for number, data in enumerate(pool.imap_unordered(_distil, tasks), 1):
            write_calibration(data, folder / f"{data['shape']}.json")
            refused = [name for name, values in data["sets"].items() if "refused" in values]
            note = f", refused {len(refused)}: {data['sets'][refused[0]]['refused']}" if refused else ""
            seconds = time.perf_counter() - begin
            print(f"{number}/{len(stale)} {data['model']} {len(data['sets'])} sets{note} ({seconds:.0f} s)", flush=True)
    return 0


def register(commands: Any) -> None:
    """Add ``distil`` to the command line."""
    command = commands.add_parser("distil", help="trace every architecture; writes catalog/traced (no GPU needed)")
    command.add_argument(
        "--only", nargs="+", metavar="ID", help="Hub ids or shape keys (default: whatever is missing or stale)"
    )
    command.add_argument("--jobs", type=int, default=1, help="processes (default %(default)s)")
    command.add_argument(
        "--checkpointed", action="store_true", help="only sets with gradient checkpointing: half the time"
    )
    command.add_argument("--methods", default=",".join(METHODS), help="methods with commas (default: all)")
    command.set_defaults(run=run_distil)
