"""The memory and speed of a training step as a short sum, evaluated alike in Python and in the browser.

Everything hard (architecture, dtypes, adapters, optimiser states, checkpointing, kernels) is done before, in closed
form (``estimate_closed.py``), and corrected by measurement (``calibrate.py``). What is left are *rows*. Each row is one
moment of a step at which memory can peak; the peak is the largest row:

    row   = fixed·u0 + per_rank·u1·rank + per_token·u2·T + per_rank_token·u3·rank·T
            + per_pair·u4·micro_batch·seq² + per_chunk·u5·chunk
    T     = micro_batch·seq,   seq = seq_len + the set's virtual tokens
    chunk = smallest power of two ≥ ceil(T / chunks), at most T    (tokens per chunk of a fused loss)

``u0…u5`` are ``ROW_UNITS`` (bytes), so that coefficients are short integers. ``docs/assets/js/estimate.mjs`` is the
twin of ``evaluate``: same operations, same order, so both give the same doubles (``tests/vectors/estimate.json``).

The published file ``/api/v1/coefficients.json`` (version 1):

    version, row_units, speed_units
    sets           list of {id: "recipe/method/on|off" (checkpointing), weights, trained: all|adapters|prompt,
                   parameter_bytes, gradient_bytes, optimizer_bytes (per trained parameter), logit_bytes,
                   virtual_tokens,
                   reserved: [constant, factor, per logit byte], cap: the same for min_cap,
                   target_bytes (per untargeted input and token), layer_target_bytes (the same, of one layer, where
                   the peak is the backward pass of a layer), speed_factor,
                   bands: {basis: {allocated|cap|reserved|speed|launch: [low, high]}}}; launch: of the speed where
                   launching the kernels takes longer than the card's work
    architectures  list of {layers, vocab, hidden, chunks, parameters, per_rank, prompt, weights: {kind: bytes / u0},
                   linears: {module name: [parameters per rank, inputs], both summed over layers},
                   cells: {set index: [rows, speed, basis] or [rows, speed, basis, extra]}}
                   row = [fixed, per_rank, per_token, per_rank_token, per_pair, per_chunk, gradients alive 0|1]
                   speed = [matmul FLOPs per token, attention FLOPs per pair, bytes, bytes per token, launches]
                   basis = index into ["estimated", "interpolated", "closed"]
                   extra = beyond the peak, in place of the set's factors where it is known: [smallest cap, the same
                   per token, reserved, the same per token], in units u0 and u2; never less than 0
    models         {Hub id: index of its architecture}
    gpus           {GPU id: {usable_bytes, context_bytes, matmul_flops, attention_flops, bandwidth, launch_seconds,
                   ramp_tokens, measured}}; speed fields are null where the card's figures are not known

A set missing from ``cells`` cannot be run with that architecture (no Liger kernels, say). Sizes are bytes, times are
seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import sqrt
from typing import Any, Literal

from .records import Case, Pace

VERSION = 1
ROW_UNITS = (65536.0, 1024.0, 16.0, 1.0, 1.0, 64.0)
SPEED_UNITS = (1e6, 1.0, 1e6, 1e3, 1.0)
BASES = ("estimated", "interpolated", "closed")

Row = tuple[float, float, float, float, float, float, float]
Speed = tuple[float, float, float, float, float]
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
    speed_factor: float = 1.0
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
    launch_seconds: float | None = None
    ramp_tokens: float = 0.0
    measured: bool = False


@dataclass(frozen=True)
class Coefficients:
    """The whole published table."""

    sets: tuple[CoefficientSet, ...]
    architectures: tuple[Architecture, ...]
    models: Mapping[str, int]
    gpus: Mapping[str, GpuFigures]
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


def speed_band(bands: Mapping[str, Any], pace: Pace | None) -> Any:
    """The interval of the speed: what the processor sets the pace of is much less certain. Twin: ``speedBand``."""
    return bands["launch"] if pace == "processor" and "launch" in bands else bands["speed"]


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
    """Memory (bytes) and, with ``gpu``, time (seconds) of one training step. Twin: ``evaluate`` in estimate.mjs."""
    u = ROW_UNITS
    seq = case.seq_len + entry.virtual_tokens
    tokens = case.micro_batch * seq
    pairs = tokens * seq
    chunk = chunk_tokens(tokens, architecture.chunks)
    rank, per_rank = float(case.lora_rank), float(architecture.per_rank)
    untargeted = in_layer = 0.0
    if entry.trained == "adapters" and case.lora_targets != "all-linear":
        total = inputs = kept = 0.0
        for name, (parameters, width) in architecture.linears.items():
            total += width
            if name in case.lora_targets:
                kept += parameters
                inputs += width
        rank = rank * kept / per_rank
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
    seconds: float | None = None
    pace: Pace | None = None
    if gpu is not None and gpu.matmul_flops and gpu.attention_flops and gpu.bandwidth and gpu.launch_seconds:
        s, v = cell.speed, SPEED_UNITS
        matmul = s[0] * v[0] * tokens / gpu.matmul_flops * (1.0 + gpu.ramp_tokens / tokens)
        attention = s[1] * v[1] * pairs / gpu.attention_flops
        traffic = (s[2] * v[2] + s[3] * v[3] * tokens) / gpu.bandwidth
        busy = (matmul + attention + traffic) * entry.speed_factor
        busy = busy * busy
        launch = s[4] * v[4] * gpu.launch_seconds
        launch = launch * launch
        seconds = sqrt(sqrt(busy * busy + launch * launch))
        pace = "processor" if launch > busy else "gpu"
    return Answer(peak, reserved, cap, breakdown, seconds, cell.basis, pace)


def to_json(table: Coefficients) -> dict[str, Any]:
    """The published form of the table; see the module's docstring."""
    return {
        "version": VERSION,
        "row_units": list(ROW_UNITS),
        "speed_units": list(SPEED_UNITS),
        "bases": list(BASES),
        "sets": [
            {
                **{name: getattr(entry, name) for name in _SET_FIELDS},
                "reserved": list(entry.reserved),
                "cap": list(entry.cap),
                "bands": {basis: {k: list(v) for k, v in bands.items()} for basis, bands in entry.bands.items()},
            }
            for entry in table.sets
        ],
        "architectures": [
            {
                **{name: getattr(item, name) for name in _ARCHITECTURE_FIELDS},
                "weights": {k: _short(v) for k, v in item.weights.items()},
                "linears": {k: list(v) for k, v in item.linears.items()},
                "cells": {
                    str(index): [
                        [[_short(x) for x in row] for row in cell.rows],
                        [_short(x) for x in cell.speed],
                        cell.basis,
                        *([[_short(x) for x in cell.extra]] if cell.extra else []),
                    ]
                    for index, cell in item.cells.items()
                },
            }
            for item in table.architectures
        ],
        "models": dict(table.models),
        "gpus": {key: vars(gpu) for key, gpu in table.gpus.items()},
    }


_SET_FIELDS = (
    "id", "weights", "trained", "parameter_bytes", "gradient_bytes", "optimizer_bytes", "logit_bytes",
    "virtual_tokens", "target_bytes", "layer_target_bytes", "speed_factor",
)  # fmt: skip
_ARCHITECTURE_FIELDS = ("layers", "vocab", "hidden", "chunks", "parameters", "per_rank", "prompt")


def _short(value: float) -> float | int:
    return int(value) if float(value).is_integer() else value


def from_json(data: Mapping[str, Any]) -> Coefficients:
    """The table behind its published form. Raises NotEstimable for another version."""
    if data.get("version") != VERSION:
        raise NotEstimable(f"coefficients are version {data.get('version')}, this reads version {VERSION}")
    sets = tuple(
        CoefficientSet(
            **{name: entry[name] for name in _SET_FIELDS},
            reserved=tuple(entry["reserved"]),
            cap=tuple(entry["cap"]),
            bands={basis: {k: (v[0], v[1]) for k, v in bands.items()} for basis, bands in entry["bands"].items()},
        )
        for entry in data["sets"]
    )
    architectures = tuple(
        Architecture(
            **{name: item[name] for name in _ARCHITECTURE_FIELDS},
            weights=item["weights"],
            linears={k: (v[0], v[1]) for k, v in item["linears"].items()},
            cells={
                int(index): Cell(
                    tuple(tuple(row) for row in rows), tuple(speed), basis, tuple(extra[0]) if extra else None
                )
                for index, (rows, speed, basis, *extra) in item["cells"].items()
            },
        )
        for item in data["architectures"]
    )
    gpus = {key: GpuFigures(**value) for key, value in data["gpus"].items()}
    return Coefficients(sets, architectures, data["models"], gpus)
