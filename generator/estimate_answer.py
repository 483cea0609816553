"""Answers: the coefficients of every known model, joined with GPUs and measured runs, as ``Estimate`` records."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from .architecture import Shape, UnknownArchitecture, describe
from .estimate import (
    BASES,
    ROW_UNITS,
    SPEED_UNITS,
    Answer,
    Architecture,
    Cell,
    Coefficients,
    CoefficientSet,
    GpuFigures,
    NotEstimable,
    Row,
    evaluate,
)
from .estimate_closed import UNFUSED_LOGIT_BYTES, approximate, make_sets
from .records import GIB, Case, Estimate, Fit, GpuEntry, HubFacts, Range, Run

CONTEXT_BYTES = 0.6 * GIB
"""CUDA context of a training process, seen on H100 and H200; other cards are assumed to need as much."""
MATMUL_SHARE, ATTENTION_SHARE, BANDWIDTH_SHARE = 0.6, 0.35, 0.7
"""Shares of a card's published rates that training reaches, before a fit on measured runs replaces them."""
LAUNCH_SECONDS, RAMP_TOKENS = 6e-6, 300.0
SEQUENCE_STEP, SEQUENCE_LIMIT, BATCH_LIMIT = 64, 1 << 20, 4096


def gpu_figures(gpu: GpuEntry, calibration: Mapping[str, Any] | None = None) -> GpuFigures:
    """Figures of one card: fitted where it was measured, else its published rates times the fitted shares."""
    fitted = (calibration or {}).get("gpus", {})
    shares = (calibration or {}).get("shares", {})
    if gpu.torch_total_gib:
        usable = gpu.torch_total_gib * GIB
    elif gpu.usable_mib:
        usable = gpu.usable_mib * 1024.0**2 * 0.985
    else:
        usable = gpu.memory_gb * GIB * (0.75 if gpu.unified_memory else 0.97)
    known = fitted.get(gpu.id)
    if known:
        return GpuFigures(usable, **{**known, "measured": True})
    context = float(shares.get("context_bytes", CONTEXT_BYTES))
    rate = gpu.bf16_dense_tflops or gpu.fp16_dense_tflops
    if gpu.vendor != "NVIDIA" or not rate or not gpu.bandwidth_gb_s or gpu.gpu_count != 1:
        return GpuFigures(usable, context)
    return GpuFigures(
        usable, context, rate * 1e12 * shares.get("matmul", MATMUL_SHARE),
        rate * 1e12 * shares.get("attention", ATTENTION_SHARE),
        gpu.bandwidth_gb_s * 1e9 * shares.get("bandwidth", BANDWIDTH_SHARE),
        shares.get("launch_seconds", LAUNCH_SECONDS), shares.get("ramp_tokens", RAMP_TOKENS),
    )  # fmt: skip


def case_key(hub_id: str, case: Case, gpu: str) -> tuple[Any, ...]:
    adapters = case.method in ("lora", "qlora", "lora_8bit", "dora")
    rank, targets = (case.lora_rank, case.lora_targets) if adapters else (0, "")
    fixed = (case.recipe, case.method, case.micro_batch, case.seq_len, case.gradient_checkpointing)
    return (hub_id, *fixed, rank, targets, gpu)


def read_json(path: Path) -> dict[str, Any]:
    """A committed JSON object, or an empty one where the file does not exist yet."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def build_coefficients(
    facts: Iterable[HubFacts],
    gpus: Iterable[GpuEntry],
    calibration: Mapping[str, Any] | None = None,
) -> tuple[Coefficients, dict[str, Shape]]:
    """The table for every model whose shape is known, and the shapes by Hub id. Equal shapes share one entry."""
    sets = calibrate_sets(make_sets(), calibration or {})
    fitted = (calibration or {}).get("sets", {})
    architectures: list[Architecture] = []
    index_of: dict[str, int] = {}
    models: dict[str, int] = {}
    shapes: dict[str, Shape] = {}
    for item in facts:
        try:
            shape = describe(item.config or {})
        except UnknownArchitecture:
            continue
        key = shape_key(shape)
        if key not in index_of:
            index_of[key] = len(architectures)
            entry = approximate(shape, sets)
            cells = dict(entry.cells)
            for i, cell in cells.items():
                if values := fitted.get(sets[i].id, {}).get("rows"):
                    rows = tuple(correct_rows(row, values, sets[i], entry) for row in cell.rows)
                    cells[i] = replace(cell, rows=rows)
            architectures.append(replace(entry, cells=cells))
        models[item.hub_id] = index_of[key]
        shapes[item.hub_id] = shape
    figures = {gpu.id: gpu_figures(gpu, calibration) for gpu in gpus}
    return Coefficients(sets, tuple(architectures), models, figures), shapes


def correct_rows(row: Row, values: Sequence[float], entry: CoefficientSet, architecture: Architecture) -> Row:
    """One row with the fitted correction (``calibrate.fit_rows``) folded in."""
    per_token = row[2] * ROW_UNITS[2]
    if not row[6] and entry.logit_bytes:
        rest = per_token - architecture.vocab * entry.logit_bytes
        per_token += values[0] * architecture.vocab + values[1] * rest
    else:
        rest = per_token - unfused_logits(row, architecture)
        per_token += values[2] * rest + values[3] * architecture.hidden
    fixed = row[0] + values[4] / ROW_UNITS[0]
    return (float(round(fixed)), row[1], float(round(max(per_token, 0.0) / ROW_UNITS[2])), *row[3:])


def unfused_logits(row: Row, architecture: Architecture) -> float:
    """Bytes per token of logits in a lean loss row that has no chunks; they are exact and not corrected."""
    return 0.0 if row[6] or row[5] else float(UNFUSED_LOGIT_BYTES) * architecture.vocab


def shape_key(shape: Shape) -> str:
    """Digest of everything in a shape that decides memory and speed."""
    import hashlib

    return hashlib.sha256(repr(replace(shape, tower_parameters=0)).encode()).hexdigest()[:16]


def calibrate_sets(sets: Sequence[CoefficientSet], calibration: Mapping[str, Any]) -> tuple[CoefficientSet, ...]:
    """Sets with the fitted cap, reserve, speed factor and bands where ``fit`` has written them."""
    fitted = calibration.get("sets", {})
    changed = []
    for entry in sets:
        values = {name: value for name, value in fitted.get(entry.id, {}).items() if name != "rows"}
        for name in ("cap", "reserved"):
            if name in values:
                values[name] = tuple(values[name])
        if "bands" in values:
            values["bands"] = {
                basis: {**entry.bands[basis], **{k: (v[0], v[1]) for k, v in bands.items()}}
                for basis, bands in {**entry.bands, **values["bands"]}.items()
            }
        changed.append(replace(entry, **values))
    return tuple(changed)


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
        self.measured = {
            case_key(run.hub_id, run.case, run.gpu): run
            for run in runs
            if run.status == "ok" and run.gpu_count == 1 and run.peak_allocated_bytes
        }

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
        speed assumes that 85 % of each further card's rate is kept; neither is measured.
        """
        entry, architecture, cell = self._find(hub_id, case)
        figures = None
        if gpu is not None:
            figures = self.table.gpus.get(gpu.id) or gpu_figures(gpu)
        answer = evaluate(entry, architecture, cell, case, figures)
        if gpu_count > 1:
            answer = shard(answer, architecture, entry, gpu_count)
        bands = entry.bands[BASES[cell.basis]]
        run = self.measured.get(case_key(hub_id, case, gpu.id)) if gpu is not None and gpu_count == 1 else None
        basis = "interpolated" if BASES[cell.basis] == "interpolated" else "estimated"
        note = f"shapes from config.json, {entry.id}"
        if gpu_count > 1:
            note += f"; FSDP over {gpu_count} cards by formula, not measured"
            bands = {name: (1 - 2 * (1 - low), 1 + 2 * (high - 1)) for name, (low, high) in bands.items()}

        def spread(value: float, name: str) -> Range:
            low, high = bands[name]
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
            rate = exactly(run.tokens_per_second, rate, 0.03) if rate or run.tokens_per_second else None
            if run.breakdown_bytes:
                breakdown = {name: float(value) for name, value in run.breakdown_bytes.items()}
            context = float(run.context_bytes or context)
        needed = Range(value=cap.value + context, low=cap.low + context, high=cap.high + context)
        fits = judge(needed, figures.usable_bytes) if figures else None
        longest = widest = None
        if figures and gpu_count == 1:

            def fitting(other: Case) -> bool:
                found = evaluate(entry, architecture, cell, other)
                return found.cap * bands["cap"][1] + context <= figures.usable_bytes

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
            mfu=self._mfu(hub_id, entry, case, gpu, rate.value / gpu_count) if rate and gpu else None,
            fits=fits,
            largest_seq_len=longest,
            largest_micro_batch=widest,
        )

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
        """Every model × case (× GPU) at once: ``allocated``, ``cap`` [models, cases] and ``tokens_per_second``
        [models, cases, gpus]; NaN where there are no coefficients. Adapters are on all linear layers."""
        sets = [self.table.set_index(case) for case in cases]
        architectures = [self.table.architectures[self.table.models[hub_id]] for hub_id in hub_ids]
        depth = max((len(c.rows) for a in architectures for c in a.cells.values()), default=1)
        rows = np.full((len(hub_ids), len(cases), depth, 6), np.nan)
        speed = np.full((len(hub_ids), len(cases), 5), np.nan)
        for i, architecture in enumerate(architectures):
            for j, index in enumerate(sets):
                cell = architecture.cells.get(index)
                if cell is not None:
                    rows[i, j] = [row[:6] for row in cell.rows] + [cell.rows[0][:6]] * (depth - len(cell.rows))
                    speed[i, j] = cell.speed
        entries = [self.table.sets[index] for index in sets]
        seq = np.array([c.seq_len + e.virtual_tokens for c, e in zip(cases, entries, strict=True)], dtype=float)
        tokens = np.array([c.micro_batch for c in cases], dtype=float) * seq
        chunks = np.array([a.chunks for a in architectures], dtype=float)
        chunk = np.minimum(np.exp2(np.ceil(np.log2(np.ceil(tokens[None, :] / chunks[:, None])))), tokens[None, :])
        rank = np.array([c.lora_rank for c in cases], dtype=float)
        u, v = ROW_UNITS, SPEED_UNITS
        values = rows[..., 0] * u[0]
        values += rows[..., 1] * u[1] * rank[None, :, None]
        values += rows[..., 2] * u[2] * tokens[None, :, None]
        values += rows[..., 3] * u[3] * (rank * tokens)[None, :, None]
        values += rows[..., 4] * u[4] * (tokens * seq)[None, :, None]
        values += rows[..., 5] * u[5] * chunk[..., None]
        allocated = values.max(axis=2)
        vocab = np.array([a.vocab for a in architectures], dtype=float)
        logits = vocab[:, None] * (np.array([e.logit_bytes for e in entries]) * tokens)[None, :]
        caps = np.array([e.cap for e in entries])
        cap = np.maximum(caps[None, :, 0] + caps[None, :, 1] * allocated + caps[None, :, 2] * logits, allocated)
        figures = [self.table.gpus[gpu] for gpu in gpu_ids]
        rates = np.full((len(hub_ids), len(cases), len(figures)), np.nan)
        factor = np.array([e.speed_factor for e in entries])
        done = np.array([c.micro_batch * c.seq_len for c in cases], dtype=float)
        for k, gpu in enumerate(figures):
            if gpu.matmul_flops and gpu.attention_flops and gpu.bandwidth and gpu.launch_seconds:
                busy = speed[..., 0] * v[0] * tokens / gpu.matmul_flops * (1.0 + gpu.ramp_tokens / tokens)
                busy += speed[..., 1] * v[1] * tokens * seq / gpu.attention_flops
                busy += (speed[..., 2] * v[2] + speed[..., 3] * v[3] * tokens) / gpu.bandwidth
                launch = speed[..., 4] * v[4] * gpu.launch_seconds
                rates[..., k] = done / ((busy * factor) ** 4 + launch**4) ** 0.25
        return {"allocated": allocated, "cap": cap, "tokens_per_second": rates}


def exactly(value: float | None, otherwise: Range | None, spread: float = 0.005) -> Range:
    """A measured value with the spread of repeated measurements, or the estimate where it was not measured."""
    if value is None:
        assert otherwise is not None
        return otherwise
    return Range(value=float(value), low=value * (1 - spread), high=value * (1 + spread))


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
    return Answer(peak, answer.reserved * share, answer.cap * share, parts, seconds, answer.basis)
