"""The estimate for many models, cases and cards at once, in NumPy; the same sum as ``estimate.evaluate``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .estimate import LOGIT_BYTES, ROW_UNITS, SPEED_UNITS, WORK_RANK, Coefficients
from .records import Case


def evaluate_many(
    table: Coefficients, hub_ids: Sequence[str], cases: Sequence[Case], gpu_ids: Sequence[str] = ()
) -> dict[str, np.ndarray[Any, Any]]:
    """Every model × case (× GPU): ``allocated``, ``cap`` [models, cases], ``tokens_per_second`` [models, cases, gpus].

    NaN where there are no coefficients. Adapters are on all linear layers.
    """
    sets = [table.set_index(case) for case in cases]
    architectures = [table.architectures[table.models[hub_id]] for hub_id in hub_ids]
    depth = max((len(c.rows) for a in architectures for c in a.cells.values()), default=1)
    rows = np.full((len(hub_ids), len(cases), depth, 6), np.nan)
    speed = np.full((len(hub_ids), len(cases), len(SPEED_UNITS)), np.nan)
    entries = [table.sets[index] for index in sets]
    extra = np.full((len(hub_ids), len(cases), 2), np.nan)
    factors = np.ones((len(hub_ids), len(cases), 2))
    trained = np.zeros((len(hub_ids), len(cases)))
    for i, architecture in enumerate(architectures):
        for j, index in enumerate(sets):
            cell = architecture.cells.get(index)
            if cell is not None:
                rows[i, j] = [row[:6] for row in cell.rows] + [cell.rows[0][:6]] * (depth - len(cell.rows))
                speed[i, j] = cell.speed
                factors[i, j] = entries[j].factors.get("closed" if cell.extra is None else "traced", (1.0, 1.0))
                if entries[j].trained == "all":
                    trained[i, j] = architecture.parameters
                if cell.extra:
                    extra[i, j] = cell.extra[:2]
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
    above = allocated + (extra[..., 0] * u[0] + extra[..., 1] * u[2] * tokens[None, :])
    cap = np.where(np.isnan(above), cap, np.maximum(above, allocated))
    figures = [table.gpus[gpu] for gpu in gpu_ids]
    rates = np.full((len(hub_ids), len(cases), len(figures)), np.nan)
    done = np.array([c.micro_batch * c.seq_len for c in cases], dtype=float)
    pace = np.array([c.processor_pace or 1.0 for c in cases])
    layers = np.array([a.layers for a in architectures], dtype=float)[:, None]
    branches = np.array([a.per_rank for a in architectures], dtype=float)[:, None]
    beyond = np.array([e.rank_bytes * (c.lora_rank - WORK_RANK) for c, e in zip(cases, entries, strict=True)])
    heads = vocab[:, None] * np.array([a.hidden for a in architectures], dtype=float)[:, None]
    fused = np.array([a.fused_loss for a in architectures])[:, None] & np.array([e.loss_bytes > 0 for e in entries])
    turns = np.where(fused, np.ceil(tokens[None, :] / chunk), 0.0)
    names = ("loss_bytes", "loss_launches", "update_bytes")
    loss_bytes, loss_launches, update_bytes = (np.array([getattr(e, name) for e in entries]) for name in names)
    passes = np.array([6.0 if e.trained == "all" else 4.0 for e in entries])
    launches = speed[..., 4] * v[4] + speed[..., 7] * v[7] * seq
    moved = speed[..., 2] * v[2] + speed[..., 3] * v[3] * tokens + branches * beyond
    for k, gpu in enumerate(figures):
        if gpu.rates is None:
            continue
        matmul, attention, bandwidth, kernel_seconds, launch_seconds, layer_seconds = gpu.rates
        card = speed[..., 0] * v[0] * tokens / matmul + speed[..., 1] * v[1] * tokens * seq / attention
        card = (card + moved / bandwidth) * factors[..., 0] + launches * kernel_seconds
        host = (launches * launch_seconds + layers * layer_seconds) * factors[..., 1] * pace
        loss = heads * passes * tokens / matmul
        loss += (heads * loss_bytes * turns + LOGIT_BYTES * vocab[:, None] * tokens) / bandwidth
        launched = loss_launches * turns * launch_seconds * pace
        update = trained * update_bytes / bandwidth
        together = (card**8 + host**8) ** 0.125 + np.where(fused, np.maximum(loss, launched), 0.0) + update
        rates[..., k] = done / together
    return {"allocated": allocated, "cap": cap, "tokens_per_second": rates}
