"""The command line: run, plan, validate, summary. `run` needs torch; the others need Python alone."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from . import campaign, oversight
from .cells import Cell, PlanError, cell_of_result, make_cell, plan_line, read_plan, take_shard
from .result import METHODS, RECIPES, InvalidResult, identify_gpu, read_all
from .summary import find_superseded, summarise

RESULTS = Path(__file__).parent / "results"
MOST_PROCESSES = 4
PROCESS_BYTES = 16 << 30


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m measurements", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="measure cells on the GPU at hand")
    source = run.add_mutually_exclusive_group()
    source.add_argument("--plan", type=Path, help="a plan.jsonl; without it the knobs below make the cells")
    source.add_argument("--missing", action="store_true", help="what the campaign still lacks on the GPU at hand")
    run.add_argument("--models", nargs="+", metavar="HUB_ID", default=["Qwen/Qwen2.5-7B"])
    run.add_argument("--methods", nargs="+", choices=METHODS, default=["qlora"])
    run.add_argument("--recipes", nargs="+", choices=RECIPES, default=["stock"])
    run.add_argument("--seq", nargs="+", type=int, default=[1024])
    run.add_argument("--batch", nargs="+", type=int, default=[1])
    run.add_argument("--rank", nargs="+", type=int, default=[16])
    run.add_argument("--no-checkpointing", action="store_true")
    run.add_argument("--min-cap", action="store_true", help="also search the smallest allocator cap")
    run.add_argument("--limit-s", type=float, help="stop cleanly after this many seconds")
    run.add_argument("--cell-limit-s", type=float, default=300.0, help="a cell that takes longer is stopped (300)")
    run.add_argument("--shard", help="i/n: this machine's part")
    run.add_argument("--results", type=Path, default=RESULTS)
    run.add_argument("--cpu", action="store_true", help="times only; for trying the harness with tiny models")
    run.add_argument("--gpus", type=int, help="how many GPUs to use (default: all that torch sees)")
    run.add_argument("--processes", type=int, help="processes that share each GPU (default: 1 to 4 by memory)")
    run.add_argument("--worker", type=Path, help=argparse.SUPPRESS)  # the folder through which workers agree
    run.add_argument("--device", type=int, default=0, help=argparse.SUPPRESS)
    run.add_argument("--begun", type=float, help=argparse.SUPPRESS)  # when the campaign began: the limit counts from it
    run.add_argument("--group", type=int, default=1, help=argparse.SUPPRESS)  # ranks of this torchrun group
    run.add_argument("--slot", type=int, default=0, help=argparse.SUPPRESS)
    curves = commands.add_parser("curves", help="compare the loss curves of stock and lean on a small model")
    curves.add_argument("--model", metavar="HUB_ID", default="HuggingFaceTB/SmolLM2-135M")
    curves.add_argument("--layers", type=int, default=4)
    curves.add_argument("--methods", nargs="+", choices=METHODS, default=["lora", "full"])
    curves.add_argument("--limit-s", type=float, help="leave out the second stock run when time is short")
    curves.add_argument("--results", type=Path, default=RESULTS)
    curves.add_argument("--cpu", action="store_true")
    for name, words in (("validate", "check result files"), ("summary", "count cells and repeat errors")):
        commands.add_parser(name, help=words).add_argument("--results", type=Path, default=RESULTS)
    commands.add_parser(
        "pace", help="how quick this host's processor is at launching kernels, over the reference host's"
    )
    old = commands.add_parser("supersede", help="list results that a later one of the same cell makes redundant")
    old.add_argument("--results", type=Path, default=RESULTS)
    old.add_argument("--delete", action="store_true", help="delete them")
    plan = commands.add_parser("plan", help="write the campaign's plan")
    plan.add_argument("--gpu", choices=("h100", "h200"), default="h100")
    plan.add_argument("--short", action="store_true", help="breadth first, for one short run")
    plan.add_argument("--loaded", action="store_true", help="steps that keep the GPU busy, for their speed")
    plan.add_argument("--sharded", type=int, metavar="GPUS", help="cells of so many GPUs of one host")
    plan.add_argument("--lacking", metavar="GPU_ID", help="leave out what has a result on this kind of GPU")
    plan.add_argument(
        "--since", default="", metavar="DATE", help="with --lacking: results before this day do not count"
    )
    plan.add_argument("--results", type=Path, default=RESULTS)
    plan.add_argument("--out", type=Path, required=True)
    return parser


def _cells(options: argparse.Namespace) -> list[Cell]:
    if options.plan is not None:
        cells = read_plan(options.plan)
    elif options.missing:
        cells = campaign.make_plan(_name_gpu(options.cpu))
    else:
        cells = [
            make_cell(
                {
                    "model": model,
                    "recipe": recipe,
                    "method": method,
                    "seq_len": seq_len,
                    "micro_batch": micro_batch,
                    "lora_rank": rank,
                    "gradient_checkpointing": not options.no_checkpointing,
                    "min_cap": options.min_cap,
                }
            )
            for model in options.models
            for recipe in options.recipes
            for method in options.methods
            for seq_len in options.seq
            for micro_batch in options.batch
            for rank in options.rank
        ]
    return take_shard(cells, options.shard) if options.shard else cells


def _planned(options: argparse.Namespace) -> list[Cell]:
    """The cells that ``plan`` writes."""
    if options.sharded:
        cells = campaign.make_sharded(options.sharded)
    elif options.loaded:
        cells = campaign.make_loaded()
    else:
        cells = campaign.make_short() if options.short else campaign.make_plan(options.gpu)
    if options.lacking is None:
        return cells
    done = {
        cell_of_result(data).key
        for data in read_all(options.results)
        if data["environment"]["gpu_id"] == options.lacking and data["environment"]["date"] >= options.since
    }
    return [cell for cell in cells if cell.key not in done]


def _name_gpu(on_cpu: bool) -> str:
    """Folder name of the GPU at hand; empty where there is none."""
    if on_cpu:
        return ""
    import torch

    return identify_gpu(torch.cuda.get_device_name(0)) if torch.cuda.is_available() else ""


def _run(options: argparse.Namespace, arguments: list[str]) -> int:
    cells = _cells(options)
    if options.worker is None:
        return _oversee(options, arguments, sorted({cell.gpu_count for cell in cells}))
    oversight.die_with_parent()
    import torch

    from . import runner

    if not options.cpu and not torch.cuda.is_available():
        print("no GPU that torch can use; --cpu measures times only", file=sys.stderr)
        return 2
    limit = options.limit_s
    if limit is not None and options.begun is not None:
        limit = max(0.0, limit - (time.time() - options.begun))
    cells = [cell for cell in cells if cell.gpu_count == options.group]
    if options.group > 1:
        from . import fsdp

        device = torch.device("cpu") if options.cpu else torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        return fsdp.run_group(
            runner.find_open(cells, options.results, device), options.results, device, limit, options.worker
        )
    device = torch.device("cpu") if options.cpu else torch.device("cuda", 0)  # the only one it is shown
    processes = count_processes(options)
    if options.missing:
        cells = runner.drop_oversized(cells, device)
    return runner.run(cells, options.results, device, limit, options.worker, processes, options.slot, options.device)


def _oversee(options: argparse.Namespace, arguments: list[str], groups: list[int]) -> int:
    """One worker per GPU and process for cells of one GPU, then one torchrun group per larger number of GPUs."""
    begin = time.monotonic()
    gpus, worst = count_gpus(options), 0
    for size in groups:
        limit = None if options.limit_s is None else max(0.0, options.limit_s - (time.monotonic() - begin))
        if size == 1:
            slots = [device for device in range(gpus) for _ in range(count_processes(options))]
            status = oversight.oversee(arguments, slots, limit, options.cell_limit_s)
            if status == oversight.OUTGROWN:  # some cells need a card that nobody else has a part of
                limit = None if options.limit_s is None else max(0.0, options.limit_s - (time.monotonic() - begin))
                own = [*arguments, "--processes", "1"]
                status = oversight.oversee(own, list(range(gpus)), limit, options.cell_limit_s)
            worst = status or worst
        elif size > gpus and not options.cpu:
            print(f"skipped: cells of {size} GPUs, as torch sees {gpus}", file=sys.stderr)
        else:
            program = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(size))
            own = [*arguments, "--group", str(size)]
            worst = oversight.oversee(own, [0], limit, options.cell_limit_s, (*program, "-m", "measurements")) or worst
    return worst


def _compare_curves(options: argparse.Namespace) -> int:
    import torch

    from . import loss_curves

    if not options.cpu and not torch.cuda.is_available():
        print("no GPU that torch can use", file=sys.stderr)
        return 2
    device = torch.device("cpu") if options.cpu else torch.device("cuda", 0)
    return loss_curves.run(options.model, options.layers, options.methods, device, options.results, options.limit_s)


def count_processes(options: argparse.Namespace) -> int:
    """Processes that share each GPU: as asked, else one per 16 GiB of the card, four at most; one on a CPU.

    Each takes almost a GiB for itself, which a small card cannot spare.
    """
    if options.processes is not None or options.cpu:
        return max(1, options.processes or 1)
    return min(MOST_PROCESSES, max(1, _card_bytes() // PROCESS_BYTES))


def _card_bytes() -> int:
    """Memory of the first GPU; 0 where there is none."""
    try:  # the driver answers at once; torch takes seconds to import
        import pynvml

        pynvml.nvmlInit()
        return int(pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(0)).total)
    except Exception:  # no NVML: an AMD card, or no nvidia-ml-py
        import torch

        return torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else 0


def count_gpus(options: argparse.Namespace) -> int:
    """GPUs to use: as asked, else all there are; 1 where there is none, so that the worker says what is wrong."""
    if options.gpus is not None or options.cpu:
        return options.gpus or 1
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([part for part in visible.split(",") if part.strip()]) or 1
    try:
        import pynvml

        pynvml.nvmlInit()
        return int(pynvml.nvmlDeviceGetCount()) or 1
    except Exception:
        import torch

        return torch.cuda.device_count() or 1


def _tell_pace() -> int:
    """Print this host's pace, for ``estimate --processor-pace``. A GPU is needed: launching is what is timed."""
    import torch

    from .timing import read_pace

    if not torch.cuda.is_available():
        print("pace: torch sees no GPU, and launching kernels on one is what is timed", file=sys.stderr)
        return 2
    print(f"{read_pace(torch.device('cuda', 0)):.2f}")
    return 0


def main(arguments: list[str]) -> int:
    options = _parser().parse_args(arguments)
    try:
        if options.command == "run":
            return _run(options, arguments)
        if options.command == "curves":
            return _compare_curves(options)
        if options.command == "pace":
            return _tell_pace()
        if options.command == "plan":
            cells = _planned(options)
            options.out.write_text("".join(plan_line(cell) + "\n" for cell in cells))
            return 0
        if options.command == "supersede":
            for path in find_superseded(options.results):
                print(path)
                if options.delete:
                    path.unlink()
            return 0
        found = read_all(options.results)
    except PlanError as error:
        print(error, file=sys.stderr)
        return 2
    except InvalidResult as error:
        print("\n".join(error.reasons), file=sys.stderr)
        return 1
    print(f"{len(found)} results, all valid" if options.command == "validate" else summarise(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
