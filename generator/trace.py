"""Traces a training step through the real modeling code, without a GPU: ``python -m generator trace``.

Needs torch, transformers and PEFT (and bitsandbytes or Liger where a recipe uses them): ``pip install .[measure]``.
The model is built on the meta device, so that nothing is downloaded and no memory is taken; code from a model's
repository is never run. One step is traced, of equal layers only three; the allocations of two steps of the whole depth
are then replayed through a model of PyTorch's caching allocator. The answer is what a process on an H100 would count;
nothing in it is fitted to measurements.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from .case_arguments import add_case_arguments
from .records import GIB, Case
from .trace_allocator import replay, smallest_cap

STEP_PHASES = ("forward", "loss", "backward", "step")


def trace(config: dict[str, Any], case: Case, search_cap: bool = True) -> dict[str, Any]:
    """Peaks of a training step in bytes: ``peak_allocated_bytes``, ``peak_reserved_bytes``, ``min_cap_bytes`` (None
    without ``search_cap``), ``phase_peak_bytes``, ``parts_bytes``.

    Raises ``trace_model.NotTraceable`` (a ValueError) for a configuration that transformers has no class for.
    """
    from .trace_depth import depths_of, trace_whole
    from .trace_repeat import two_steps

    begin = time.perf_counter()
    events, copies, repeats = trace_whole(config, case, depths_of(config))
    steps = two_steps(copies)
    sizes = [events.sizes[index] for index in steps.source]
    peaks, reserved = replay(sizes, steps.order, steps.marks)
    phases = {
        "forward": peaks["forward"],
        "loss": peaks["loss"],
        "backward": max(peaks.get("backward_first", 0), peaks["backward_rest"]),
        "step": peaks["step"],
    }
    allocated = max(phases.values())
    return {
        "peak_allocated_bytes": allocated,
        "peak_reserved_bytes": reserved,
        "min_cap_bytes": smallest_cap(sizes, steps.order, steps.marks, allocated, reserved) if search_cap else None,
        "phase_peak_bytes": phases,
        "peak_phase": max(STEP_PHASES, key=lambda name: phases[name]),
        "parts_bytes": dict(events.parts),
        "kernels": sum(
            work.launches * (repeats if place and place[1] == 1 else 1) for place, work in events.work.items()
        ),
        "trace_seconds": round(time.perf_counter() - begin, 2),
    }


def print_trace(title: str, found: dict[str, Any], console: Console) -> None:
    """The readable form."""
    table = Table(title=title, title_justify="left", show_edge=False)
    table.add_column("")
    table.add_column("GiB", justify="right")
    for label, name in (("peak allocated", "peak_allocated_bytes"), ("peak reserved", "peak_reserved_bytes"),
                        ("smallest allocator cap", "min_cap_bytes")):  # fmt: skip
        table.add_row(label, f"{found[name] / GIB:.2f}")
    for group in ("phase_peak_bytes", "parts_bytes"):
        table.add_section()
        for name, size in found[group].items():
            table.add_row(name, f"{size / GIB:.2f}")
    console.print(table)
    console.print(f"peak in {found['peak_phase']}; traced in {found['trace_seconds']} s, nothing fitted")


def run_trace(arguments: argparse.Namespace) -> int:
    from .dataset import require_dataset

    try:
        if arguments.config:
            config = json.loads(Path(arguments.config).read_text(encoding="utf-8"))
        else:
            dataset = require_dataset(arguments.root)
            names = {entry.id: entry.hub_id for entry in dataset.catalog.models.values()}
            facts = dataset.hub.get(names.get(arguments.model, arguments.model))
            if facts is None or not facts.config:
                raise ValueError(f"{arguments.model}: no configuration in the snapshot (give --config FILE)")
            config = facts.config
        targets = arguments.targets if arguments.targets == "all-linear" else tuple(arguments.targets.split(","))
        case = Case(
            recipe=arguments.recipe, method=arguments.method, micro_batch=arguments.micro_batch,
            seq_len=arguments.seq_len, gradient_checkpointing=not arguments.no_checkpointing,
            lora_rank=arguments.rank, lora_targets=targets,
        )  # fmt: skip
        found = trace(config, case)
    except ValidationError as error:
        first = error.errors()[0]
        print(f"{'.'.join(map(str, first['loc']))}: {first['msg']}", file=sys.stderr)
        return 1
    except json.JSONDecodeError as error:
        print(f"{arguments.config}:{error.lineno}:{error.colno}: not JSON: {error.msg}", file=sys.stderr)
        return 1
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        print(f"{error.name} is not installed: pip install '.[measure]'", file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps(found, indent=1))
    else:
        name = arguments.model or arguments.config
        print_trace(f"{name} · {case.recipe} · {case.method} · {case.micro_batch}×{case.seq_len}", found, Console())
    return 0


def register(commands: Any) -> None:
    """Add ``trace`` to the command line."""
    command = commands.add_parser(
        "trace", help="memory of a step, traced through the real modeling code; no GPU needed"
    )
    command.add_argument("model", nargs="?", help="Hub id, or the catalog's id")
    command.add_argument("--config", metavar="FILE", help="a config.json instead of a catalog model")
    add_case_arguments(command)
    command.add_argument("--json", action="store_true", help="print JSON")
    command.set_defaults(run=run_trace)
