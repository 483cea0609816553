"""The explorer: every measured cell in one table, to filter, draw and download."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from ...dataset import Dataset
from ...records import Text
from ..charts import METHODS, OTHER_METHODS
from ..measured import measured_cells
from ..page import Page

PAGE_ROWS = 40
"""Rows of the table before the reader asks for all of them."""


def pages(dataset: Dataset) -> Iterator[Page]:
    """``data/cells.md``."""
    cells = measured_cells(dataset)
    names = {key: name for key, (name, _) in {**METHODS, **OTHER_METHODS}.items()}
    yield Page(
        path="data/cells.md",
        template="explorer.md.j2",
        title=Text(zh="全部实测：筛选、作图、下载", en="All measurements: filter, draw, download"),
        description=Text(
            zh="每一次微调实测的显存与速度，以及公式对它的估算：按显卡、模型、方法和配方筛选，自选坐标作图，下载 CSV 或 JSON。",
            en="Memory and speed of every measured training step beside its estimate: filter, choose the axes of the chart, download CSV or JSON.",
        ),
        context={
            "cells": cells,
            "page_rows": PAGE_ROWS,
            "names": names,
            "by_method": Counter(cell.method for cell in cells).most_common(),
            "by_recipe": Counter(cell.recipe for cell in cells).most_common(),
            "by_gpu": Counter((cell.gpu, cell.gpu_name) for cell in cells).most_common(),
            "held_out": sum(cell.holdout for cell in cells),
            "models": len({cell.hub_id for cell in cells}),
            "data_date": dataset.data_date,
        },
        hide=("navigation", "toc"),
        searchable=False,
    )
