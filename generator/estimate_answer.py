"""Answers: the coefficients of every known model, joined with GPUs and measured runs, as ``Estimate`` records."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import log
from typing import Any

import numpy as np

from .architecture import Shape
from .coefficients import CONTEXT_BYTES, gpu_figures
from .estimate import (
    BASES,
    ROW_UNITS,
    Answer,
    Architecture,
    Cell,
    Coefficients,
    CoefficientSet,
    NotEstimable,
    evaluate,
    speed_band,
)
from .estimate_matrix import evaluate_many
from .records import Case, Estimate, Fit, GpuEntry, Range, Run

SEQUENCE_STEP, SEQUENCE_LIMIT, BATCH_LIMIT = 64, 1 << 20, 4096
SHARDED_WIDTH = 0.2
REPEATED, REPEATED_RATE, LAUNCHED_RATE = 0.005, 0.03, 0.35
"""Spread of repeated measurements, relative: bytes; the rate of a step that the GPU paces; the rate of one that the
processor paces, or of which it is not known (``records.LAUNCH_BOUND``)."""
PROCESSOR_PACED = "the processor set this speed: the GPU waited for launches; another machine will differ"


def case_key(hub_id: str, case: Case, gpu: str) -> tuple[Any, ...]:
    adapters = case.method in ("lora", "qlora", "lora_8bit", "dora")
    rank, targets = (case.lora_rank, case.lora_targets) if adapters else (0, "")
    fixed = (case.recipe, case.method, case.micro_batch, case.seq_len, case.gradient_checkpointing)
    return (hub_id, *fixed, rank, targets, gpu)


@dataclass(frozen=True)
class Bracket:
    """Two measured runs between which a case lies, in tokens per step."""

    low: Run
    high: Run

    def correct(self, answer: Answer, ask: Callable[[Case], Answer], case: Case) -> Answer:
        """The answer times what measurement over estimate is at both ends, interpolated in the logarithm of tokens."""
        ends = [log(run.case.micro_batch * run.case.seq_len) for run in (self.low, self.high)]
        share = (log(case.micro_batch * case.seq_len) - ends[0]) / (ends[1] - ends[0])

        def factor(measured: Callable[[Run], float | None], estimated: Callable[[Answer], float | None]) -> float:
            found = []
            for run in (self.low, self.high):
                there = run.case.model_copy(update={"processor_pace": run.processor_pace})
                top, bottom = measured(run), estimated(ask(there))
                if not top or not bottom:
                    return 1.0
                found.append(top / bottom)
            return found[0] + share * (found[1] - found[0])

        def seconds_of(run: Run) -> float | None:
            return run.case.micro_batch * run.case.seq_len / run.tokens_per_second if run.tokens_per_second else None

        allocated = answer.allocated * factor(lambda r: r.peak_allocated_bytes, lambda a: a.allocated)
        cap = max(answer.cap * factor(lambda r: r.min_cap_bytes, lambda a: a.cap), allocated)
        reserved = max(answer.reserved * factor(lambda r: r.peak_reserved_bytes, lambda a: a.reserved), cap)
        seconds = answer.step_seconds
        if seconds:
            seconds *= factor(seconds_of, lambda a: a.step_seconds)
        parts = dict(answer.breakdown)
        parts["activations"] += allocated - answer.allocated
        return replace(answer, allocated=allocated, cap=cap, reserved=reserved, step_seconds=seconds, breakdown=parts)


class Estimator:
    """Estimates for every model of the catalog, on every card."""

    def __init__(
        self,
        table: Coefficients,
        runs: Sequence[Run] = (),
        shapes: Mapping[str, Shape] | None = None,
        calibration: Mapping[str, Any] | None = None,
    ) -> None:
        self.table = table
        self.calibration = dict(calibration or {})
        self.shapes = dict(shapes or {})
        self.unknown: dict[str, str] = {}
        """Hub id → why its config gives no shape; filled by whoever has the configs."""
        known = [run for run in runs if run.status == "ok" and run.peak_allocated_bytes and not run.on_stand_in]
        known.sort(key=lambda run: (run.undisturbed, run.date))  # the last of a cell's runs stands for it
        self.measured = {case_key(run.hub_id, run.case, run.gpu): run for run in known if run.gpu_count == 1}
        self.sharded = {
            (case_key(run.hub_id, run.case, run.gpu), run.gpu_count): run for run in known if run.gpu_count > 1
        }
        self._alike: dict[tuple[Any, ...], list[Run]] = {}
        for run in self.measured.values():
            key = case_key(run.hub_id, run.case.model_copy(update={"micro_batch": 1, "seq_len": 1}), run.gpu)
            self._alike.setdefault(key, []).append(run)

    def knows(self, hub_id: str, case: Case) -> bool:
        """Whether there are coefficients for this model in the case's recipe, method and checkpointing."""
        try:
            self._find(hub_id, case)
        except NotEstimable:
            return False
        return True

    def _find(self, hub_id: str, case: Case) -> tuple[CoefficientSet, Architecture, Cell]:
        number = self.table.models.get(hub_id)
        if number is None:
            raise NotEstimable(f"{hub_id}: {self.unknown.get(hub_id, 'no configuration with a known architecture')}")
        architecture = self.table.architectures[number]
        index = self.table.set_index(case)
        cell = architecture.cells.get(index)
        if cell is None:
            raise NotEstimable(f"{hub_id}: {self.table.sets[index].id} is not available for this architecture")
        if isinstance(case.lora_targets, tuple) and self.table.sets[index].trained == "adapters":
            unknown = [name for name in case.lora_targets if name not in architecture.linears]
            if unknown:
                names = ", ".join(architecture.linears)
                raise NotEstimable(f"lora_targets: {unknown[0]!r} is no linear layer of {hub_id} (it has {names})")
        elif isinstance(case.lora_targets, str) and case.lora_targets != "all-linear":
            raise NotEstimable(f'lora_targets: expected "all-linear" or a list of names, found {case.lora_targets!r}')
        return self.table.sets[index], architecture, cell

    def estimate(self, hub_id: str, case: Case, gpu: GpuEntry | None = None, gpu_count: int = 1) -> Estimate:
        """The answer for one case. Raises NotEstimable with the reason where there is none.

        With several cards memory is that of FSDP full sharding (states and weights divided, one layer gathered), and
        speed assumes that 85 % of each further card's rate is kept, unless that very case was measured.
        """
        entry, architecture, cell = self._find(hub_id, case)
        figures = None
        if gpu is not None:
            figures = self.table.gpus.get(gpu.id) or gpu_figures(gpu)
        answer = evaluate(entry, architecture, cell, case, figures)
        if gpu_count > 1:
            answer = shard(answer, architecture, entry, gpu_count)
        bands = entry.bands[BASES[cell.basis]]
        between: Bracket | None = None
        run = None
        if gpu is not None:
            key = case_key(hub_id, case, gpu.id)
            run = self.measured.get(key) if gpu_count == 1 else self.sharded.get((key, gpu_count))
        basis = "interpolated" if BASES[cell.basis] == "interpolated" else "estimated"
        if run is None and gpu is not None and gpu_count == 1 and figures is not None:
            between = self._bracket(hub_id, case, gpu.id)
        if between is not None:
            answer = between.correct(answer, lambda other: evaluate(entry, architecture, cell, other, figures), case)
            basis, bands = "interpolated", entry.bands["interpolated"]
        note = f"traced modeling code, {entry.id}"
        if BASES[cell.basis] == "closed":  # what is traced has its own reserve and cap
            how = "closed form" if cell.extra is None else "traced modeling code of the class that stands for it"
            note = f"{how}, {entry.id}"
        if between is not None:
            note += f"; between runs {between.low.id} and {between.high.id}"
        if gpu_count > 1:
            note += f"; FSDP over {gpu_count} cards by formula, not measured"
            bands = {name: widen(band) for name, band in bands.items()}

        def spread(value: float, name: str) -> Range:
            known = case.processor_pace is not None
            low, high = speed_band(bands, answer.pace, known) if name == "speed" else bands[name]
            return Range(value=value, low=value * max(low, 0.0), high=value * high)

        allocated, reserved, cap = (
            spread(answer.allocated, "allocated"), spread(answer.reserved, "reserved"), spread(answer.cap, "cap")
        )  # fmt: skip
        breakdown: dict[str, float] = dict(answer.breakdown)  # type: ignore[arg-type]
        context = figures.context_bytes if figures else CONTEXT_BYTES
        rate = None
        if answer.step_seconds:
            rate = spread(case.micro_batch * case.seq_len * gpu_count / answer.step_seconds, "speed")
            if figures and not figures.measured:
                rate = Range(value=rate.value, low=rate.low * 0.75, high=rate.high * 1.3)
        if run is not None:
            basis, note = "measured", f"run {run.id}"
            allocated = exactly(run.peak_allocated_bytes, allocated)
            reserved = exactly(run.peak_reserved_bytes, reserved)
            cap = exactly(run.min_cap_bytes, cap)
            repeated = REPEATED_RATE if run.paced_by == "gpu" else LAUNCHED_RATE
            rate = exactly(run.tokens_per_second, rate, repeated) if rate or run.tokens_per_second else None
            if not run.tokens_per_second:
                note += "; speed not measured, estimated"
            elif run.paced_by == "processor":
                note += f"; {PROCESSOR_PACED}"
            if run.breakdown_bytes:
                breakdown = {name: float(value) for name, value in run.breakdown_bytes.items()}
            context = float(run.context_bytes or context)
        needed = Range(value=cap.value + context, low=cap.low + context, high=cap.high + context)
        fits = judge(needed, figures.usable_bytes) if figures else None
        longest = widest = None
        if figures and gpu_count == 1:

            def fitting(other: Case) -> bool:
                found = evaluate(entry, architecture, cell, other)
                return found.cap * entry.bands[BASES[cell.basis]]["cap"][1] + context <= figures.usable_bytes

            longest = largest(lambda n: fitting(case.model_copy(update={"seq_len": n})), SEQUENCE_STEP, SEQUENCE_LIMIT)
            widest = largest(lambda n: fitting(case.model_copy(update={"micro_batch": n})), 1, BATCH_LIMIT)
        return Estimate(
            basis=basis,  # type: ignore[arg-type]
            basis_note=note,
            peak_allocated_bytes=allocated,
            peak_reserved_bytes=reserved,
            min_cap_bytes=cap,
            needed_bytes=needed,
            load_peak_bytes=self._load_peak(hub_id, architecture, entry),
            breakdown_bytes=breakdown,
            tokens_per_second=rate,
            limited_by=(run.paced_by if run else None) or (answer.pace if rate else None),
            mfu=self._mfu(hub_id, entry, case, gpu, rate.value / gpu_count) if rate and gpu else None,
            fits=fits,
            largest_seq_len=longest,
            largest_micro_batch=widest,
        )

    def _bracket(self, hub_id: str, case: Case, gpu: str) -> Bracket | None:
        """The nearest measured runs with fewer and with more tokens that differ in nothing else, if there are both."""

        def tokens(of: Case) -> int:
            return of.micro_batch * of.seq_len

        key = case_key(hub_id, case.model_copy(update={"micro_batch": 1, "seq_len": 1}), gpu)
        like = self._alike.get(key, ())
        low = [run for run in like if tokens(run.case) < tokens(case)]
        high = [run for run in like if tokens(run.case) > tokens(case)]
        if not low or not high:
            return None

        def order(run: Run) -> tuple[int, int]:
            return tokens(run.case), run.case.micro_batch

        return Bracket(max(low, key=order), min(high, key=order))

    def _load_peak(self, hub_id: str, architecture: Architecture, entry: CoefficientSet) -> float:
        """Resting weights before any upcast, and the largest matrix in bf16 while it is quantised."""
        kind = entry.weights.removesuffix("_fp32")
        peak = architecture.weights[kind] * ROW_UNITS[0]
        shape = self.shapes.get(hub_id)
        if shape and kind in ("nf4", "int8"):
            peak += 2.0 * max((x.weights for layer in shape.layers for x in layer.linears), default=0)
        return peak

    def _mfu(self, hub_id: str, entry: CoefficientSet, case: Case, gpu: GpuEntry, rate: float) -> float | None:
        """Model FLOPs (recomputation not counted) per second, of the card's dense bf16 peak."""
        shape, peak = self.shapes.get(hub_id), gpu.bf16_dense_tflops or gpu.fp16_dense_tflops
        if shape is None or not peak:
            return None
        matmul = sum(layer.linear_weights + layer.expert_active_parameters for layer in shape.layers)
        matmul += shape.vocab * shape.hidden
        per_token = 2.0 * matmul * (3.0 if entry.trained == "all" else 2.0)
        for layer in shape.layers:
            if layer.kind in ("attention", "mla"):
                span = min(layer.window or case.seq_len, case.seq_len)
                per_token += 12.0 * layer.heads * layer.head_dim * (span - span * span / (2.0 * case.seq_len))
        return per_token * rate / (peak * 1e12)

    def matrix(
        self, hub_ids: Sequence[str], cases: Sequence[Case], gpu_ids: Sequence[str] = ()
    ) -> dict[str, np.ndarray[Any, Any]]:
        """Every model × case (× GPU) at once (``estimate_matrix.evaluate_many``)."""
        return evaluate_many(self.table, hub_ids, cases, gpu_ids)


def exactly(value: float | None, otherwise: Range | None, spread: float = REPEATED) -> Range:
    """A measured value with the spread of repeated measurements, or the estimate where it was not measured."""
    if value is None:
        assert otherwise is not None
        return otherwise
    return Range(value=float(value), low=value * (1 - spread), high=value * (1 + spread))


def widen(band: tuple[float, float]) -> tuple[float, float]:
    """The interval of sharding by formula: twice that of one card, and at least what six measured cases need (memory
    from 9 % below to 17 % above what was measured). Twin: ``wider`` in answers.mjs."""
    low, high = band
    return 1 - max(2 * (1 - low), SHARDED_WIDTH), 1 + max(2 * (high - 1), SHARDED_WIDTH)


def judge(needed: Range, usable: float) -> Fit:
    """yes: even the upper end of the interval fits; no: the value does not; tight: in between."""
    return "yes" if needed.high <= usable else "no" if needed.value > usable else "tight"


def largest(fits: Callable[[int], bool], step: int, limit: int) -> int | None:
    """Largest multiple of ``step`` up to ``limit`` that fits; ``fits`` must be monotone. None when nothing does."""
    low, high = 0, limit // step
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle * step) else (low, middle - 1)
    return low * step or None


def shard(answer: Answer, architecture: Architecture, entry: CoefficientSet, cards: int) -> Answer:
    """One card's share under FSDP full sharding: states divided, two gathered layers, activations whole."""
    parts = dict(answer.breakdown)
    states = sum(parts[name] for name in ("weights", "adapters", "gradients", "optimizer"))
    layer = parts["weights"] / max(architecture.layers, 1)
    saved = states * (1 - 1 / cards) - 2 * layer
    for name in ("weights", "adapters", "gradients", "optimizer"):
        parts[name] /= cards  # type: ignore[literal-required]
    parts["other"] = 2 * layer
    peak = answer.allocated - saved
    share = peak / answer.allocated
    seconds = answer.step_seconds / 0.85 if answer.step_seconds else None
    return Answer(peak, answer.reserved * share, answer.cap * share, parts, seconds, answer.basis, answer.pace)
