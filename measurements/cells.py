"""What to measure: one ``Cell`` per line of a plan. Standard library only.

A plan is a JSON Lines file. Each line names a model and the knobs of one cell; whatever it leaves out has the default
below. ``python -m generator plan`` writes such a file, ``python -m measurements plan`` writes the campaign's own.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from .result import METHODS, RECIPES, digest, slug

CONFIGS = Path(os.environ.get("MEASUREMENTS_CONFIGS") or Path(__file__).parent / "configs")
WITH_LORA = ("lora", "qlora", "lora_8bit", "dora")
WEIGHTS = {  # how the base model is kept while a method trains
    "full": "float32",
    "full_bf16_adam8bit": "bfloat16",
    "lora": "bfloat16",
    "dora": "bfloat16",
    "prompt_tuning": "bfloat16",
    "qlora": "nf4",
    "lora_8bit": "int8",
}


class PlanError(ValueError):
    """A plan or an argument that cannot be used; the message is ``file:line:column: field: reason``."""


@dataclass(frozen=True)
class Cell:
    """One thing to measure. Everything but ``min_cap``, ``holdout_kind`` and ``depths`` says *what* is measured."""

    model: str  # Hub id
    recipe: str = "stock"
    method: str = "qlora"
    micro_batch: int = 1
    seq_len: int = 1024
    gradient_checkpointing: bool = True
    lora_rank: int | None = 16
    lora_targets: str | tuple[str, ...] | None = "all-linear"
    gpu_count: int = 1
    sharding: str | None = None
    repeat: int = 0
    min_cap: bool = False  # also search the smallest allocator cap
    holdout_kind: str | None = None  # "cell" or "model": set aside for testing estimates
    depths: tuple[int, int] | None = None  # measure at these two depths and extend linearly

    def knobs(self) -> dict[str, Any]:
        """The part that identifies the cell, as it stands in a result."""
        data = asdict(self)
        for key in ("min_cap", "holdout_kind", "depths"):
            del data[key]
        if isinstance(data["lora_targets"], tuple):
            data["lora_targets"] = list(data["lora_targets"])
        return data

    @property
    def key(self) -> str:
        """Hash of the knobs: equal for the same cell in any plan and any result."""
        return digest(self.knobs())

    @property
    def weights(self) -> str:
        return WEIGHTS[self.method]

    def __str__(self) -> str:
        checkpointing = "" if self.gradient_checkpointing else " no-checkpointing"
        rank = f" r{self.lora_rank}" if self.lora_rank else ""
        return (
            f"{self.model} {self.recipe} {self.method}{rank} {self.micro_batch}×{self.seq_len}{checkpointing}"
            f"{f' repeat {self.repeat}' if self.repeat else ''}"
        )


def cell_of_result(data: dict[str, Any]) -> Cell:
    """The cell that a result answers."""
    known = {field.name for field in fields(Cell)}
    values = {key: value for key, value in data["cell"].items() if key in known}
    if isinstance(values["lora_targets"], list):
        values["lora_targets"] = tuple(values["lora_targets"])
    return Cell(**values)


def _problem(values: dict[str, Any]) -> tuple[str, str] | None:
    """(field, reason) of the first thing wrong with a plan line, or None."""

    def whole(field: str, low: int) -> str | None:
        value = values[field]
        good = isinstance(value, int) and not isinstance(value, bool) and value >= low
        return None if good else f"expected a whole number, {low} or more, found {value!r}"

    if "model" not in values:
        return "model", "missing"
    for field in values:
        if field not in {item.name for item in fields(Cell)}:
            return field, "unknown field"
    if not isinstance(values["model"], str) or not values["model"].strip():
        return "model", f"expected a Hub id, found {values['model']!r}"
    for field, allowed in (("recipe", RECIPES), ("method", METHODS)):
        if field in values and values[field] not in allowed:
            return field, f"expected one of {', '.join(allowed)}, found {values[field]!r}"
    for field, low in (("micro_batch", 1), ("seq_len", 2), ("gpu_count", 1), ("repeat", 0)):
        if field in values and (reason := whole(field, low)):
            return field, reason
    for field in ("gradient_checkpointing", "min_cap"):
        if field in values and not isinstance(values[field], bool):
            return field, f"expected true or false, found {values[field]!r}"
    if values.get("holdout_kind") not in (None, "cell", "model"):
        return "holdout_kind", f'expected "cell", "model" or null, found {values["holdout_kind"]!r}'
    if values.get("sharding") not in (None, "fsdp2"):
        return "sharding", f'expected "fsdp2" or null, found {values["sharding"]!r}'
    if values.get("lora_rank") is not None and (reason := whole("lora_rank", 1)):
        return "lora_rank", reason
    targets = values.get("lora_targets")
    if targets not in (None, "all-linear") and not (
        isinstance(targets, list) and targets and all(isinstance(item, str) and item for item in targets)
    ):
        return "lora_targets", f'expected "all-linear" or a list of module names, found {targets!r}'
    depths = values.get("depths")
    if depths is not None and not (
        isinstance(depths, list)
        and len(depths) == 2
        and all(isinstance(item, int) and not isinstance(item, bool) for item in depths)
        and 1 <= depths[0] < depths[1]
    ):
        return "depths", f"expected two growing layer counts, found {depths!r}"
    return None


def make_cell(values: dict[str, Any]) -> Cell:
    """The cell of one plan line. Raises PlanError ``field: reason``."""
    if problem := _problem(values):
        raise PlanError(f"{problem[0]}: {problem[1]}")
    data = dict(values)
    for field in ("lora_targets", "depths"):
        if isinstance(data.get(field), list):
            data[field] = tuple(data[field])
    cell = Cell(**data)
    if cell.method not in WITH_LORA:
        return replace(cell, lora_rank=None, lora_targets=None)
    return replace(cell, lora_rank=cell.lora_rank or 16, lora_targets=cell.lora_targets or "all-linear")


def read_plan(path: Path) -> list[Cell]:
    """The cells of a plan file, in order, without duplicates. Raises PlanError with file, line, column and field."""
    cells: dict[str, Cell] = {}
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError(f"{path}: {error}") from None
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except json.JSONDecodeError as error:
            raise PlanError(f"{path}:{number}:{error.colno}: line: not JSON: {error.msg}") from None
        if not isinstance(values, dict):
            raise PlanError(f"{path}:{number}:1: line: expected an object, found {values!r}")
        if problem := _problem(values):
            column = line.find(f'"{problem[0]}"') + 1 or 1
            raise PlanError(f"{path}:{number}:{column}: {problem[0]}: {problem[1]}")
        cell = make_cell(values)
        cells.setdefault(cell.key, cell)
    return list(cells.values())


def plan_line(cell: Cell) -> str:
    """One plan line, complete, in a fixed order of fields."""
    return json.dumps(asdict(cell), ensure_ascii=False)


def take_shard(cells: list[Cell], shard: str) -> list[Cell]:
    """The part ``i/n`` of a plan, i from 1. Every cell is in exactly one part; models are kept whole, so that each
    base model is built on one machine only. Raises PlanError."""
    try:
        index, count = (int(part) for part in shard.split("/"))
        if not 1 <= index <= count:
            raise ValueError
    except ValueError:
        raise PlanError(f"--shard: expected i/n with 1 ≤ i ≤ n, found {shard!r}") from None
    models = list(dict.fromkeys(cell.model for cell in cells))
    mine = set(models[index - 1 :: count])
    return [cell for cell in cells if cell.model in mine]


def config_path(model: str, configs: Path = CONFIGS) -> Path:
    return configs / f"{slug(model)}.json"


def read_config(model: str, configs: Path = CONFIGS) -> dict[str, Any]:
    """What ``configs/<slug>.json`` says of a model: hub_id, config, stands_for, layers, period, source.

    Raises PlanError when the file is missing or broken.
    """
    path = config_path(model, configs)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PlanError(f"{path}: no such file: {model} needs its config.json there (see configs/README.md)") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise PlanError(f"{path}: {error}") from None
    if not isinstance(data, dict) or not isinstance(data.get("config"), dict) or "model_type" not in data["config"]:
        raise PlanError(f"{path}: config: expected an object with model_type")
    return data
