"""The figures of the guide: Plotly figures built here, filled and drawn in the browser by a local plotly.js bundle.

A figure is published once per language as ``assets/charts/<name>.<language>.json``: axes, traces, words and colour
*tokens* (``var(--fa-series-1)``), but no data of a page. The data reach it in one of two ways (``charts.mjs``):

table
    The figure's own ``<table>``, which stands behind it for readers without scripts and for screen readers. A trace's
    ``meta`` names the columns (``data-key`` of the header cells) that become its ``x``, ``y``, ``text``. What is drawn
    and what is read can thus never differ, and a page carries its figures once.
curve
    The published coefficients, evaluated by ``estimate.mjs``, which agrees with the estimator bit for bit; measured
    points come from ``/api/v1/cells.json``. So 660 model pages carry no curve, a build computes none, and a reader can
    turn every knob. Both files are shared by all pages and by the picker: one download.

The bundle is plotly.js *basic* (scatter, bar, pie), kept under ``docs/assets/vendor`` with its licence: see ORIGIN.txt
there. It loads when a figure comes near the screen.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..dataset import Dataset
from ..estimate_answer import CONTEXT_BYTES
from ..records import GIB, LANGUAGES, Language, Text
from .cells import cells_of, usable_bytes

BUNDLE = "assets/vendor/plotly-basic-4.1.1.min.js"
BUNDLE_SHA256 = "99784e3abfb07b142a15e521a439e6d9addceadb3f79553fd24c72774f0649ba"
TRACES = frozenset({"scatter", "bar", "pie"})
"""Trace types that the basic bundle draws."""

METHODS: Mapping[str, tuple[Text, str]] = {
    "qlora": (Text(zh="QLoRA", en="QLoRA"), "var(--fa-series-1)"),
    "lora": (Text(zh="LoRA", en="LoRA"), "var(--fa-series-2)"),
    "full_bf16_adam8bit": (Text(zh="全量 bf16 + 8 位 Adam", en="Full, bf16 + 8-bit Adam"), "var(--fa-series-3)"),
    "full": (Text(zh="全量 fp32", en="Full, fp32"), "var(--fa-series-4)"),
}
"""Methods of the curves: short name and colour, the same in every figure."""

CARDS: Sequence[tuple[int, str]] = (
    (8, "rtx-3070"), (12, "rtx-3060-12gb"), (16, "rtx-4060-ti-16gb"), (24, "rtx-4090"), (48, "l40s"),
    (80, "a100-sxm-80gb"), (141, "h200-sxm-141gb"),
)  # fmt: skip
"""Reference lines: size in GB as sold, and the card whose usable memory is drawn."""

MUTED, INK, LINE, STRONG = "var(--fa-muted)", "var(--fa-ink)", "var(--fa-line)", "var(--fa-line-strong)"

WORDS: Mapping[str, Text] = {
    "axis": Text(zh="横轴", en="Across"),
    "length": Text(zh="序列长度", en="Sequence length"),
    "batch": Text(zh="微批大小", en="Micro-batch"),
    "recipe": Text(zh="配方", en="Recipe"),
    "stock": Text(zh="常规", en="stock"),
    "lean": Text(zh="精简", en="lean"),
    "checkpointing": Text(zh="梯度检查点", en="Checkpointing"),
    "on": Text(zh="开", en="on"),
    "off": Text(zh="关", en="off"),
    "memory": Text(zh="显存", en="Memory"),
    "needed": Text(zh="需要的显存", en="needed"),
    "allocated": Text(zh="已分配峰值", en="allocated peak"),
    "gpu": Text(zh="速度按哪张卡", en="Speed on"),
    "measured": Text(zh="实测", en="measured"),
    "points": Text(zh="图中实测点：显存 {0} 个，速度 {1} 个。", en="Measured points drawn: {0} of memory, {1} of speed."),
    "elsewhere": Text(
        zh="这个模型测过 {0} 格；换个设置可看到其余的点。",
        en="{0} cells of this model are measured; other settings show the rest.",
    ),
    "unmeasured": Text(zh="这个模型还没有实测：曲线全是估算。", en="No cell of this model is measured: all estimated."),
    "unknown": Text(zh="这种组合没有估算系数。", en="No coefficients for this combination."),
}
"""Words of the curve's controls and notes; ``{0}`` is filled in by the browser."""


def axis(title: str = "", **more: Any) -> dict[str, Any]:
    """An axis in the house style: hairlines, no zoom (a finger scrolls the page, not the figure)."""
    return {
        "title": {"text": title, "font": {"color": MUTED}, "standoff": 8}, "fixedrange": True, "zeroline": False,
        "automargin": True, "gridcolor": LINE, "linecolor": STRONG, "tickcolor": STRONG, "tickfont": {"color": MUTED},
        "ticklen": 4,
    } | more  # fmt: skip


def above(text: str) -> dict[str, Any]:
    """The unit of the vertical axis, written across above it: turned text is hard to read, in Chinese most of all."""
    return {
        "text": text, "xref": "paper", "yref": "paper", "x": 0, "y": 1, "xanchor": "left", "yanchor": "bottom",
        "yshift": 6, "showarrow": False, "align": "left", "font": {"color": MUTED},
    }  # fmt: skip


def layout(x: dict[str, Any], y: dict[str, Any], unit: str = "", **more: Any) -> dict[str, Any]:
    """A figure's frame; every colour is a token."""
    return {
        "xaxis": x, "yaxis": y, "font": {"size": 13, "color": INK}, "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)", "margin": {"l": 48, "r": 16, "t": 30, "b": 46}, "showlegend": False,
        "hovermode": "closest", "dragmode": False, "annotations": [above(unit)] if unit else [],
        "hoverlabel": {"bgcolor": "var(--fa-raised)", "bordercolor": STRONG, "font": {"color": INK}, "align": "left"},
    } | more  # fmt: skip


def build(traces: Sequence[Mapping[str, Any]], frame: Mapping[str, Any]) -> dict[str, Any]:
    """The figure as plain data, checked by Plotly's own validators. Raises ValueError for what it does not know."""
    import plotly.graph_objects as go

    figure: dict[str, Any] = go.Figure(data=list(traces), layout=dict(frame)).to_dict()
    figure["layout"].pop("template", None)
    return figure


def curve(dataset: Dataset, language: Language, quantity: str) -> dict[str, Any]:
    """Frame of the curves of one model: per method a band, a line and the measured points, empty.

    ``quantity`` is ``memory`` (GiB) or ``speed`` (tokens/s), both on logarithmic axes: methods differ by a factor of ten
    and card sizes then stand at even distances.
    """
    traces: list[dict[str, Any]] = []
    unit = "GiB" if quantity == "memory" else "tokens/s"
    for method, (name, colour) in METHODS.items():
        common = {"type": "scatter", "name": name[language], "x": [], "y": []}
        traces.append(
            common | {"mode": "lines", "fill": "toself", "fillcolor": colour, "opacity": 0.16, "hoverinfo": "skip",
                      "line": {"width": 0, "color": colour}, "meta": {"method": method, "role": "band"}}
        )  # fmt: skip
        traces.append(
            common | {"mode": "lines", "line": {"width": 2, "color": colour}, "customdata": [],
                      "hovertemplate": "%{customdata[0]}", "meta": {"method": method, "role": "line", "label": True}}
        )  # fmt: skip
    for method, (name, colour) in METHODS.items():
        traces.append(
            {"type": "scatter", "name": name[language], "x": [], "y": [], "mode": "markers", "customdata": [],
             "marker": {"size": 9, "color": colour, "line": {"width": 1.5, "color": "var(--md-default-bg-color)"}},
             "hovertemplate": "%{customdata[0]}<extra></extra>", "meta": {"method": method, "role": "points"}}
        )  # fmt: skip
    figure = build(
        traces,
        layout(axis(type="log", showgrid=False), axis(type="log", showgrid=False, ticks="outside"), unit),
    )
    figure["words"] = {key: text[language] for key, text in WORDS.items()}
    if quantity == "memory":
        figure["context_bytes"] = CONTEXT_BYTES
        gpus = dataset.catalog.gpus
        cards = [(size, usable_bytes(gpus[name])) for size, name in CARDS if name in gpus]
        figure["cards"] = [[size, round(usable / GIB, 2)] for size, usable in cards if usable]
    else:
        figures = cells_of(dataset).estimator.table.gpus
        known = [g for g in dataset.catalog.gpus.values() if g.id in figures and figures[g.id].matmul_flops]
        figure["gpus"] = [[g.id, g.name] for g in sorted(known, key=lambda g: (g.category, g.memory_gb, g.name))]
    return figure


FIGURES: Mapping[str, Callable[[Dataset, Language], dict[str, Any]]] = {
    "curve-memory": lambda dataset, language: curve(dataset, language, "memory"),
    "curve-speed": lambda dataset, language: curve(dataset, language, "speed"),
}
"""Name of each figure and what builds it for one language."""


def files(dataset: Dataset) -> Mapping[str, bytes]:
    """Every figure in every language: path → JSON bytes."""
    return {
        f"assets/charts/{name}.{language}.json": json.dumps(
            make(dataset, language), ensure_ascii=False, allow_nan=False, separators=(",", ":")
        ).encode()
        for name, make in FIGURES.items()
        for language in LANGUAGES
    }
