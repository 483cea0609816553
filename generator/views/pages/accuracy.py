"""How wrong the estimate is: the hold-out by group, the worst cells with their reason, other calculators beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...accuracy import accuracy
from ...coefficients import read_json
from ...dataset import Dataset
from ...estimate_command import build_estimator
from ...records import GIB, Text
from ..cells import cells_of
from ..page import Page

GROUPS: tuple[tuple[str, Text], ...] = (
    ("method", Text(zh="按方法", en="By method")),
    ("recipe", Text(zh="按配方", en="By recipe")),
    ("family", Text(zh="按模型家族", en="By model family")),
    ("size", Text(zh="按模型大小", en="By model size")),
    ("gpu", Text(zh="按显卡", en="By GPU")),
    ("checkpointing", Text(zh="按梯度检查点", en="By gradient checkpointing")),
    ("pace", Text(zh="按什么决定速度", en="By what set the speed")),
    ("basis", Text(zh="按估算的来源", en="By where the estimate comes from")),
    ("known", Text(zh="模型是否测过", en="Whether the model was measured")),
)
PARTS = {
    "gpu": Text(zh="显卡（GPU 一直有活干）", en="the GPU (always busy)"),
    "processor": Text(zh="处理器（GPU 在等它下发运算）", en="the processor (the GPU waits for launches)"),
    "unknown": Text(zh="没有记录，不计速度", en="not recorded, speed not counted"),
    "on": Text(zh="开", en="on"),
    "off": Text(zh="关", en="off"),
    "traced": Text(zh="追踪真实建模代码", en="the real modeling code, traced"),
    "closed": Text(zh="闭式公式（没有追踪的结构）", en="closed form (architectures that are not traced)"),
    "measured": Text(zh="同一模型有别的实测参与拟合", en="other runs of the model were fitted"),
    "config_only": Text(
        zh="整个模型没有参与拟合，只知道 config", en="no run of the model was fitted, only its config is known"
    ),
}
QUANTITIES: tuple[tuple[str, Text], ...] = (
    ("allocated", Text(zh="已分配峰值", en="Allocated peak")),
    ("cap", Text(zh="最小分配上限", en="Smallest cap")),
    ("reserved", Text(zh="已保留峰值", en="Reserved peak")),
    ("speed", Text(zh="速度（tokens/s）", en="Speed (tokens/s)")),
    ("speed_anywhere", Text(zh="速度，步调未知", en="Speed, pace unknown")),
)
REASONS = {
    "measured_in_an_unclean_process": Text(
        zh="测量时进程里还留着前一格的权重，不是估算的错",
        en="the measuring process still held weights of an earlier cell: not the estimate's fault",
    ),
    "model_not_measured": Text(zh="这个模型没有任何实测参与拟合", en="no run of this model was fitted"),
    "activations_without_checkpointing": Text(
        zh="不开检查点：所有层的激活值都要数对", en="no checkpointing: the activations of every layer count"
    ),
    "fixed_temporaries_weigh_more_in_small_steps": Text(
        zh="步子小，固定的临时张量占比大", en="a small step, in which fixed temporaries weigh more"
    ),
    "not_explained": Text(zh="原因还没有查明", en="not explained yet"),
}


def pages(dataset: Dataset) -> Iterator[Page]:
    """``data/accuracy.md``."""
    catalog = dataset.catalog
    table = cells_of(dataset).estimator.table
    if not {run.hub_id for run in dataset.runs} <= set(table.models):  # measured, but not in the catalog
        table = build_estimator(dataset.hub.values(), catalog.gpus.values(), (), dataset.root / "catalog").table
    found = accuracy(table, dataset.runs)
    by_hub = {model.hub_id: model for model in catalog.models.values()}
    ok = [run for run in dataset.runs if run.status == "ok"]
    yield Page(
        path="data/accuracy.md",
        template="accuracy.md.j2",
        title=Text(zh="估算有多准", en="How accurate the estimates are"),
        description=Text(
            zh="估算在留出实测上的误差：按方法、配方、家族、大小和显卡列出，最差的十格与原因，区间覆盖率，以及与其他计算器的对比。",
            en="Errors of the estimate on held-out measurements by method, family, size and GPU, the worst cells and why, and other calculators beside it.",
        ),
        context={
            "overall": found["overall"],
            "blind": read_json(dataset.root / "benchmarks" / "blind_test.json"),
            "pace": {part: figures["speed"] for part, figures in found["by"]["pace"].items() if "speed" in figures},
            "cards": [catalog.gpus[gpu].name if gpu in catalog.gpus else gpu for gpu in sorted({r.gpu for r in ok})],
            "runs": len(ok),
            "shapes": len(table.architectures),
            "traced": sum(any(cell.basis == 0 for cell in a.cells.values()) for a in table.architectures),
            "stand_ins": len({table.models[name] for name in table.stand_ins}),
            "promises": found["promises"],
            "groups": [(name, title, found["by"][name]) for name, title in GROUPS],
            "parts": PARTS,
            "quantities": QUANTITIES,
            "worst": [(by_hub.get(r["model"]), r, REASONS[r["reason"]]) for r in found["worst"]],
            "cells": [
                (by_hub[r["model"]].name if r["model"] in by_hub else r["model"].rpartition("/")[2], r)
                for r in found["records"]
            ],
            "near": {name: within(found["records"], name, 0.1) for name in ("allocated", "speed")},
            "GIB": GIB,
            "held_out": len(found["records"]),
            "fitted": read_json(dataset.root / "catalog" / "calibration.json").get("runs", {}).get("fitted", 0),
            "peers": read_json(dataset.root / "benchmarks" / "peers.json"),
            "gpus": catalog.gpus,
            "measured_models": len({run.hub_id for run in ok if not run.on_stand_in}),
            "built_models": len({run.hub_id for run in ok}),
            "models": len(catalog.models),
            "data_date": dataset.data_date,
        },
        hide=(),
    )


def within(records: Sequence[Mapping[str, Any]], quantity: str, limit: float) -> tuple[int, int]:
    """How many cells have the quantity, and of how many the absolute error is at most ``limit``."""
    errors = [abs(record[quantity]["error"]) for record in records if quantity in record]
    return len(errors), sum(error <= limit for error in errors)
