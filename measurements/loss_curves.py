"""Do `stock` and `lean` train alike? The same small model, seed and batches with both, step by step.

A small model of the same architecture (a config cut to its first layers, random weights drawn from a seed) is trained
on real text, the repository's own in English and Chinese as UTF-8 bytes, once per recipe and method. Dropout is off, so
nothing but rounding differs. How much rounding alone does is measured too: `stock` once more with the rows of every
batch in reverse order, which is the same sum in another order.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from . import recipes, workload
from .cells import Cell, read_config
from .environment import describe_environment
from .result import digest, find_shape_errors, slug

STEPS = 60
TOLERANCE = 0.005  # of the loss, on average over the steps
RATES = {"full": 5e-4, "full_bf16_adam8bit": 5e-4}  # learning rates; others below
LORA_RATE = 2e-3
WARM_UP = 10  # steps in which the learning rate grows
SEED = 1

CURVES: dict[str, Any] = {
    "schema": "int",
    "model": "text",
    "layers": "count",
    "method": "method",
    "micro_batch": "count",
    "seq_len": "count",
    "steps": "count",
    "gradient_checkpointing": "bool",
    "learning_rate": "number",
    "text_sha256": "text",
    "stock": "seconds",  # mean loss per token of each step, nats
    "lean": "seconds",
    "stock_reordered": "seconds?",
    "mean_difference": "duration",  # of |lean - stock| / stock over the steps
    "max_difference": "duration",
    "mean_noise": "duration?",  # of |stock_reordered - stock| / stock: what rounding alone does
    "final_difference": "text",  # of the mean of the last ten steps, signed, in percent
    "agree": "bool",  # mean_difference within the tolerance
    "tolerance": "number",
    "environment": dict.fromkeys(
        (
            *("gpu_id", "gpu_name", "driver", "cuda", "torch", "transformers", "peft", "accelerate", "bitsandbytes"),
            *("liger_kernel", "python", "git_commit", "recipe_hash"),
        ),
        "text?",
    )
    | {"date": "date"},
}


def read_text(root: Path) -> bytes:
    """The repository's own English and Chinese words, in a fixed order. Raises FileNotFoundError without any."""
    paths = [path for path in (root / "README.md", root / "README.zh.md", root / "CONTRIBUTING.md") if path.exists()]
    paths += sorted((root / "catalog").rglob("*.yaml"))
    if not paths:
        raise FileNotFoundError(f"{root}: no text to train on")
    return b"\n".join(path.read_bytes() for path in paths)


def make_batches(text: bytes, steps: int, batch: int, seq: int, device: torch.device) -> list[dict[str, torch.Tensor]]:
    """Windows at places drawn from a seed, the same on every machine: token ids are the bytes themselves."""
    generator = torch.Generator().manual_seed(SEED)
    data = torch.frombuffer(bytearray(text), dtype=torch.uint8).long()
    batches = []
    for _ in range(steps):
        starts = torch.randint(0, len(data) - seq, (batch,), generator=generator).tolist()
        tokens = torch.stack([data[start : start + seq] for start in starts]).to(device)
        batches.append({"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": tokens.clone()})
    return batches


def train(cell: Cell, layers: int, batches: list[dict[str, torch.Tensor]], device: torch.device) -> list[float]:
    """Losses of a run, one per batch, through the recipe's own functions."""
    dtype = recipes.choose_compute_dtype(device)
    config = workload.read_model_config(read_config(cell.model)["config"], layers)
    torch.manual_seed(SEED)
    base = workload.build_model(config, cell.weights, device, dtype)
    with recipes.prepared_base(base, cell.recipe, cell.weights) as prepared_base:
        torch.manual_seed(SEED)
        model = recipes.attach_method(prepared_base, cell)
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        accelerator = recipes.make_accelerator(device, dtype)
        prepared, optimizer = accelerator.prepare(model, recipes.make_optimizer(model, cell.method))
        rate = RATES.get(cell.method, LORA_RATE)
        losses = []
        for number, batch in enumerate(batches, 1):
            for group in optimizer.param_groups:
                group["lr"] = rate * min(1.0, number / WARM_UP)
            losses.append(recipes.train_step(accelerator, prepared, optimizer, batch))
        values = [float(loss) for loss in losses]
        accelerator.free_memory()
        recipes.detach_method(model, prepared_base, cell)
    return values


def differ(one: list[float], other: list[float]) -> list[float]:
    """Relative difference of each step."""
    return [abs(a - b) / a for a, b in zip(one, other, strict=True)]


def compare(
    model: str, method: str, layers: int, device: torch.device, root: Path, *, steps: int = STEPS, again: bool = True
) -> dict[str, Any]:
    """Both recipes trained on the same text; the record that is written. Raises PlanError without the config."""
    cell = Cell(model, "stock", method, 4, 512)
    if method.startswith("full"):
        cell = replace(cell, lora_rank=None, lora_targets=None)
    text = read_text(root)
    batches = make_batches(text, steps, cell.micro_batch, cell.seq_len, device)
    stock = train(cell, layers, batches, device)
    lean = train(replace(cell, recipe="lean"), layers, batches, device)
    reordered = [{name: tensor.flip(0) for name, tensor in batch.items()} for batch in batches]
    twice = train(cell, layers, reordered, device) if again else None
    return describe(cell, layers, text, (stock, lean, twice), device)


def describe(
    cell: Cell,
    layers: int,
    text: bytes,
    runs: tuple[list[float], list[float], list[float] | None],
    device: torch.device,
) -> dict[str, Any]:
    """The record of the three runs: stock, lean, stock reordered."""
    stock, lean, twice = runs
    apart = differ(stock, lean)
    last = [sum(run[-10:]) for run in (stock, lean)]
    mean = sum(apart) / len(apart)
    known = describe_environment(device)
    return {
        "schema": 1,
        "model": cell.model,
        "layers": layers,
        "method": cell.method,
        "micro_batch": cell.micro_batch,
        "seq_len": cell.seq_len,
        "steps": len(stock),
        "gradient_checkpointing": cell.gradient_checkpointing,
        "learning_rate": RATES.get(cell.method, LORA_RATE),
        "text_sha256": digest(text.decode(errors="replace")),
        "stock": [round(value, 6) for value in stock],
        "lean": [round(value, 6) for value in lean],
        "stock_reordered": [round(value, 6) for value in twice] if twice else None,
        "mean_difference": round(mean, 8),
        "max_difference": round(max(apart), 8),
        "mean_noise": round(sum(differ(stock, twice)) / len(stock), 8) if twice else None,
        "final_difference": f"{(last[1] / last[0] - 1) * 100:+.4f} %",
        "agree": mean <= TOLERANCE,
        "tolerance": TOLERANCE,
        "environment": {key: known[key] for key in CURVES["environment"]},
    }


def write(data: dict[str, Any], results: Path) -> Path:
    """Write a record as ``results/curves/<gpu>--<model>--<method>--<hash>.json``. Raises ValueError."""
    if errors := find_shape_errors(CURVES, data):
        raise ValueError("; ".join(errors))
    folder = results / "curves"
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{data['environment']['gpu_id']}--{slug(data['model'])}--{data['method']}--{digest(data)[:12]}"
    handle, temporary = tempfile.mkstemp(prefix=".", suffix=".part", dir=folder)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    Path(temporary).chmod(0o644)
    return Path(temporary).replace(folder / f"{stem}.json")


def run(
    model: str, layers: int, methods: list[str], device: torch.device, results: Path, limit_seconds: float | None
) -> int:
    """Compare each method and say what came out; the reordered run is left out when time is short."""
    begin = time.monotonic()
    for number, method in enumerate(methods):
        spent = time.monotonic() - begin
        again = limit_seconds is None or spent < limit_seconds * (number + 1) / (len(methods) + 1)
        data = compare(model, method, layers, device, Path(__file__).parent.parent, again=again)
        path = write(data, results)
        print(
            f"{path}: {data['steps']} steps, stock {data['stock'][0]:.3f} to {data['stock'][-1]:.3f}, mean difference "
            f"{data['mean_difference']:.4%}, max {data['max_difference']:.4%}, noise {data['mean_noise']}, "
            f"{'agree' if data['agree'] else 'DO NOT AGREE'}, {time.monotonic() - begin - spent:.1f} s",
            flush=True,
        )
    return 0
