"""Other calculators on the held-out cells: ``python -m benchmarks.peers`` writes benchmarks/peers.json.

Needs ``pip install fitcheck-llm`` beside the guide; without it that calculator is left out and said so. The other
two are rules that their makers publish, written down here from the pages cited: they see only the size of the
model. fitcheck-llm counts the CUDA context and is held against what the driver charged the process; for full
fine-tuning in fp32 with bf16 autocast, which it does not know, it is asked in both precisions and its better answer
counts; `lean` runs are left out, as it knows no fused loss. The others are held against the allocated peak, the
lowest of the memory tiers, which favours those that say too little. Only held-out cells count, for the guide as for the
others. No test and no page needs any of them installed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

from generator.accuracy import locate, usable
from generator.calibrate import write_calibration
from generator.dataset import load_dataset
from generator.estimate import evaluate
from generator.estimate_command import build_estimator
from generator.records import Run

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "peers.json"
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class Refused(ValueError):
    """The calculator has no answer for this cell."""


def ask_rule_of_four(parameters: int, run: Run) -> float:
    """accelerate: training with Adam takes four times the model in the dtype it is trained in."""
    if run.case.method not in ("full", "full_bf16_adam8bit"):
        raise Refused("the rule is about training all weights")
    return 4.0 * parameters * (4 if run.case.method == "full" else 2)


def ask_table(parameters: int, run: Run) -> float:
    """LLaMA-Factory's table, its column for x billion parameters, in GB."""
    per_billion = {"full": 18, "full_bf16_adam8bit": 8, "lora": 2, "lora_8bit": 1, "qlora": 0.5}.get(run.case.method)
    if per_billion is None:
        raise Refused("the table has no row for this method")
    return per_billion * parameters


def ask_fitcheck(config: dict[str, Any], run: Run) -> float:
    """fitcheck-llm's own estimator, given the same config.json and knobs; bytes with its overhead."""
    if run.case.method != "full":
        return _ask_fitcheck(config, run, "bf16")
    measured = process_bytes(run)
    return min((_ask_fitcheck(config, run, x) for x in ("fp32", "bf16")), key=lambda value: abs(value - measured))


def _ask_fitcheck(config: dict[str, Any], run: Run, precision: str) -> float:
    from fitcheck import config_parser, estimator, gpu_db

    if run.case.method in ("prompt_tuning", "dora"):
        raise Refused("not offered")
    if run.case.recipe == "lean":  # it would count logits that are never made: several times too much
        raise Refused("knows no fused loss")
    try:
        config_parser._reject_unsupported(config, run.hub_id)
        fields = config_parser._parse_fields(config)
        model = config_parser.ModelConfig(
            name=run.hub_id, num_params=config_parser._count_params(fields), **vars(fields)
        )
        adapters = run.case.method in ("lora", "qlora", "lora_8bit")
        targets = TARGETS if isinstance(run.case.lora_targets, str) else list(run.case.lora_targets)
        training = estimator.TrainingConfig(
            precision=precision,
            quantization={"qlora": "nf4", "lora_8bit": "int8"}.get(run.case.method, "none"),
            double_quant=run.case.method == "qlora",
            optimizer="adam8bit" if run.case.method == "full_bf16_adam8bit" else "adamw",
            batch_size=run.case.micro_batch, seq_len=run.case.seq_len,
            lora_rank=run.case.lora_rank if adapters else None, lora_targets=targets,
            grad_checkpoint=run.case.gradient_checkpointing, flash_attn=True,
        )  # fmt: skip
        return float(estimator.estimate(model, training, gpu_db.get_gpu("h100")).total_mib) * 2**20
    except (ValueError, KeyError) as error:
        raise Refused(str(error)) from None


def allocated_bytes(run: Run) -> float:
    return float(run.peak_allocated_bytes or 1)


def process_bytes(run: Run) -> float:
    """What the driver charged: the allocator's peak and the CUDA context."""
    return float((run.peak_reserved_bytes or run.peak_allocated_bytes or 1) + (run.context_bytes or 0))


def compare(
    runs: list[Run], ask: Callable[[Run], float], measured: Callable[[Run], float] = allocated_bytes
) -> dict[str, Any]:
    """Errors of one calculator against what was measured, both in bytes."""
    errors, reasons = [], []
    for run in runs:
        try:
            errors.append(ask(run) / measured(run) - 1)
        except Refused as error:
            reasons.append(str(error))
    return {
        "answered": len(errors), "refused": len(reasons), "reasons": sorted(set(reasons)),
        "median": round(median(map(abs, errors)), 4) if errors else None,
        "worst": round(max(map(abs, errors)), 4) if errors else None,
        "low": sum(error < -0.1 for error in errors),
    }  # fmt: skip


def main() -> int:
    dataset, problems = load_dataset(ROOT)
    if problems:
        print(*problems, sep="\n", file=sys.stderr)
        return 1
    table = build_estimator(dataset.hub.values(), dataset.catalog.gpus.values(), (), ROOT / "catalog").table
    runs = [run for run in usable(dataset.runs, table) if run.holdout]

    def parameters(run: Run) -> int:
        return locate(table, run)[1].parameters

    def fitcheck(run: Run) -> float:
        return ask_fitcheck(dict(dataset.hub[run.hub_id].config or {}), run)

    def ours(run: Run) -> float:
        return evaluate(*locate(table, run), run.case).allocated

    peers = [
        {
            "id": "atlas", "name": "Finetune Atlas", "version": None, "url": None,
            "note": {"zh": "本站的公式，没有用这些格子拟合", "en": "this guide's formula, not fitted to these cells"},
            **compare(runs, ours),
        }
    ]  # fmt: skip
    try:
        number = version("fitcheck-llm")
    except PackageNotFoundError:
        print("fitcheck-llm is not installed: left out", file=sys.stderr)
    else:
        note = {
            "zh": "直接调用其估算函数，含其开销项，与整个进程的占用相比；只比常规配方，它不认识融合损失",
            "en": "its own estimator called; its total, overhead included, against what the process took; stock recipe "
            "only, as it knows no fused loss",
        }
        peers.append(
            {
                "id": "fitcheck-llm", "name": "fitcheck-llm", "version": number,
                "url": "https://pypi.org/project/fitcheck-llm/", "note": note,
                **compare(runs, fitcheck, process_bytes),
            }
        )  # fmt: skip
    peers += [
        {
            "id": "rule-of-four", "name": "accelerate ×4", "version": None,
            "url": "https://huggingface.co/docs/accelerate/usage_guides/model_size_estimator",
            "note": {"zh": "按其公布的规则：Adam 训练 ≈ 4 × 模型大小；只适用全量微调",
                     "en": "its published rule: training with Adam is four times the model; full fine-tuning only"},
            **compare(runs, lambda run: ask_rule_of_four(parameters(run), run)),
        },
        {
            "id": "llama-factory-table", "name": "LLaMA-Factory", "version": None,
            "url": "https://github.com/hiyouga/LLaMA-Factory#hardware-requirement",
            "note": {"zh": "README 的硬件需求表，取“x B”一列", "en": "the hardware table of its README, column x B"},
            **compare(runs, lambda run: ask_table(parameters(run), run)),
        },
    ]  # fmt: skip
    write_calibration({"date": datetime.now(UTC).date().isoformat(), "cells": len(runs), "peers": peers}, RESULT)
    print(json.dumps(peers, ensure_ascii=False, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
