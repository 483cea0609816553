"""The memory and speed of a training step as a short sum, evaluated alike in Python and in the browser.

Everything hard (architecture, dtypes, adapters, optimiser states, checkpointing, kernels) is done before, in closed
form (``estimate_closed.py``), and corrected by measurement (``calibrate.py``). What is left are *rows*. Each row is one
moment of a step at which memory can peak; the peak is the largest row:

    row   = fixed·u0 + per_rank·u1·rank + per_token·u2·T + per_rank_token·u3·rank·T
            + per_pair·u4·micro_batch·seq² + per_chunk·u5·chunk
    T     = micro_batch·seq,   seq = seq_len + the set's virtual tokens
    chunk = smallest power of two ≥ ceil(T / chunks), at most T    (tokens per chunk of a fused loss)

``u0…u5`` are ``ROW_UNITS`` (bytes), so that coefficients are short integers.

The *time* of a step is told in ``estimate_time.py``. ``docs/assets/js/estimate.mjs`` is the twin of ``evaluate``: same
operations, same order, so both give the same doubles (``tests/vectors/estimate.json``).

The published file ``/api/v1/coefficients.json`` (version 2):

    version, row_units, speed_units
    sets           list of {id: "recipe/method/on|off" (checkpointing), weights, trained: all|adapters|prompt,
                   parameter_bytes, gradient_bytes, optimizer_bytes (per trained parameter), logit_bytes,
                   virtual_tokens,
                   reserved: [constant, factor, per logit byte], cap: the same for min_cap,
                   target_bytes (per untargeted input and token), layer_target_bytes (the same, of one layer, where
                   the peak is the backward pass of a layer),
                   loss_bytes (per chunk of a fused loss and weight of the head), loss_launches (per chunk),
                   update_bytes (moved per trained parameter), rank_bytes (moved per adapter parameter beyond rank 16),
                   factors: {traced|closed: [of work, of launches]},
                   bands: {basis: {allocated|cap|reserved|speed|launch|processor: [low, high]}}}; the last two are of
                   the speed where the processor sets it, at a known pace and at an unknown one
    architectures  list of {layers, vocab, hidden, chunks, parameters, per_rank, prompt, fused_loss (whether Liger has
                   one), weights: {kind: bytes / u0}, linears: {module name: [parameters per rank, inputs], both
                   summed over layers},
                   cells: {set index: [rows, speed, basis] or [rows, speed, basis, extra]}}
                   row = [fixed, per_rank, per_token, per_rank_token, per_pair, per_chunk, gradients alive 0|1]
                   speed = [matmul FLOPs per token, attention FLOPs per pair, bytes, bytes per token, launches,
                   adapters' bytes per token, adapters' launches, launches per position], without fused loss and update;
                   zeros at the end are left out. The adapters' are those of all linear layers and part of the others
                   basis = index into ["estimated", "interpolated", "closed"]
                   extra = beyond the peak, in place of the set's factors where it is known: [smallest cap, the same
                   per token, reserved, the same per token], in units u0 and u2; never less than 0
    models         {Hub id: index of its architecture}
    gpus           {GPU id: {usable_bytes, context_bytes, matmul_flops, attention_flops, bandwidth, kernel_seconds,
                   launch_seconds, layer_seconds, measured}}; speed fields are null where the card's figures are not
                   known
    pace           [low, high]: the paces of nine in ten hosts that were measured

A set missing from ``cells`` cannot be run with that architecture (no Liger kernels, say). Sizes are bytes, times are
seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from .estimate_time import Work, time_step
from .records import Case, Pace

VERSION = 2
ROW_UNITS = (65536.0, 1024.0, 16.0, 1.0, 1.0, 64.0)
SPEED_UNITS = (1e6, 1.0, 1e6, 1e3, 1.0, 1e3, 1.0, 1.0)
WORK_RANK = 16
"""Rank of the adapters whose bytes and launches are counted."""
LOGIT_BYTES = 6.0
"""Moved per logit of a fused loss: written by one product, turned into its gradient in place, read by the next."""
BASES = ("estimated", "interpolated", "closed")

Row = tuple[float, float, float, float, float, float, float]
Speed = tuple[float, float, float, float, float, float, float, float]
Part = Literal["weights", "adapters", "gradients", "optimizer", "activations", "logits", "other"]
PARTS: tuple[Part, ...] = ("weights", "adapters", "gradients", "optimizer", "activations", "logits", "other")


class NotEstimable(ValueError):
    """No coefficients for what was asked; the message says which part is missing."""


@dataclass(frozen=True)
class CoefficientSet:
    """What one recipe × method × checkpointing fixes for every architecture."""

    id: str
    weights: str
    trained: Literal["all", "adapters", "prompt"]
    parameter_bytes: float
    gradient_bytes: float
    optimizer_bytes: float
    logit_bytes: float
    virtual_tokens: int = 0
    reserved: tuple[float, float, float] = (0.0, 1.06, 0.0)
    cap: tuple[float, float, float] = (0.0, 1.03, 0.0)
    target_bytes: float = 0.0
    layer_target_bytes: float = 0.0
    loss_bytes: float = 0.0
    loss_launches: float = 0.0
    update_bytes: float = 0.0
    rank_bytes: float = 0.0
    factors: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    bands: Mapping[str, Mapping[str, tuple[float, float]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """Coefficients of one architecture in one set."""

    rows: tuple[Row, ...]
    speed: Speed
    basis: int = 0
    extra: tuple[float, float, float, float] | None = None


@dataclass(frozen=True)
class Architecture:
    """Coefficients of one architecture; models with the same shape share it."""

    layers: int
    vocab: int
    hidden: int
    chunks: int
    parameters: int
    per_rank: int
    prompt: int
    fused_loss: bool
    weights: Mapping[str, float]
    linears: Mapping[str, tuple[int, int]]
    cells: Mapping[int, Cell]


@dataclass(frozen=True)
class GpuFigures:
    """What the formulas need of one card. Rates are what training reaches, not what the data sheet promises."""

    usable_bytes: float
    context_bytes: float
    matmul_flops: float | None = None
    attention_flops: float | None = None
    bandwidth: float | None = None
    kernel_seconds: float | None = None
    launch_seconds: float | None = None
    layer_seconds: float | None = None
    measured: bool = False

    @property
    def rates(self) -> tuple[float, float, float, float, float, float] | None:
        """Everything that the time of a step takes, or None where some of it is not known."""
        matmul, attention, bandwidth = self.matmul_flops, self.attention_flops, self.bandwidth
        kernel, launch, layer = self.kernel_seconds, self.launch_seconds, self.layer_seconds
        if not matmul or not attention or not bandwidth or not kernel or not launch or not layer:
            return None
        return matmul, attention, bandwidth, kernel, launch, layer


@dataclass(frozen=True)
class Coefficients:
    """The whole published table."""

    sets: tuple[CoefficientSet, ...]
    architectures: tuple[Architecture, ...]
    models: Mapping[str, int]
    gpus: Mapping[str, GpuFigures]
    pace: tuple[float, float] = (1.0, 1.0)
    stand_ins: Mapping[str, Architecture] = field(default_factory=dict)
    """Hub id of a model that needs its repository's code → what is measured in its place (``stand_in.py``); this is not
    published."""

    def set_index(self, case: Case) -> int:
        """Index of the case's set. Raises NotEstimable for a combination that no recipe has."""
        wanted = set_id(case.recipe, case.method, case.gradient_checkpointing)
        index = self._index_of.get(wanted)
        if index is None:
            raise NotEstimable(f"no recipe has {wanted}")
        return index

    @cached_property
    def _index_of(self) -> Mapping[str, int]:
        return {entry.id: index for index, entry in enumerate(self.sets)}


@dataclass(frozen=True)
class Answer:
    """One evaluation, all in bytes and seconds, before intervals."""

    allocated: float
    reserved: float
    cap: float
    breakdown: dict[Part, float]
    step_seconds: float | None
    basis: int
    pace: Pace | None = None
    """Whether the card or the processor that launches its kernels takes longer."""
    work: Work | None = None


def speed_band(bands: Mapping[str, Any], pace: Pace | None, known: bool) -> Any:
    """The interval of the speed. Where the processor sets it, it is wider, unless its pace is ``known``.

    Twin: ``speedBand``.
    """
    name = "speed" if pace != "processor" else "launch" if known else "processor"
    return bands.get(name, bands["speed"])


def set_id(recipe: str, method: str, checkpointing: bool) -> str:
    return f"{recipe}/{method}/{'on' if checkpointing else 'off'}"


def chunk_tokens(tokens: int, chunks: int) -> int:
    """Tokens per chunk of the fused loss: next power of two of tokens/chunks, at most all tokens (Liger 0.8)."""
    wanted = -(-tokens // chunks)
    chunk = 1
    while chunk < wanted:
        chunk *= 2
    return min(chunk, tokens)


def evaluate(
    entry: CoefficientSet,
    architecture: Architecture,
    cell: Cell,
    case: Case,
    gpu: GpuFigures | None = None,
) -> Answer:
    """Memory (bytes) and, with ``gpu``, time (seconds) of one training step at the case's pace of the processor.

    Twin: ``evaluate`` in estimate.mjs.
    """
    u = ROW_UNITS
    seq = case.seq_len + entry.virtual_tokens
    tokens = case.micro_batch * seq
    pairs = tokens * seq
    chunk = chunk_tokens(tokens, architecture.chunks)
    rank, per_rank = float(case.lora_rank), float(architecture.per_rank)
    untargeted = in_layer = 0.0
    share = modules = 1.0
    if entry.trained == "adapters" and case.lora_targets != "all-linear":
        total = inputs = kept = names = all_parameters = 0.0
        for name, (parameters, width) in architecture.linears.items():
            total += width
            all_parameters += parameters
            if name in case.lora_targets:
                kept += parameters
                inputs += width
                names += 1.0
        rank = rank * kept / per_rank
        share, modules = kept / all_parameters, names / len(architecture.linears)
        untargeted = (total - inputs) * entry.target_bytes
        in_layer = (total - inputs) * entry.layer_target_bytes / architecture.layers
        per_rank = kept
    peak, alive = 0.0, 0.0
    for row in cell.rows:
        value = row[0] * u[0]
        value += row[1] * u[1] * rank
        value += row[2] * u[2] * tokens
        value += row[3] * u[3] * rank * tokens
        value += row[4] * u[4] * pairs
        value += row[5] * u[5] * chunk
        value -= (untargeted + row[6] * in_layer) * tokens
        if value > peak:
            peak, alive = value, row[6]

    weights = architecture.weights[entry.weights] * u[0]
    if entry.trained == "all":
        trained = float(architecture.parameters)
        adapters = 0.0
    else:
        trained = per_rank * case.lora_rank if entry.trained == "adapters" else float(architecture.prompt)
        adapters = trained * entry.parameter_bytes
    optimizer = trained * entry.optimizer_bytes
    rest = peak - weights - adapters - optimizer
    gradients = min(trained * entry.gradient_bytes, max(rest, 0.0)) if alive else 0.0
    rest -= gradients
    full_logits = architecture.vocab * entry.logit_bytes * tokens
    logits = 0.0 if alive else min(full_logits, max(rest, 0.0))
    rest -= logits
    breakdown: dict[Part, float] = {
        "weights": weights, "adapters": adapters, "gradients": gradients, "optimizer": optimizer,
        "activations": rest, "logits": logits, "other": 0.0,
    }  # fmt: skip
    if cell.extra is not None:
        cap = max(peak + (cell.extra[0] * u[0] + cell.extra[1] * u[2] * tokens), peak)
        reserved = max(peak + (cell.extra[2] * u[0] + cell.extra[3] * u[2] * tokens), cap)
    else:
        cap = max(entry.cap[0] + entry.cap[1] * peak + entry.cap[2] * full_logits, peak)
        reserved = max(entry.reserved[0] + entry.reserved[1] * peak + entry.reserved[2] * full_logits, cap)
    s, v = cell.speed, SPEED_UNITS
    moved = s[2] * v[2] + (s[3] * v[3] - s[5] * v[5] * (1.0 - share)) * tokens
    moved += per_rank * entry.rank_bytes * (case.lora_rank - WORK_RANK)
    fused = entry.loss_bytes > 0.0 and architecture.fused_loss
    head = float(architecture.vocab * architecture.hidden) if fused else 0.0
    turns = -(-tokens // chunk) if fused else 0
    work = Work(
        matmul=s[0] * v[0] * tokens,
        attention=s[1] * v[1] * pairs,
        moved=moved,
        launches=s[4] * v[4] - s[6] * v[6] * (1.0 - modules) + s[7] * v[7] * seq,
        layers=architecture.layers,
        loss_flops=head * (6.0 if entry.trained == "all" else 4.0) * tokens,
        loss_moved=head * entry.loss_bytes * turns + (LOGIT_BYTES * architecture.vocab * tokens if fused else 0.0),
        loss_launches=entry.loss_launches * turns,
        update_moved=trained * entry.update_bytes,
    )
    seconds: float | None = None
    pace: Pace | None = None
    rates = gpu.rates if gpu is not None else None
    if rates is not None:
        factors = entry.factors.get("closed" if cell.extra is None else "traced", (1.0, 1.0))
        seconds, pace = time_step(work, factors, rates, case.processor_pace or 1.0)
    return Answer(peak, reserved, cap, breakdown, seconds, cell.basis, pace, work)
