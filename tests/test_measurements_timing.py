"""Timing: what a step's seconds consist of."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from measurements.__main__ import main
from measurements.gauge import Gauge, Reading, extend
from measurements.timing import (
    LEAST_TIMED_STEPS,
    MOST_TIMED_STEPS,
    PROBE_PASSES,
    REFERENCE_SECONDS,
    Probe,
    sum_busy,
    time_steps,
)

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("spans", "busy"),
    [
        ([], 0),
        ([(10, 5), (20, 5)], 10),
        ([(20, 5), (10, 15)], 15),  # touching, and not in order
        ([(0, 100), (10, 5), (90, 20)], 110),  # inside another, and overlapping its end
    ],
)
def test_the_gpu_is_busy_while_any_kernel_runs(spans: list[tuple[int, int]], busy: int) -> None:
    assert sum_busy(spans) == busy


def test_quick_steps_are_timed_more_often_and_probed_before_and_after_each() -> None:
    reading, calls = Reading(), []
    time_steps(Gauge(CPU), lambda: calls.append(1), reading)
    assert len(calls) == len(reading.step_seconds) == MOST_TIMED_STEPS
    assert len(reading.launch_seconds) == MOST_TIMED_STEPS
    assert len(reading.probe_seconds) == MOST_TIMED_STEPS + 1
    assert all(launch <= step for launch, step in zip(reading.launch_seconds, reading.step_seconds, strict=True))
    assert reading.gpu_seconds is None, "a processor has no kernels of a GPU"


def test_slow_steps_that_were_timed_before_count() -> None:
    reading = Reading(step_seconds=[5.0, 5.0])
    time_steps(Gauge(CPU), lambda: pytest.fail("enough was timed"), reading)
    assert reading.step_seconds == [5.0, 5.0] and len(reading.probe_seconds) == 1


def test_every_rank_takes_as_many_steps() -> None:
    reading = Reading()
    time_steps(Gauge(CPU), lambda: None, reading, ranks=2)
    assert len(reading.step_seconds) == LEAST_TIMED_STEPS


def test_the_probe_does_the_same_work_each_time_and_leaves_nothing() -> None:
    probe, seen = Probe(CPU), []
    for block in probe.blocks:
        block.register_forward_hook(lambda *_: seen.append(1))
    assert probe.seconds() > 0
    assert len(seen) == PROBE_PASSES * len(probe.blocks)
    assert all(parameter.grad is None for parameter in probe.blocks.parameters())


def test_kernels_and_their_time_grow_with_depth() -> None:
    low = Reading(step_seconds=[1.0], gpu_seconds=0.2, kernels=400)
    high = Reading(step_seconds=[1.5], gpu_seconds=0.3, kernels=700, probe_seconds=[0.03])
    reading, _ = extend(low, high, (4, 8), 32)
    assert reading.gpu_seconds == pytest.approx(0.9) and reading.kernels == 2500
    assert reading.probe_seconds == [0.03], "the probe is the host's, whatever the depth"


def test_the_pace_of_a_host_is_told_only_where_there_is_a_gpu(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["pace"]) == 2
    assert "no GPU" in capsys.readouterr().err
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        "measurements.timing.Probe", lambda device: SimpleNamespace(seconds=lambda: 2 * REFERENCE_SECONDS)
    )
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    assert main(["pace"]) == 0
    assert capsys.readouterr().out == "2.00\n", "twice the reference host's time"
