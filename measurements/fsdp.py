"""Full fine-tuning and LoRA sharded over the GPUs of a host: FSDP2 through accelerate, started by torchrun.

What a reader writes, and starts with ``torchrun --nproc-per-node N train.py``::

    plugin = FullyShardedDataParallelPlugin(fsdp_version=2, auto_wrap_policy="transformer_based_wrap")
    accelerator = Accelerator(mixed_precision="bf16", fsdp_plugin=plugin)
    model, optimizer = accelerator.prepare(model, optimizer)

and then the same steps as on one GPU. Every rank has its own micro-batch; parameters, gradients and optimiser states
are split evenly, and a layer is whole only while it works. The model is described in host memory that is never written
(a page of zeros costs nothing), sharded layer by layer as accelerate does it, and its shards are filled on the GPU.

Figures are those of the rank that needs most, since that is the one that runs out; steps take as long as the slowest.
"""

from __future__ import annotations

import gc
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator, FullyShardedDataParallelPlugin
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from torch import nn

from . import measure, recipes, record, workload
from .cells import Cell, read_config
from .gauge import WARM_UP_STEPS, PhaseHooks, Reading
from .result import write
from .sharing import Deaths
from .timing import time_steps

METHODS = ("full", "lora")


def make_accelerator(device: torch.device, compute_dtype: torch.dtype) -> Accelerator:
    """An accelerator that shards with FSDP2 over all ranks of this group."""
    # The state of the cell before names FSDP already, and accelerate then forgets to note the plugin.
    AcceleratorState._reset_state(reset_partial_state=True)
    precision = "fp16" if compute_dtype == torch.float16 else "bf16"
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2, auto_wrap_policy="transformer_based_wrap", cpu_ram_efficient_loading=False
    )
    on_cpu = device.type == "cpu"
    accelerator = Accelerator(mixed_precision=precision, cpu=on_cpu, fsdp_plugin=plugin)
    if on_cpu:  # accelerate shards on accelerators only, though FSDP2 itself works with gloo: for trying it out
        plugin.set_mixed_precision(precision)
        accelerator.state.distributed_type = DistributedType.FSDP
        accelerator.state.fsdp_plugin = plugin
    return accelerator


def describe_in_host_memory(config: Any, weights: str, dtype: torch.dtype) -> Any:
    """The whole model in host memory that nobody has written to yet; buffers are real."""
    cpu = torch.device("cpu")
    model = workload.describe_weights(config, weights, cpu, dtype)
    placed: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in list(module._parameters.items()):
            if parameter is not None:
                if id(parameter) not in placed:
                    placed[id(parameter)] = nn.Parameter(torch.empty_like(parameter, device=cpu))
                module._parameters[name] = placed[id(parameter)]
    return model


@torch.no_grad()  # type: ignore[untyped-decorator]
def fill(model: nn.Module) -> None:
    """Random values in this rank's shards of the base model; adapters keep theirs."""
    for name, parameter in model.named_parameters():
        if "lora_" not in name:
            local = own_part(parameter)
            if parameter.dim() > 1:
                local.normal_(0.0, 0.02)
            else:
                local.fill_(1.0)


def own_part(tensor: torch.Tensor) -> torch.Tensor:
    """What this rank holds of a tensor."""
    local: torch.Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return local


def _held(tensors: list[torch.Tensor]) -> int:
    return sum(own_part(tensor).numel() * tensor.element_size() for tensor in tensors)


def train(session: measure.Session, cell: Cell, config: Any) -> Reading:
    """This rank's reading of a cell. Every rank of the group must call it with the same cell."""
    gauge, device = session.gauge, session.device
    gauge.start()
    base = describe_in_host_memory(config, cell.weights, session.compute_dtype)
    with recipes.prepared_base(base, cell.recipe, cell.weights) as prepared_base:
        model = recipes.attach_method(prepared_base, cell)
        accelerator = make_accelerator(device, session.compute_dtype)
        groups = [
            {"params": group["params"], "weight_decay": group["weight_decay"]}
            for group in recipes.make_optimizer(model, cell.method).param_groups
        ]
        trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        model, optimizer = accelerator.prepare(model, torch.optim.AdamW(groups, lr=1e-5, fused=device.type == "cuda"))
        fill(model)
        gauge.mark("load")
        reading = Reading(load_peak=gauge.peaks.get("load"), trainable=trainable)
        gauge.release()
        if gauge.counts:
            adapters = [parameter for name, parameter in model.named_parameters() if "lora_" in name]
            reading.adapters = _held(adapters)
            reading.weights = (gauge.allocated() or 0) - reading.adapters
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        batch = workload.make_batch(config.vocab_size, cell.micro_batch, cell.seq_len, device)
        hooks = PhaseHooks(model, gauge)

        def mark(phase: str) -> None:
            gauge.mark("backward_rest" if phase == "backward" else phase)
            if phase == "backward" and gauge.counts:
                reading.gradients = _held([p.grad for p in trained if p.grad is not None])

        gauge.start()
        for _ in range(WARM_UP_STEPS):
            recipes.train_step(accelerator, model, optimizer, batch, mark)
        gauge.synchronize()
        reading.saved, reading.static = hooks.saved, gauge.allocated()
        hooks.remove()
        if gauge.counts:
            states = [item for values in optimizer.state.values() for item in values.values()]
            reading.optimizer = _held([item for item in states if isinstance(item, torch.Tensor) and item.is_cuda])
            for phase, peak in gauge.peaks.items():
                setattr(reading, phase, peak)
            reading.reserved, reading.context = gauge.reserved, gauge.context_bytes()
        dist.barrier()
        time_steps(
            gauge, lambda: recipes.train_step(accelerator, model, optimizer, batch), reading, dist.get_world_size()
        )
        accelerator.free_memory()
    return reading


def join(readings: list[Reading]) -> tuple[Reading, list[int | None]]:
    """The reading of the rank with the highest peak, with each step as long as the slowest rank took; and all peaks."""
    peaks = [record.find_peak(reading) for reading in readings]
    most = max(range(len(readings)), key=lambda rank: peaks[rank] or 0)
    joined = readings[most]
    joined.step_seconds = [max(times) for times in zip(*(reading.step_seconds for reading in readings), strict=True)]
    return joined, peaks


def measure_cell(session: measure.Session, cell: Cell) -> tuple[dict[str, Any], bool]:
    """The result of a cell, the same on every rank, and whether the group can go on."""
    config = workload.read_model_config(read_config(cell.model)["config"])
    counts = workload.count_parameters(config)
    begin = time.perf_counter()
    outcome, reading = record.Outcome("ok"), None
    try:
        reading = train(session, cell, config)
    except Exception as error:
        text = f"{type(error).__name__}: {error}".splitlines()[0][:300]
        status = "oom" if isinstance(error, torch.OutOfMemoryError) else "failed"
        outcome = record.Outcome(status, text)
    outcome.wall_seconds = time.perf_counter() - begin
    if reading is None:
        return record.make_result(session, cell, outcome, config, counts, None, None), False
    readings: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(readings, reading)
    joined, peaks = join(readings)
    data = record.make_result(session, cell, outcome, config, counts, joined, joined.seconds)
    data["memory"]["rank_peak_bytes"] = peaks if None not in peaks else None
    gc.collect()
    session.gauge.release()
    return data, True


def run_group(cells: list[Cell], results: Path, device: torch.device, limit_seconds: float | None, worker: Path) -> int:
    """Measure cells with all ranks of this torchrun group. Returns an exit status; 1 asks for a fresh group.

    A rank that fails writes the result and leaves: the others wait for it in vain and are ended by torchrun.
    """
    begin = time.monotonic()
    if not dist.is_initialized():
        dist.init_process_group("gloo" if device.type == "cpu" else "nccl")
    rank, size = dist.get_rank(), dist.get_world_size()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    session, deaths = measure.Session(device), Deaths(worker)
    condemned = deaths.condemned()
    for cell in cells:
        choice = [limit_seconds is not None and time.monotonic() - begin > limit_seconds]
        dist.broadcast_object_list(choice, src=0)  # one clock decides for all
        if choice[0]:
            break
        if cell.key in condemned:
            data, clean = _failure(session, cell, condemned[cell.key]), True
        else:
            if rank == 0:
                deaths.begin(cell.key)
            data, clean = measure_cell(session, cell)
        if _is_first(worker, cell) if not clean else rank == 0:
            write(data, results)
            speed = data["speed"]["tokens_per_second"]
            print(f"{cell} on {size} GPUs: {data['status']} {data['reason'] or ''} {speed} tokens/s", flush=True)
        if not clean:
            return 1
        session.measured += 1
        if rank == 0:
            deaths.end()
    dist.barrier()
    dist.destroy_process_group()
    return 0


def _failure(session: measure.Session, cell: Cell, reason: str) -> dict[str, Any]:
    config = workload.read_model_config(read_config(cell.model)["config"])
    return record.make_result(session, cell, record.Outcome("failed", reason), config, None, None, None)


def _is_first(worker: Path, cell: Cell) -> bool:
    """Whether no other rank has reported the failure of this cell yet."""
    try:
        (worker / f"{cell.key[:16]}.failed").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
