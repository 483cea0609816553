"""The published table: coefficients of every known model and card, traced or in closed form, with the fit folded in."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from .architecture import Shape, UnknownArchitecture, describe
from .estimate import BASES, ROW_UNITS, Architecture, Cell, Coefficients, CoefficientSet, GpuFigures, Row
from .estimate_closed import (
    UNFUSED_LOGIT_BYTES,
    WITHOUT_CHECKPOINTING,
    approximate,
    loop_launches,
    make_sets,
    quantise_speed,
    shorten_row,
    supports,
)
from .records import GIB, GpuEntry, HubFacts
from .stand_in import stand_in, with_own_adapters

CONTEXT_BYTES = 0.6 * GIB
"""CUDA context of a training process, seen on H100 and H200; other cards are assumed to need as much."""
MATMUL_SHARE, ATTENTION_SHARE, BANDWIDTH_SHARE = 0.6, 0.35, 0.7
"""Shares of a card's published rates that training reaches, before a fit on measured runs replaces them."""
KERNEL_SECONDS, LAUNCH_SECONDS, LAYER_SECONDS = 2e-6, 35e-6, 3e-3
CLOSED = BASES.index("closed")
FITTED = ("cap", "reserved", "bands", "factors")
"""Fields of a set that ``fit`` writes; its other values belong to cells."""


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
        shares.get("kernel_seconds", KERNEL_SECONDS), shares.get("launch_seconds", LAUNCH_SECONDS),
        shares.get("layer_seconds", LAYER_SECONDS),
    )  # fmt: skip


def read_json(path: Path) -> dict[str, Any]:
    """A committed JSON object, or an empty one where the file does not exist yet."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def build_coefficients(
    facts: Iterable[HubFacts],
    gpus: Iterable[GpuEntry],
    calibration: Mapping[str, Any] | None = None,
    traced: Mapping[str, Mapping[str, Any]] | None = None,
) -> tuple[Coefficients, dict[str, Shape]]:
    """The table for every model whose shape is known, and the shapes by Hub id. Equal shapes share one entry.

    ``traced`` are the files of ``catalog/traced`` by shape key; what they lack is estimated in closed form. A model
    that needs its repository's code has the traces of its stand-in, with the wider interval of the closed form: whether
    that code keeps what the stand-in keeps is not known.
    """
    sets = calibrate_sets(make_sets(), calibration or {})
    fitted = (calibration or {}).get("sets", {})
    architectures: list[Architecture] = []
    stand_ins: dict[str, Architecture] = {}
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
            architectures.append(build_architecture(shape, sets, fitted, traced or {}))
        models[item.hub_id] = index_of[key]
        shapes[item.hub_id] = shape
        config = stand_in(shape)
        if config is not None:
            stand_ins[item.hub_id] = build_architecture(describe(config), sets, fitted, traced or {})
    figures = {gpu.id: gpu_figures(gpu, calibration) for gpu in gpus}
    low, high = (calibration or {}).get("pace", (1.0, 1.0))
    return Coefficients(sets, tuple(architectures), models, figures, (low, high), stand_ins), shapes


def traced_shape(shape: Shape) -> Shape:
    """The shape whose traces a model has: its own, or its stand-in's."""
    config = stand_in(shape)
    return describe(config) if config is not None else shape


def build_architecture(
    shape: Shape,
    sets: tuple[CoefficientSet, ...],
    fitted: Mapping[str, Mapping[str, Any]],
    traced: Mapping[str, Mapping[str, Any]],
) -> Architecture:
    """One architecture in every set that it has."""
    source = traced_shape(shape)
    known = {
        name: traced_cell(values)
        for name, values in traced.get(shape_key(source), {}).get("sets", {}).items()
        if "rows" in values and supports(shape, name)
    }
    known = {name: with_branches(name, cell, known, source) for name, cell in known.items()}
    entry = approximate(shape, sets, known)
    cells: dict[int, Cell] = {}
    for i, item in enumerate(sets):
        if item.id in known:
            cell = fold_fit(known[item.id], fitted.get(item.id, {}), item, entry)
            cells[i] = cell if source is shape else replace(with_own_adapters(cell, shape, item), basis=CLOSED)
        elif i in entry.cells:
            cells[i] = fold_fit(entry.cells[i], fitted.get(item.id, {}), item, entry)
    return replace(entry, cells=cells)


def fold_fit(cell: Cell, values: Mapping[str, Any], entry: CoefficientSet, architecture: Architecture) -> Cell:
    """A cell with what was fitted for the memory of its set: rows of the closed form corrected."""
    if cell.basis != CLOSED or "rows" not in values:
        return cell
    return replace(cell, rows=tuple(correct_rows(row, values["rows"], entry, architecture) for row in cell.rows))


def traced_cell(values: Mapping[str, Any]) -> Cell:
    """A cell as it was traced; nothing of its memory is fitted."""
    points = values["allocator"]
    extra = (*line([(p[0], p[2] - p[1]) for p in points]), *line([(p[0], p[3] - p[1]) for p in points]))
    units = (ROW_UNITS[0], ROW_UNITS[2]) * 2
    scaled = tuple(float(f"{value / unit:.3g}") for value, unit in zip(extra, units, strict=True))
    rows = tuple(dict.fromkeys(shorten_row(row) for row in values["rows"]))
    return Cell(rows, quantise_speed((*values["speed"], 0.0, 0.0, 0.0)), 0, scaled)  # type: ignore[arg-type]


def with_branches(name: str, cell: Cell, known: Mapping[str, Cell], shape: Shape) -> Cell:
    """A traced cell with what its adapters alone move and launch, which is what it does beyond prompt-tuning, the same
    model without adapters; and with the launches of its loops over the length."""
    recipe, method, checkpointing = name.split("/")
    on = checkpointing == "on"
    speed = (*cell.speed[:5], 0.0, 0.0, float(f"{loop_launches(shape, on):.3g}"))
    bare, lora = known.get(f"{recipe}/prompt_tuning/on"), known.get(f"{recipe}/lora/on")
    own = known.get(f"{recipe}/{method}/on")
    if "lora" in method or method == "dora":
        branches = launches = 0.0
        if bare and lora and own:
            branches = cell.speed[3] * max(1.0 - bare.speed[3] / own.speed[3], 0.0)
            source = own if method == "dora" else lora
            launches = max(source.speed[4] - bare.speed[4], 0.0) * (1.0 if on else WITHOUT_CHECKPOINTING)
        speed = (*speed[:5], float(f"{branches:.3g}"), float(f"{min(launches, cell.speed[4]):.3g}"), speed[7])
    return replace(cell, speed=speed)


def line(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """(constant, slope) through the first and the last point; what falls with the length counts as constant."""
    (x0, y0), (x1, y1) = points[0], points[-1]
    slope = (y1 - y0) / (x1 - x0) if x1 > x0 else 0.0
    return (y0 - slope * x0, slope) if slope > 0 else (max(y0, y1), 0.0)


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
    """Digest of everything in a shape that decides memory and speed: of its `repr`, in which every layer is written out
    (each different one is put into words once)."""
    import hashlib

    outline = repr(replace(shape, tower_parameters=0, layers=()))
    words = {key: repr(layer) for key, layer in {id(layer): layer for layer in shape.layers}.items()}
    layers = ", ".join(words[id(layer)] for layer in shape.layers) + ("," if len(shape.layers) == 1 else "")
    return hashlib.sha256(outline.replace("layers=()", f"layers=({layers})", 1).encode()).hexdigest()[:16]


def calibrate_sets(sets: Sequence[CoefficientSet], calibration: Mapping[str, Any]) -> tuple[CoefficientSet, ...]:
    """Sets with the fitted cap, reserve, speed factor and bands where ``fit`` has written them."""
    fitted = calibration.get("sets", {})
    changed = []
    for entry in sets:
        values = {name: value for name, value in fitted.get(entry.id, {}).items() if name in FITTED}
        for name in ("cap", "reserved"):
            if name in values:
                values[name] = tuple(values[name])
        if "factors" in values:
            values["factors"] = {basis: (pair[0], pair[1]) for basis, pair in values["factors"].items()}
        if "bands" in values:
            values["bands"] = {
                basis: {**entry.bands[basis], **{k: (v[0], v[1]) for k, v in bands.items()}}
                for basis, bands in {**entry.bands, **values["bands"]}.items()
            }
        changed.append(replace(entry, **values))
    return tuple(changed)
