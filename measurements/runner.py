"""Works through a plan: groups cells that share a base model, skips what is done, writes each result as it comes."""

from __future__ import annotations

import gc
import logging
import sys
from pathlib import Path

import torch

from . import fsdp, measure, recipes
from .cells import Cell
from .environment import describe_environment
from .sharing import Deaths, Turns
from .worklist import Clock, Worklist, find_done, select_open
from .workload import describe_shape, guess_need

RESULTS = Path(__file__).parent / "results"
OVERSIZE = 2.0  # guesses are up to 1.9 times what is measured


def drop_impossible(cells: list[Cell], device: torch.device) -> list[Cell]:
    """The cells this machine can measure; each obstacle is said once."""
    dtype = recipes.choose_compute_dtype(device)
    said: set[str] = set()
    possible = []
    for cell in cells:
        model_type = describe_shape(cell.model).model_type
        obstacle = recipes.find_obstacle(cell, model_type, dtype)
        if cell.gpu_count > 1 and obstacle is None and cell.method not in fsdp.METHODS:
            obstacle = f"on several GPUs only {' and '.join(fsdp.METHODS)} are measured; the rest is skipped"
        if obstacle is None:
            possible.append(cell)
        elif obstacle not in said:
            said.add(obstacle)
            print(f"skipped: {obstacle}", file=sys.stderr)
    return possible


def drop_oversized(cells: list[Cell], device: torch.device) -> list[Cell]:
    """The cells that may fit on the card, generously: near its edge, running out of memory is a finding, too."""
    if device.type != "cuda":
        return cells
    total = torch.cuda.get_device_properties(device).total_memory
    found = [cell for cell in cells if guess_need(cell) <= OVERSIZE * total]
    if len(found) < len(cells):
        print(f"{len(cells) - len(found)} cells are far too large for this card and left out", file=sys.stderr)
    return found


def find_open(cells: list[Cell], results: Path, device: torch.device) -> list[Cell]:
    """The cells that this machine can measure and that have no result yet."""
    gpu_id = describe_environment(device)["gpu_id"]
    found = drop_impossible(select_open(cells, find_done(results, gpu_id)), device)
    print(f"{len(found)} of {len(cells)} cells to measure on {gpu_id}", file=sys.stderr)
    return found


def run(
    cells: list[Cell],
    results: Path,
    device: torch.device,
    limit_seconds: float | None = None,
    shared: Path | None = None,
    processes: int = 1,
    slot: int = 0,
    gpu: int = 0,
) -> int:
    """Measure what is open. Returns an exit status: 0, or REPLACE_PROCESS when a fresh process must go on.

    ``shared``: the folder through which the workers of this campaign agree; ``processes`` of them use the same GPU,
    number ``gpu``, and this one is number ``slot`` of all. A cell that runs out of its share of the memory
    gets a larger one.
    """
    gpu_id = describe_environment(device)["gpu_id"]
    waiting = find_open(cells, results, device)
    gpu_folder = None if shared is None or processes == 1 else shared / f"gpu{gpu}"
    if gpu_folder is not None:
        gpu_folder.mkdir(exist_ok=True)
    deaths = Deaths(shared, slot)
    session = measure.Session(device, Turns(gpu_folder, deaths.mark(slot)), processes)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns at every step of an 8-bit layer
    gc.collect()
    gc.freeze()  # what is alive now stays: no later pass over the heap has to look at it
    return Worklist(session, waiting, results, gpu_id, Clock(limit_seconds, shared is not None), shared, deaths).work()
