"""The result of measuring one cell, as a JSON file. Standard library only: anyone can check a file without torch.

One cell (model × recipe × method × knobs) measured once is one file, named after its own content, in a folder per GPU:
``results/<gpu-id>/<model>--<recipe>--<method>--<hash>.json``. So results of any number of machines merge by copying,
and sending one twice changes nothing. All sizes are bytes, all times seconds; ``null`` means not known or not
applicable, never zero. What every field means is written once, in ``SHAPE`` below and in ``README.md``.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

SCHEMA = 1
RECIPES = ("stock", "lean")
METHODS = ("full", "full_bf16_adam8bit", "lora", "qlora", "lora_8bit", "dora", "prompt_tuning")
STATUSES = ("ok", "oom", "failed", "skipped")
PHASES = ("forward", "loss", "backward", "step")
STAGES = ("build", "attach", "warm_up", "timed", "min_cap", "release", "waiting", "memory")
PARTS = ("weights", "adapters", "gradients", "optimizer", "activations", "logits", "other")

CURVES = "curves"  # folder of loss curves among those of GPUs
OPTIONAL = (
    *("environment.processes", "environment.spent_seconds"),  # absent from the first results of 2026-11-24
    *("environment.spent_seconds.build", "environment.spent_seconds.memory"),  # absent until 2026-11-25
    "memory.rank_peak_bytes",  # given on several GPUs only
    "speed.undisturbed",  # absent until 2026-11-26: others might compute meanwhile
    "speed.launch_seconds",  # absent until 2026-11-25, and where measured at cut depth
    *("speed.probe_seconds", "speed.gpu_seconds", "speed.kernels"),  # absent until 2026-11-26, and on several GPUs
)

_SIZE = "size?"  # a whole number of bytes, 0 or more, or null
_NUMBER = "number?"  # a finite number above 0, or null

# field: kind. "?" allows null. A nested dict is an object whose keys must all be present and no others.
SHAPE: dict[str, Any] = {
    "schema": "int",
    "cell": {
        "model": "text",  # Hub id
        "config_sha256": "text",  # of the canonical JSON of the config that was built, configs/<slug>.json: "config"
        "architecture": "text",  # the transformers class that was measured
        "stands_for": "text?",  # why another architecture was measured in its place, for remote-code families
        "recipe": "recipe",
        "method": "method",
        "micro_batch": "count",
        "seq_len": "count",
        "gradient_checkpointing": "bool",
        "lora_rank": "count?",  # null for methods without LoRA
        "lora_targets": "targets?",  # "all-linear", or names such as ["q_proj", "v_proj"]
        "gpu_count": "count",
        "sharding": "text?",  # null on one GPU; "fsdp2"
        "repeat": "natural",  # 0; 1, 2 … for the same cell measured again on purpose
    },
    "status": "status",
    "reason": "text?",  # required unless status is ok
    "holdout": "bool",  # set aside before anything was fitted; never fit on it
    "holdout_kind": "text?",  # "cell" (drawn at random) or "model" (every cell of that model)
    "depth": {
        "layers": "count",  # of the real model
        "measured_layers": "counts?",  # depths measured when not the real one
        "extrapolated": "bool",  # memory and time extended linearly in depth, phase by phase
    },
    "parameters": {"total": "natural?", "trainable": "natural?", "active": "natural?"},  # active: per token, of a MoE
    "memory": {
        "peak_allocated_bytes": _SIZE,
        "peak_reserved_bytes": _SIZE,
        "process_bytes": _SIZE,  # what the driver says the process holds, CUDA context included
        "context_bytes": _SIZE,  # process_bytes minus what the allocator reserved at that moment
        "min_cap_bytes": _SIZE,  # smallest allocator cap under which the same steps still finish
        "min_cap_resolution_bytes": _SIZE,  # the next smaller cap tried that failed is this much below
        "load_peak_bytes": _SIZE,  # peak while the model was put on the GPU
        "cap_bytes": _SIZE,  # allocator cap in force; null = the whole card
        "breakdown_bytes": {part: _SIZE for part in PARTS},  # sums to peak_allocated_bytes
        "phase_peak_bytes": {phase: _SIZE for phase in PHASES},  # allocated peak within each phase of a step
        "peak_phase": "text?",
        "rank_peak_bytes": "counts?",  # allocated peak of every rank; the figures above are those of the highest
    },
    "speed": {
        "step_seconds": "seconds?",  # every timed step, in order, after warm-up; of the deepest model measured
        "undisturbed": "bool?",
        "launch_seconds": _NUMBER,  # median, until the processor had launched all work of a step; near the step's own
        # seconds, the GPU waited for the processor and another machine may be faster or slower with the same GPU
        "probe_seconds": _NUMBER,  # median, of a fixed piece of launching between the steps (`timing.Probe`)
        "gpu_seconds": _NUMBER,  # in which the GPU worked on one step, as the profiler saw it; at the real depth
        "kernels": "count?",  # kernels and copies of that step
        "median_step_seconds": _NUMBER,  # at the real depth
        "tokens_per_second": _NUMBER,  # micro_batch × seq_len × gpu_count / median_step_seconds
        "flops_per_step": _NUMBER,  # model FLOPs by `formula`; recomputation is not counted
        "tflops_per_second": _NUMBER,
        "mfu": _NUMBER,  # of peak_tflops
        "peak_tflops": _NUMBER,  # dense bf16 of the card's data sheet
        "formula": "text?",
    },
    "environment": {
        "gpu_id": "text",
        "gpu_name": "text?",
        "gpu_total_bytes": _SIZE,
        "driver": "text?",
        "cuda": "text?",
        "torch": "text?",
        "transformers": "text?",
        "peft": "text?",
        "accelerate": "text?",
        "bitsandbytes": "text?",
        "liger_kernel": "text?",
        "python": "text?",
        "git_commit": "text?",
        "recipe_hash": "text?",  # of the recipe code: a changed recipe makes older results stale
        "compute_dtype": "text?",  # bfloat16; float16 on GPUs without bf16
        "attention": "text?",  # sdpa or eager
        "cells_before": "natural?",  # measured earlier in this process: 0 = context_bytes is that of a fresh process
        "wall_seconds": _NUMBER,  # spent on this cell, its share of building the model left out
        "processes": "count?",  # that shared the GPU; steps are timed while the others wait
        "spent_seconds": {
            stage: "duration?" for stage in STAGES
        },  # where wall_seconds went; build and memory: before it
        "date": "date",
    },
}

GPU_IDS = (  # device name as the driver reports it (lower case), catalogue id; more specific first
    ("h100 80gb hbm3", "h100-sxm-80gb"),
    ("h100 pcie", "h100-pcie-80gb"),
    ("h200", "h200-sxm-141gb"),
    ("a100-sxm4-80gb", "a100-sxm-80gb"),
    ("a100-sxm4-40gb", "a100-sxm-40gb"),
)


class InvalidResult(ValueError):
    """A result that does not have the shape or the sense this module demands; lists every reason."""

    def __init__(self, reasons: list[str]) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = reasons


def identify_gpu(name: str) -> str:
    """Folder name of a GPU from its device name; unknown ones are slugged: ``NVIDIA L4`` → ``nvidia-l4``."""
    lower = name.lower()
    for part, gpu_id in GPU_IDS:
        if part in lower:
            return gpu_id
    return re.sub(r"[^a-z0-9]+", "-", lower).strip("-") or "unknown"


def slug(model: str) -> str:
    """File name part of a Hub id: ``Qwen/Qwen3-8B`` → ``qwen--qwen3-8b``."""
    return re.sub(r"[^a-z0-9.-]+", "-", model.lower().replace("/", "--"))


def canonical(data: Any) -> bytes:
    """The one JSON spelling of ``data`` that hashes are taken of."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest(data: Any) -> str:
    """Hex SHA-256 of ``canonical(data)``."""
    return hashlib.sha256(canonical(data)).hexdigest()


def _kind_error(kind: str, value: Any) -> str | None:
    """Why ``value`` is not of ``kind``, or None."""
    if kind.endswith("?"):
        return None if value is None else _kind_error(kind[:-1], value)
    whole = isinstance(value, int) and not isinstance(value, bool)
    positive = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")
    checks: dict[str, tuple[bool, str]] = {
        "int": (whole, "a whole number"),
        "natural": (whole and value >= 0, "a whole number, 0 or more"),
        "size": (whole and value >= 0, "a whole number of bytes"),
        "count": (whole and value >= 1, "a whole number, 1 or more"),
        "duration": (value == 0 or positive, "seconds, 0 or more"),
        "number": (positive, "a finite number above 0"),
        "bool": (isinstance(value, bool), "true or false"),
        "text": (isinstance(value, str) and bool(value.strip()), "a text that is not empty"),
        "recipe": (value in RECIPES, f"one of {', '.join(RECIPES)}"),
        "method": (value in METHODS, f"one of {', '.join(METHODS)}"),
        "status": (value in STATUSES, f"one of {', '.join(STATUSES)}"),
    }
    if kind == "date":
        try:
            ok = isinstance(value, str) and date.fromisoformat(value).isoformat() == value
        except ValueError:
            ok = False
        good, wanted = ok, "a date, YYYY-MM-DD"
    elif kind in ("counts", "seconds"):
        inner = "count" if kind == "counts" else "number"
        good = isinstance(value, list) and bool(value) and all(_kind_error(inner, item) is None for item in value)
        wanted = "a list of layer counts" if kind == "counts" else "a list of seconds above 0"
    elif kind == "targets":
        names = isinstance(value, list) and bool(value) and all(isinstance(item, str) and item for item in value)
        good, wanted = value == "all-linear" or names, '"all-linear" or a list of module names'
    else:
        good, wanted = checks[kind]
    return None if good else f"expected {wanted}, found {value!r}"


def _shape_errors(shape: dict[str, Any], data: Any, path: str) -> list[str]:
    if not isinstance(data, dict):
        return [f"{path or 'result'}: expected an object, found {data!r}"]
    found = []
    for key in data:
        if key not in shape:
            found.append(f"{path}{key}: unknown field")
    for key, kind in shape.items():
        if key not in data:
            if f"{path}{key}" in OPTIONAL:
                continue
            found.append(f"{path}{key}: missing")
        elif isinstance(kind, dict):
            found += _shape_errors(kind, data[key], f"{path}{key}.")
        elif reason := _kind_error(kind, data[key]):
            found.append(f"{path}{key}: {reason}")
    return found


def find_shape_errors(shape: dict[str, Any], data: Any) -> list[str]:
    """Fields of ``data`` that are missing, unknown or not of the kind that ``shape`` asks for."""
    return _shape_errors(shape, data, "")


def _sense_errors(data: dict[str, Any]) -> list[str]:
    """Contradictions between fields that each have the right shape."""
    found = []
    memory, speed, cell, depth = data["memory"], data["speed"], data["cell"], data["depth"]
    allocated, reserved, process = (memory[f"{tier}_bytes"] for tier in ("peak_allocated", "peak_reserved", "process"))
    if data["schema"] != SCHEMA:
        found.append(f"schema: expected {SCHEMA}, found {data['schema']}")
    if data["status"] == "ok" and speed["median_step_seconds"] is None:
        found.append("speed.median_step_seconds: missing although status is ok")
    if data["status"] != "ok" and data["reason"] is None:
        found.append(f"reason: missing although status is {data['status']}")
    if data["holdout"] != (data["holdout_kind"] is not None) or data["holdout_kind"] not in (None, "cell", "model"):
        found.append('holdout_kind: must be "cell" or "model" when holdout is true, else null')
    if depth["extrapolated"] != (depth["measured_layers"] is not None):
        found.append("depth.measured_layers: must be given exactly when depth.extrapolated is true")
    for low, high, name in ((allocated, reserved, "peak_reserved_bytes"), (reserved, process, "process_bytes")):
        # Reserved and process memory are extended separately when a truncated model was measured: compare loosely.
        if low is not None and high is not None and high < low * (0.98 if depth["extrapolated"] else 1):
            found.append(f"memory.{name}: smaller than the tier below it ({high} < {low})")
    if memory["min_cap_bytes"] is not None and allocated is not None and memory["min_cap_bytes"] < allocated * 0.99:
        found.append("memory.min_cap_bytes: smaller than peak_allocated_bytes")
    parts = list(memory["breakdown_bytes"].values())
    if allocated is not None and None not in parts and sum(parts) != allocated:
        found.append(f"memory.breakdown_bytes: sums to {sum(parts)}, not to peak_allocated_bytes {allocated}")
    if memory["peak_phase"] not in (None, *PHASES):
        found.append(f"memory.peak_phase: expected one of {', '.join(PHASES)}")
    with_lora = cell["method"] in ("lora", "qlora", "lora_8bit", "dora")
    for knob in ("lora_rank", "lora_targets"):
        if (cell[knob] is not None) != with_lora:
            found.append(f"cell.{knob}: must be {'given' if with_lora else 'null'} for {cell['method']}")
    if (cell["gpu_count"] == 1) != (cell["sharding"] is None):
        found.append("cell.sharding: must be given exactly when gpu_count is above 1")
    if speed["median_step_seconds"] and speed["tokens_per_second"]:
        tokens = cell["micro_batch"] * cell["seq_len"] * cell["gpu_count"]
        if abs(tokens / speed["median_step_seconds"] / speed["tokens_per_second"] - 1) > 1e-6:
            found.append("speed.tokens_per_second: not micro_batch × seq_len × gpu_count / median_step_seconds")
    return found


def find_errors(data: Any) -> list[str]:
    """Every reason why ``data`` is not a valid result, as ``field: reason``; empty when it is one."""
    return _shape_errors(SHAPE, data, "") or _sense_errors(data)


def name(data: dict[str, Any]) -> str:
    """File name of a result: readable parts, then 12 hex digits of the hash of the whole content."""
    cell = data["cell"]
    return f"{slug(cell['model'])}--{cell['recipe']}--{cell['method']}--{digest(data)[:12]}.json"


def write(data: dict[str, Any], results: Path) -> Path:
    """Write a result under ``results/<gpu-id>/`` so that a reader, or a kill, never sees half a file.

    Raises InvalidResult when ``data`` is not a valid result, OSError when the folder cannot be written.
    """
    if errors := find_errors(data):
        raise InvalidResult(errors)
    folder: Path = results / data["environment"]["gpu_id"]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name(data)
    handle, temporary = tempfile.mkstemp(prefix=".", suffix=".part", dir=folder)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def read(path: Path) -> dict[str, Any]:
    """One result file. Raises InvalidResult when it is not JSON, not a valid result or not where it says it belongs."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InvalidResult([f"not JSON: {error}"]) from None
    if errors := find_errors(data):
        raise InvalidResult(errors)
    result: dict[str, Any] = data
    if path.name != name(result):
        raise InvalidResult([f"file name: the content asks for {name(result)}"])
    if path.parent.name != result["environment"]["gpu_id"]:
        raise InvalidResult([f"folder: the content asks for {result['environment']['gpu_id']}/"])
    return result


def read_all(results: Path) -> list[dict[str, Any]]:
    """Every result below ``results``, in file order. Raises InvalidResult naming each bad file."""
    found, reasons = [], []
    for path in sorted(results.glob("*/*.json")):
        if path.parent.name == CURVES:
            continue
        try:
            found.append(read(path))
        except InvalidResult as error:
            reasons += [f"{path}: {reason}" for reason in error.reasons]
    if reasons:
        raise InvalidResult(reasons)
    return found
