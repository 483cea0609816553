"""From readings to the record of a result: parts of the peak, rates, and what stood around the measurement."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from . import workload
from .cells import Cell, read_config
from .environment import describe_environment
from .gauge import Reading, find_peak_tflops
from .result import PARTS, PHASES, SCHEMA, SHAPE, STAGES, digest

if TYPE_CHECKING:
    from .measure import Session


@dataclass
class Outcome:
    """What one attempt at a cell gave: a reading, or the reason for none."""

    status: str
    reason: str | None = None
    reading: Reading | None = None
    min_cap: tuple[int, int] | None = None
    wall_seconds: float = 0.0
    unclean: str | None = None  # what this cell left behind; its own figures are sound, as it began clean
    spent: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))


def find_peak(reading: Reading) -> int | None:
    peaks = [reading.forward, reading.loss, reading.backward_first, reading.backward_rest, reading.step]
    known = [peak for peak in peaks if peak is not None]
    return max(known) if known else None


def _break_down(reading: Reading) -> tuple[dict[str, int | None], str | None]:
    """Parts of the peak, which sum to it, and the phase in which it occurs.

    Weights, adapters and optimiser states are there all the time. In forward and loss no gradient exists; in backward
    and step all are counted as if they did, which is off by at most those that come last. What the layers keep for
    backward, or work with there, is `activations`; what head and loss add is `logits`; the rest is `other` (batch,
    workspaces, temporaries of the optimiser).
    """
    parts: dict[str, int | None] = dict.fromkeys(PARTS)
    peak = find_peak(reading)
    if peak is None or reading.static is None or reading.saved is None:
        return parts, None
    phases = {
        "forward": reading.forward,
        "loss": reading.loss,
        "backward": max(reading.backward_first or 0, reading.backward_rest or 0),
        "step": reading.step,
    }
    phase = max(phases, key=lambda name: phases[name] or 0)
    above = max(0, peak - reading.static)  # what comes and goes within a step
    gradients = min(above, reading.gradients or 0) if phase in ("backward", "step") else 0
    activations = {
        "forward": above,
        "loss": min(above, max(0, reading.saved - reading.static)),
        "backward": above - gradients,
        "step": 0,
    }[phase]
    logits = above - activations if phase == "loss" else 0
    known = {
        "weights": reading.weights or 0,
        "adapters": reading.adapters or 0,
        "gradients": gradients,
        "optimizer": reading.optimizer or 0,
        "activations": activations,
        "logits": logits,
    }
    parts.update(known)
    parts["other"] = max(0, peak - sum(known.values()))
    parts["optimizer"] = known["optimizer"] + min(0, peak - sum(known.values()))
    return parts, phase


def make_result(
    session: Session,
    cell: Cell,
    outcome: Outcome,
    config: Any,
    counts: dict[str, int] | None,
    reading: Reading | None,
    seconds: float | None,
) -> dict[str, Any]:
    """The result record of one cell. ``reading`` and ``seconds`` are those at the real depth."""
    entry = read_config(cell.model)
    environment = describe_environment(session.device)
    memory: dict[str, Any] = dict.fromkeys(SHAPE["memory"])
    memory["breakdown_bytes"] = dict.fromkeys(PARTS)
    memory["phase_peak_bytes"] = dict.fromkeys(PHASES)
    speed: dict[str, Any] = dict.fromkeys(SHAPE["speed"])
    if reading is not None:
        memory["peak_allocated_bytes"] = find_peak(reading)
        memory["peak_reserved_bytes"] = reading.reserved
        if cell.depths and reading.reserved is not None:  # extended apart, it can end below what it holds
            reading.reserved = memory["peak_reserved_bytes"] = max(reading.reserved, find_peak(reading) or 0)
        if reading.reserved is not None and reading.context is not None:
            memory["process_bytes"] = reading.reserved + reading.context
            memory["context_bytes"] = reading.context
        memory["load_peak_bytes"] = reading.load_peak
    memory["cap_bytes"] = session.gauge.cap
    if reading is not None:
        if outcome.min_cap is not None:
            memory["min_cap_bytes"], memory["min_cap_resolution_bytes"] = outcome.min_cap
        memory["breakdown_bytes"], memory["peak_phase"] = _break_down(reading)
        if reading.forward is not None:
            backward = [peak for peak in (reading.backward_first, reading.backward_rest) if peak is not None]
            memory["phase_peak_bytes"] = {
                "forward": reading.forward,
                "loss": reading.loss,
                "backward": max(backward) if backward else None,
                "step": reading.step,
            }
        speed["undisturbed"] = True
        speed["step_seconds"] = [round(item, 6) for item in reading.step_seconds]
        if reading.launch_seconds and session.gauge.counts:
            speed["launch_seconds"] = round(statistics.median(reading.launch_seconds), 6)
        if reading.probe_seconds and session.gauge.counts:
            speed["probe_seconds"] = round(statistics.median(reading.probe_seconds), 6)
        if reading.gpu_seconds is not None:
            speed["gpu_seconds"], speed["kernels"] = round(reading.gpu_seconds, 6), reading.kernels
    if seconds is not None and reading is not None:
        speed["median_step_seconds"] = seconds
        speed["tokens_per_second"] = cell.micro_batch * cell.seq_len * cell.gpu_count / seconds
        if counts is not None:
            full = cell.method.startswith("full")
            flops, speed["formula"] = workload.count_step_flops(
                config, counts, reading.trainable, full, cell.micro_batch, cell.seq_len
            )
            speed["flops_per_step"] = flops
            speed["tflops_per_second"] = flops / seconds / 1e12
            peak = find_peak_tflops(environment["gpu_name"] or "")
            if peak is not None:
                speed["peak_tflops"], speed["mfu"] = peak, flops / seconds / 1e12 / peak
    return {
        "schema": SCHEMA,
        "cell": cell.knobs()
        | {
            "config_sha256": digest(entry["config"]),
            "architecture": entry["architecture"],
            "stands_for": entry.get("stands_for"),
        },
        "status": outcome.status,
        "reason": outcome.reason,
        "holdout": cell.holdout_kind is not None,
        "holdout_kind": cell.holdout_kind,
        "depth": {
            "layers": config.num_hidden_layers,
            "measured_layers": list(cell.depths) if cell.depths else None,
            "extrapolated": cell.depths is not None,
        },
        "parameters": {
            "total": counts["total"] if counts else None,
            "trainable": reading.trainable if reading is not None else None,
            "active": counts["active"] if counts and counts["active"] != counts["total"] else None,
        },
        "memory": memory,
        "speed": speed,
        "environment": environment
        | {
            "compute_dtype": str(session.compute_dtype).removeprefix("torch."),
            "attention": getattr(config, "_attn_implementation", None) or "sdpa",
            "cells_before": session.measured,
            "wall_seconds": max(outcome.wall_seconds, 1e-6),
            "processes": session.processes,
            "spent_seconds": {stage: round(seconds, 3) for stage, seconds in outcome.spent.items()},
        },
    }
