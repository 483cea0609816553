"""Reads memory and time of training steps: three tiers, phase by phase, and the smallest cap that still works.

The allocator's counters are exact and free of charge, so nothing is sampled: at each phase boundary of a step the peak
since the last boundary is read and reset. A step is forward (through the decoder), loss (head, loss and their
backward), backward (the layers) and step (clipping, optimiser, release of gradients). On a device without such
counters (a CPU) every memory figure is None and only times are taken.
"""

from __future__ import annotations

import gc
import os
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import nn

from .sharing import Turns

PHASES = ("forward", "loss", "backward_first", "backward_rest", "step")
WARM_UP_STEPS = 2  # the first makes the optimiser's states, the second is the first complete one

PEAK_TFLOPS = (  # dense bf16, TFLOP/s, from the makers' data sheets; more specific names first
    ("h200", 989.0),
    ("h100 pcie", 756.0),
    ("h100", 989.0),
    ("a100", 312.0),
    ("l40s", 362.0),
    ("l4", 121.0),
    ("rtx 4090", 165.2),
    ("rtx 3090", 71.0),
    ("mi300x", 1307.0),
)


def find_peak_tflops(name: str) -> float | None:
    """Data-sheet dense bf16 rate of a GPU, or None: never a guess."""
    lower = name.lower()
    return next((rate for part, rate in PEAK_TFLOPS if part in lower), None)


@dataclass
class Reading:
    """Bytes and seconds of one cell at one depth. None where the device cannot tell."""

    weights: int | None = None  # the model as loaded and prepared
    load_peak: int | None = None
    adapters: int | None = None
    optimizer: int | None = None
    gradients: int | None = None
    static: int | None = None  # allocated between steps
    saved: int | None = None  # allocated at the end of the decoder's forward pass
    forward: int | None = None  # peaks of the phases
    loss: int | None = None
    backward_first: int | None = None  # through the last layer
    backward_rest: int | None = None
    step: int | None = None
    reserved: int | None = None
    context: int | None = None
    trainable: int = 0
    step_seconds: list[float] = field(default_factory=list)
    launch_seconds: list[float] = field(default_factory=list)  # until the processor had launched all of the step
    probe_seconds: list[float] = field(default_factory=list)  # a fixed piece of launching, between the steps
    gpu_seconds: float | None = None  # in which the GPU worked, of one step
    kernels: int | None = None

    @property
    def seconds(self) -> float | None:
        return statistics.median(self.step_seconds) if self.step_seconds else None


def extend(low: Reading, high: Reading, depths: tuple[int, int], layers: int) -> tuple[Reading, float | None]:
    """The reading at ``layers`` layers from those at two smaller depths, each figure linear in depth.

    Every layer of a kind is the same, so each phase's peak is linear in depth as long as one place in the phase stays
    the highest; the phases are extended one by one and their maximum taken afterwards. Also returns the step seconds.
    """
    factor = (layers - depths[0]) / (depths[1] - depths[0])

    def line(a: float, b: float) -> float:
        return a + (b - a) * factor

    result = Reading(step_seconds=list(high.step_seconds), context=high.context, probe_seconds=high.probe_seconds)
    if low.gpu_seconds is not None and high.gpu_seconds is not None:
        result.gpu_seconds = max(line(low.gpu_seconds, high.gpu_seconds), high.gpu_seconds)
    apart = ("step_seconds", "launch_seconds", "probe_seconds", "gpu_seconds", "context")
    for item in fields(Reading):
        a, b = getattr(low, item.name), getattr(high, item.name)
        if item.name not in apart and a is not None and b is not None:
            setattr(result, item.name, max(0, round(line(a, b))))
    if low.seconds is None or high.seconds is None:
        return result, None
    return result, max(line(low.seconds, high.seconds), high.seconds)


class Gauge:
    """Reads one device. ``release`` must bring allocated memory back to what it was, or the process is not clean."""

    def __init__(self, device: torch.device, turns: Turns | None = None) -> None:
        self.device = device
        self.turns = turns or Turns()
        self.cap: int | None = None  # bytes this process may take, where it shares the GPU
        self.counts = device.type == "cuda"  # ROCm builds of torch answer to the same name
        self.peaks: dict[str, int] = {}
        self.reserved = 0

    @contextmanager
    def together(self) -> Iterator[None]:
        """Work on the GPU beside other processes; nothing launched here runs on when they get their turn."""
        with self.turns.together():
            try:
                yield
            finally:
                self.synchronize()

    def set_cap(self, cap: int | None) -> None:
        """Cap the allocator at so many bytes; None: at the process's own share, or the whole card."""
        if not self.counts:
            return
        total = torch.cuda.get_device_properties(self.device).total_memory
        limit = cap if cap is not None else self.cap
        torch.cuda.set_per_process_memory_fraction(min(1.0, limit / total) if limit else 1.0, self.device)

    def synchronize(self) -> None:
        if self.counts:
            torch.cuda.synchronize(self.device)

    def allocated(self) -> int | None:
        return torch.cuda.memory_allocated(self.device) if self.counts else None

    def start(self) -> None:
        """Forget the peaks so far."""
        self.peaks, self.reserved = {}, 0
        if self.counts:
            torch.cuda.reset_peak_memory_stats(self.device)

    def mark(self, phase: str) -> None:
        """A phase ends here: keep its peak, begin the next."""
        if not self.counts:
            return
        self.peaks[phase] = max(self.peaks.get(phase, 0), torch.cuda.max_memory_allocated(self.device))
        self.reserved = max(self.reserved, torch.cuda.max_memory_reserved(self.device))
        torch.cuda.reset_peak_memory_stats(self.device)

    def release(self) -> int | None:
        """Give everything that is not alive back to the driver; returns what stays allocated."""
        gc.collect()
        if self.counts:
            with self.together():
                self.synchronize()
                getattr(torch._C, "_cuda_clearCublasWorkspaces", lambda: None)()
                torch.cuda.empty_cache()
        return self.allocated()

    def process_bytes(self) -> int | None:
        """What the driver says this process holds, or what is in use on the device where it does not name processes.

        The second is right only where nobody else uses the GPU; where processes of the campaign share it, None.
        """
        if not self.counts:
            return None
        try:
            import pynvml

            pynvml.nvmlInit()
            handle = pynvml.nvmlDeviceGetHandleByIndex(_physical_index(self.device))
            for process in pynvml.nvmlDeviceGetComputeRunningProcesses(handle):
                if process.pid == os.getpid() and process.usedGpuMemory:
                    return int(process.usedGpuMemory)
        except Exception:
            pass  # no NVML (ROCm), or a driver that hides processes: ask the runtime below
        if self.turns.folder is not None:
            return None
        free, total = torch.cuda.mem_get_info(self.device)
        return int(total - free)

    def context_bytes(self) -> int | None:
        """Memory outside PyTorch's allocator: CUDA context, libraries' kernels, quantised optimiser tables."""
        process = self.process_bytes()
        return None if process is None else max(0, process - torch.cuda.memory_reserved(self.device))


def _physical_index(device: torch.device) -> int:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    entries = [int(part) for part in visible.split(",") if part.strip().isdigit()]
    index = device.index or 0
    return entries[index] if index < len(entries) else index


def find_decoder(model: Any) -> nn.Module:
    """The module between embeddings and head, whose output is the last hidden state."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    found = getattr(inner, inner.base_model_prefix, inner)
    return found  # type: ignore[no-any-return]


def find_layers(decoder: nn.Module) -> nn.ModuleList:
    """The decoder's layers: its longest list of modules."""
    lists = [module for module in decoder.modules() if isinstance(module, nn.ModuleList)]
    return max(lists, key=len)


class PhaseHooks:
    """Hooks that tell a gauge where forward, loss and the last layer's backward end. Removed by ``remove``."""

    def __init__(self, model: Any, gauge: Gauge) -> None:
        self.gauge = gauge
        self.saved: int | None = None
        decoder = find_decoder(model)
        last = find_layers(decoder)[-1]
        self.handles = [
            decoder.register_forward_hook(self._forward_ends),
            last.register_forward_pre_hook(self._last_layer_begins, with_kwargs=True),
        ]

    def _forward_ends(self, _module: nn.Module, _inputs: Any, output: Any) -> None:
        self.gauge.mark("forward")
        self.saved = self.gauge.allocated()
        hidden = output[0] if not isinstance(output, torch.Tensor) else output
        if hidden.requires_grad:
            hidden.register_hook(self._teller("loss"))

    def _last_layer_begins(self, _module: nn.Module, inputs: Any, named: Any) -> None:
        hidden = inputs[0] if inputs else named.get("hidden_states")
        if isinstance(hidden, torch.Tensor) and hidden.requires_grad and torch.is_grad_enabled():
            hidden.register_hook(self._teller("backward_first"))

    def _teller(self, phase: str) -> Callable[[torch.Tensor], None]:
        def tell(_gradient: torch.Tensor) -> None:
            self.gauge.mark(phase)

        return tell

    def remove(self) -> None:
        for handle in self.handles:
            handle.remove()
