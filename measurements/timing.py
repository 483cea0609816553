"""How long a step takes, and of what: the kernels' own time, and how quick the processor is that launches them.

A step ends when both are done, the GPU with its kernels and the processor with launching them. The first repeats to a
percent anywhere; the second differs by half between hosts and from minute to minute on a shared one. So beside the
seconds of whole steps stand the kernels' own, of one step that the profiler watches, and those of a ``Probe``, a fixed
piece of launching that is done between the steps: divided by it, times of different hosts can be compared.
"""

from __future__ import annotations

import gc
import os
import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from .gauge import Gauge, Reading

TIMED_SECONDS = 1.2
ENOUGH_SECONDS = 3.0  # two steps that take so long are enough
MOST_TIMED_STEPS = 8
LEAST_TIMED_STEPS = 3

REFERENCE_SECONDS = 0.041  # of the probe on the reference host: the median of those measured on 2026-11-26
PROBE_LAYERS, PROBE_WIDTH, PROBE_ROWS, PROBE_PASSES = 24, 64, 8, 6

os.environ.setdefault("TEARDOWN_CUPTI", "1")  # else launches stay a little slower once a step was profiled


class Probe:
    """A fixed piece of launching: passes forward and backward through 24 tiny blocks of normalisation, linear map and
    GELU in fp32, about 4,000 kernels that any GPU has done before the next one is launched."""

    def __init__(self, device: torch.device) -> None:
        def block() -> nn.Module:
            return nn.Sequential(nn.LayerNorm(PROBE_WIDTH), nn.Linear(PROBE_WIDTH, PROBE_WIDTH), nn.GELU())

        with torch.device(device):
            self.blocks = nn.ModuleList([block() for _ in range(PROBE_LAYERS)])
            self.rows = torch.ones(PROBE_ROWS, PROBE_WIDTH)
        self._pass()

    def _pass(self) -> None:
        hidden = self.rows
        for block in self.blocks:
            hidden = hidden + block(hidden)
        hidden.sum().backward()
        for parameter in self.blocks.parameters():
            parameter.grad = None

    def seconds(self) -> float:
        """Of the processor, to launch all of it."""
        begin = time.perf_counter()
        for _ in range(PROBE_PASSES):
            self._pass()
        return time.perf_counter() - begin


def read_pace(device: torch.device, passes: int = 40) -> float:
    """How long the processor takes for the probe, over what the reference host takes: median of ``passes``."""
    probe = Probe(device)
    found = []
    for _ in range(passes):
        found.append(probe.seconds())
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    return statistics.median(found) / REFERENCE_SECONDS


def sum_busy(spans: Iterable[tuple[int, int]]) -> int:
    """The time that (begin, duration) spans cover, in their unit; what overlaps counts once."""
    busy = end = 0
    for begin, duration in sorted(spans):
        busy += max(0, begin + duration - max(begin, end))
        end = max(end, begin + duration)
    return busy


def profile_step(step: Callable[[], Any], device: torch.device) -> tuple[float, int] | None:
    """(seconds in which the GPU worked, kernels and copies it did) of one step; None where no profiler can tell."""
    if device.type != "cuda":
        return None
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA], acc_events=False) as profile:
        step()
        torch.cuda.synchronize(device)
    try:
        events = profile.profiler.kineto_results.events()  # type: ignore[union-attr]
        spans = [
            (event.start_ns(), event.duration_ns())
            for event in events
            if event.device_type() == torch.autograd.DeviceType.CUDA  # type: ignore[attr-defined]
        ]
    except AttributeError:  # another torch keeps its events elsewhere: unknown, not wrong
        return None
    return (sum_busy(spans) / 1e9, len(spans)) if spans else None


def _wants_more(seconds: list[float]) -> bool:
    if len(seconds) < LEAST_TIMED_STEPS:
        return len(seconds) < 2 or sum(seconds) < ENOUGH_SECONDS
    return sum(seconds) < TIMED_SECONDS and len(seconds) < MOST_TIMED_STEPS


def time_steps(gauge: Gauge, step: Callable[[], Any], reading: Reading, ranks: int = 1) -> None:
    """Fills in the seconds of each timed step, synchronised: at least three, two where they are slow, more while they
    are quick; those that ``reading`` already has count. Of ``ranks`` > 1, each takes three, as all must take as many,
    and none is profiled: their kernels wait for each other.

    ``launch_seconds`` is the time until the processor had launched all work of a step: where that is nearly the whole
    step, the GPU waited for the processor. Nobody else uses the GPU meanwhile, and Python makes no full pass over its
    heap: one takes as long as a step.
    """
    seconds = reading.step_seconds
    with gauge.turns.alone():
        often = gc.get_threshold()
        gc.set_threshold(often[0], often[1], 1 << 30)
        try:
            probe = Probe(gauge.device)
            while len(seconds) < LEAST_TIMED_STEPS if ranks > 1 else _wants_more(seconds):
                gauge.synchronize()
                reading.probe_seconds.append(probe.seconds())
                gauge.synchronize()
                begin = time.perf_counter()
                step()
                reading.launch_seconds.append(time.perf_counter() - begin)
                gauge.synchronize()
                seconds.append(time.perf_counter() - begin)
            reading.probe_seconds.append(probe.seconds())
            if ranks == 1 and (found := profile_step(step, gauge.device)):
                reading.gpu_seconds, reading.kernels = found
        finally:
            gc.set_threshold(*often)
