"""Methods and recipes side by side: measured cells that differ in nothing else, and what the estimate says of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ...dataset import Dataset
from ...records import GIB, Text
from ..charts import METHODS, OTHER_METHODS
from ..measured import MeasuredCell, measured_cells
from ..page import Page

RECIPES = {"stock": Text(zh="常规配方", en="stock recipe"), "lean": Text(zh="精简配方", en="lean recipe")}
DRAWN_GROUPS = 24
"""Groups in the figure; the table has all."""


def pages(dataset: Dataset) -> Iterator[Page]:
    """``compare/methods.md`` and ``compare/recipes.md``."""
    cells = measured_cells(dataset)
    names = {key: name for key, (name, _) in {**METHODS, **OTHER_METHODS}.items()}
    by_method, by_recipe = groups_of(cells, "method"), groups_of(cells, "recipe")
    yield Page(
        path="compare/methods.md",
        template="compare.md.j2",
        title=Text(zh="方法并排：实测与估算", en="Methods side by side: measured and estimated"),
        description=Text(
            zh="同一个模型、同一种配方和步子，只换微调方法：显存与速度的实测，旁边是公式的估算。",
            en="One model, one recipe, one step size, another method: measured memory and speed beside the estimate.",
        ),
        context={
            "kind": "method", "groups": by_method, "names": names, "recipes": RECIPES, "best": clearest(by_method),
            "GIB": GIB, "drawn_groups": DRAWN_GROUPS, "data_date": dataset.data_date,
        },
        hide=(),
    )  # fmt: skip
    yield Page(
        path="compare/recipes.md",
        template="compare.md.j2",
        title=Text(zh="配方并排：实测与估算", en="Recipes side by side: measured and estimated"),
        description=Text(
            zh="同一个模型、同一种方法和步子，只换配方：常规与精简的显存、速度实测，旁边是公式的估算。",
            en="One model, one method, one step size, stock against lean: measured memory and speed beside the estimate.",
        ),
        context={
            "kind": "recipe", "groups": by_recipe, "names": names, "recipes": RECIPES, "best": clearest(by_recipe),
            "GIB": GIB, "drawn_groups": DRAWN_GROUPS, "data_date": dataset.data_date,
        },
        hide=(),
    )  # fmt: skip


def groups_of(cells: Sequence[MeasuredCell], kind: str) -> list[list[MeasuredCell]]:
    """Finished cells that differ only in ``kind`` ("method" or "recipe"), at least two of them, most memory first."""
    other = "recipe" if kind == "method" else "method"
    found: dict[tuple[object, ...], dict[str, MeasuredCell]] = {}
    for cell in cells:
        if cell.status != "ok" or cell.peak_allocated_bytes is None or cell.extrapolated:
            continue
        key = (
            cell.hub_id, cell.gpu, cell.gpu_count, cell.micro_batch, cell.seq_len, cell.gradient_checkpointing,
            getattr(cell, other),
        )  # fmt: skip
        found.setdefault(key, {}).setdefault(getattr(cell, kind), cell)
    full = [sorted(group.values(), key=_memory, reverse=True) for group in found.values() if len(group) > 1]
    return sorted(full, key=lambda group: (-_memory(group[0]), group[0].id))


def clearest(groups: Sequence[Sequence[MeasuredCell]]) -> tuple[MeasuredCell, MeasuredCell] | None:
    """Most and least memory of the group in which they differ by the largest factor."""
    if not groups:
        return None
    group = max(groups, key=lambda group: _memory(group[0]) / _memory(group[-1]))
    return group[0], group[-1]


def _memory(cell: MeasuredCell) -> int:
    return cell.peak_allocated_bytes or 0
