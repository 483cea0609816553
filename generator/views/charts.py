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
from functools import partial
from typing import Any

from ..coefficients import CONTEXT_BYTES
from ..dataset import Dataset
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

PAGE = "var(--md-default-bg-color)"
MUTED, INK, LINE, STRONG = "var(--fa-muted)", "var(--fa-ink)", "var(--fa-line)", "var(--fa-line-strong)"

LEGEND = {"orientation": "h", "x": 0, "itemclick": False, "itemdoubleclick": False, "font": {"color": MUTED}}

TICKS = [lead * 10.0**power for power in range(-3, 7) for lead in (1, 2, 5)]
"""Marks of a logarithmic axis."""

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
    "points": Text(
        zh="图中实测点：显存 {0} 个，速度 {1} 个。", en="Measured points drawn: {0} of memory, {1} of speed."
    ),
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
        "title": {"text": title, "font": {"color": MUTED, "size": 13}, "standoff": 6}, "fixedrange": True,
        "zeroline": False, "automargin": True, "gridcolor": LINE,
        "linecolor": STRONG, "tickcolor": STRONG, "tickfont": {"color": MUTED},
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
    import plotly.io

    if plotly.io.templates.default is not None:
        plotly.io.templates.default = None  # the page's own style sheet takes its place
    figure: dict[str, Any] = go.Figure(data=list(traces), layout=dict(frame)).to_dict()
    return figure


def curve(dataset: Dataset, language: Language, quantity: str) -> dict[str, Any]:
    """Frame of the curves of one model: per method a band, a line and the measured points, empty.

    ``quantity`` is ``memory`` (GiB) or ``speed`` (tokens/s), both on logarithmic axes: methods differ by a factor of
    ten and card sizes then stand at even distances.
    """
    traces: list[dict[str, Any]] = []
    unit = "GiB" if quantity == "memory" else "tokens/s"
    for method, (name, colour) in METHODS.items():
        common = {"type": "scatter", "name": name[language], "x": [], "y": []}
        traces.append(
            common | {"mode": "lines", "fill": "toself", "fillcolor": colour,
                      "opacity": 0.16 if unit == "GiB" else 0.08, "hoverinfo": "skip",
                      "line": {"width": 0, "color": colour}, "meta": {"method": method, "role": "band"}}
        )  # fmt: skip
        traces.append(
            common | {"mode": "lines", "line": {"width": 2, "color": colour}, "customdata": [],
                      "hovertemplate": "%{customdata[0]}", "meta": {"method": method, "role": "line", "label": True}}
        )  # fmt: skip
    for method, (name, colour) in METHODS.items():
        traces.append(
            {"type": "scatter", "name": name[language], "x": [], "y": [], "mode": "markers", "customdata": [],
             "marker": {"size": 9, "color": colour, "line": {"width": 1.5, "color": PAGE}},
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


def gpu_largest(dataset: Dataset, language: Language) -> dict[str, Any]:
    """Largest model over length: the page's card (row slot 0) in the accent, the sizes around it in grey."""
    traces: list[dict[str, Any]] = []
    for slot in (1, 2, 3, 4, 0):
        colour = "var(--fa-accent)" if slot == 0 else "var(--fa-series-7)"
        traces.append(
            {
                "type": "scatter", "x": [], "y": [], "mode": "lines+markers", "name": "", "connectgaps": False,
                "line": {"color": colour, "width": 3 if slot == 0 else 1.4},
                "marker": {"color": colour, "size": 7 if slot == 0 else 4},
                "hovertemplate": "%{fullData.name}<br>%{customdata[0]}<extra></extra>",
                "meta": {"row": {"slot": str(slot)}, "name": "gpu", "label": True},
            }
        )  # fmt: skip
    lengths = (512, 1024, 2048, 4096, 8192)
    marks = (0.2, 0.5, 1, 2, 4, 8, 14, 32, 70, 120, 235, 480, 1000)
    across = axis(
        LENGTH[language],
        type="log",
        showgrid=False,
        tickvals=list(lengths),
        ticktext=[f"{n:,}" for n in lengths],
        range=[2.66, 3.95],
    )
    up = axis(type="log", tickvals=list(marks), ticktext=[f"{n:g}" for n in marks])
    return build(traces, layout(across, up, Text(zh="参数量（十亿）", en="Parameters (billions)")[language]))


def accuracy_scatter(dataset: Dataset, language: Language, quantity: str) -> dict[str, Any]:
    """Estimate against measurement, one point per held-out cell; on the diagonal the two agree."""
    unit = "GiB" if quantity == "memory" else "tokens/s"
    low, high = (1, 200) if quantity == "memory" else (200, 100_000)
    names = {key: (name, colour) for key, (name, colour) in METHODS.items()} | dict(OTHER_METHODS)
    traces: list[dict[str, Any]] = [
        {"type": "scatter", "mode": "lines", "x": [low, high, high, low],
         "y": [low * 0.9, high * 0.9, high * 1.1, low * 1.1],
         "fill": "toself", "line": {"width": 0, "color": MUTED}, "fillcolor": MUTED, "opacity": 0.14,
         "hoverinfo": "skip", "showlegend": False},
        {"type": "scatter", "mode": "lines", "x": [low, high], "y": [low, high], "hoverinfo": "skip",
         "showlegend": False, "line": {"width": 1, "color": MUTED}},
    ]  # fmt: skip
    for method, (name, colour) in names.items():
        traces.append(
            {"type": "scatter", "mode": "markers", "x": [], "y": [], "name": name[language],
             "marker": {"size": 8, "color": colour, "opacity": 0.85, "line": {"width": 1, "color": PAGE}},
             "hovertemplate": "%{customdata[0]}<br>%{customdata[1]}<br>%{x:.3~s} → %{y:.3~s} " + unit
             + " (%{customdata[2]})<extra></extra>",
             "meta": {"x": f"{quantity}_measured", "y": f"{quantity}_estimated",
                      "text": ["model", "setup", f"{quantity}_error"], "where": {"method": method}}}
        )  # fmt: skip
    marks = [1, 2, 5, 10, 20, 50, 100] if quantity == "memory" else [500, 1000, 2000, 5000, 10000, 20000, 50000]
    ticks: dict[str, Any] = {"type": "log", "tickvals": marks, "ticktext": [f"{mark:,}" for mark in marks]}
    across = axis(Text(zh=f"实测（{unit}）", en=f"Measured ({unit})")[language], **ticks)
    up = axis(**ticks)
    frame = layout(across, up, Text(zh=f"估算（{unit}）", en=f"Estimated ({unit})")[language])
    frame |= {
        "showlegend": True,
        "legend": {
            "orientation": "h",
            "y": -0.2,
            "x": 0,
            "yanchor": "top",
            "itemclick": False,
            "itemdoubleclick": False,
        },
    }
    frame["margin"] = {"l": 48, "r": 12, "t": 30, "b": 96}
    return build(traces, frame) | {"fit_range": 1.15}


def errors(dataset: Dataset, language: Language, name: str) -> dict[str, Any]:
    """Median error per row of a table as bars, the worst as dots. The table has columns median and worst (ratios)."""
    where = {"quantity": "allocated"} if name == "method" else {}
    label = {"method": "part", "peers": "peer"}[name]
    common = {"x": [], "y": [], "orientation": "h"}
    traces: list[dict[str, Any]] = [
        common | {"type": "bar", "marker": {"color": "var(--fa-series-1)"}, "width": 0.55, "textposition": "none",
                  "name": Text(zh="中位数", en="median")[language],
                  "hovertemplate": "%{y}: %{x:.1%}<extra>" + Text(zh="中位数", en="median")[language] + "</extra>",
                  "meta": {"x": "median", "y": label, "where": where}},
        {"type": "scatter", "mode": "markers", "x": [], "y": [], "name": Text(zh="最差一格", en="worst cell")[language],
         "marker": {"color": "var(--fa-series-2)", "size": 9, "symbol": "diamond"},
         "hovertemplate": "%{y}: %{x:.1%}<extra>" + Text(zh="最差", en="worst")[language] + "</extra>",
         "meta": {"x": "worst", "y": label, "where": where}},
    ]  # fmt: skip
    frame = layout(
        axis(
            Text(zh="误差（相对实测）", en="Error, of the measurement")[language], tickformat=".0%", rangemode="tozero"
        ),
        axis(autorange="reversed", showgrid=False, ticklen=0, tickfont={"color": INK}),
    )
    frame |= {
        "showlegend": True,
        "legend": {
            "orientation": "h",
            "y": 1.02,
            "x": 0,
            "yanchor": "bottom",
            "itemclick": False,
            "itemdoubleclick": False,
        },
    }
    frame["margin"] = {"l": 16, "r": 16, "t": 40, "b": 46}
    return build(traces, frame)


def compare(dataset: Dataset, language: Language, kind: str) -> dict[str, Any]:
    """One line per group of cells that differ in ``kind`` alone: filled dots measured, hollow ones estimated."""
    recipes = {
        "stock": (WORDS["stock"], "var(--fa-series-2)"),
        "lean": (WORDS["lean"], "var(--fa-series-1)"),
    }
    variants = {**METHODS, **OTHER_METHODS} if kind == "method" else recipes
    measured, estimated = Text(zh="实测", en="measured")[language], Text(zh="估算", en="estimated")[language]
    traces: list[dict[str, Any]] = []
    for symbol, column, word in (("circle-open", "estimated", estimated), ("circle", "measured", measured)):
        for variant, (name, colour) in variants.items():
            traces.append(
                {"type": "scatter", "mode": "markers", "x": [], "y": [], "name": name[language],
                 "showlegend": column == "measured",
                 "marker": {"size": 11 if column == "estimated" else 9, "color": colour, "symbol": symbol,
                            "line": {"width": 1.6, "color": colour}},
                 "hovertemplate": f"%{{y}}<br>{name[language]}, {word} %{{x:.3~g}} GiB<extra></extra>",
                 "meta": {"x": column, "y": "group", "where": {"variant": variant, "drawn": "yes"}}}
            )  # fmt: skip
    frame = layout(
        axis("GiB", type="log", tickvals=TICKS, ticktext=[f"{mark:g}" for mark in TICKS]),
        axis(autorange="reversed", tickfont={"color": INK}, ticklen=0),
    )
    frame |= {"showlegend": True, "legend": LEGEND | {"y": 1.02, "yanchor": "bottom"}}
    frame["margin"] = {"l": 16, "r": 16, "t": 48, "b": 46}
    return build(traces, frame)


def loss(dataset: Dataset, language: Language) -> dict[str, Any]:
    """Training loss over the steps, a pair of lines per method: stock wide and grey under lean, thin and in colour.

    The table has columns step, <method>_stock, <method>_lean.
    """
    traces: list[dict[str, Any]] = []
    for method in dict.fromkeys(curve.method for curve in dataset.curves):
        named, colour = {**METHODS, **OTHER_METHODS}[method]
        for recipe, shown, width in (("stock", LINE, 9), ("lean", colour, 1.6)):
            name = f"{named[language]} · {WORDS[recipe][language]}"
            traces.append(
                {"type": "scatter", "mode": "lines", "x": [], "y": [], "name": name,
                 "line": {"width": width, "color": shown},
                 "hovertemplate": f"{name}<br>%{{x}}: %{{y:.4f}}<extra></extra>",
                 "meta": {"x": "step", "y": f"{method}_{recipe}", "label": recipe == "lean"}}
            )  # fmt: skip
    frame = layout(
        axis(Text(zh="步", en="Step")[language], showgrid=False),
        axis(rangemode="tozero"),
        Text(zh="每 token 的损失（nat）", en="Loss per token (nats)")[language],
    )
    return build(traces, frame)


FIELDS: Mapping[str, Text] = {
    "peak_allocated_bytes": Text(zh="已分配峰值，实测（GiB）", en="Allocated peak, measured (GiB)"),
    "estimated_allocated_bytes": Text(zh="已分配峰值，估算（GiB）", en="Allocated peak, estimated (GiB)"),
    "error_allocated": Text(zh="显存误差（%）", en="Error of memory (%)"),
    "needed_bytes": Text(zh="需要的显存，实测（GiB）", en="Needed memory, measured (GiB)"),
    "peak_reserved_bytes": Text(zh="已保留峰值（GiB）", en="Reserved peak (GiB)"),
    "tokens_per_second": Text(zh="速度，实测（tokens/s）", en="Speed, measured (tokens/s)"),
    "estimated_tokens_per_second": Text(zh="速度，估算（tokens/s）", en="Speed, estimated (tokens/s)"),
    "error_speed": Text(zh="速度误差（%）", en="Error of speed (%)"),
    "step_seconds": Text(zh="每步时间（秒）", en="Time per step (s)"),
    "seq_len": Text(zh="序列长度", en="Sequence length"),
    "micro_batch": Text(zh="微批大小", en="Micro-batch"),
}
"""Figures of a cell that the explorer's chart offers for its axes."""

COLOURS: Mapping[str, Text] = {
    "method": Text(zh="方法", en="Method"),
    "recipe": Text(zh="配方", en="Recipe"),
    "gpu_name": Text(zh="显卡", en="GPU"),
    "name": Text(zh="模型", en="Model"),
    "gradient_checkpointing": Text(zh="梯度检查点", en="Checkpointing"),
    "holdout": Text(zh="是否留出", en="Held out"),
}


def explorer(dataset: Dataset, language: Language) -> dict[str, Any]:
    """Frame of the explorer's chart: one empty trace per colour of the series."""
    traces = [
        {"type": "scatter", "mode": "markers", "x": [], "y": [], "customdata": [],
         "marker": {"size": 9, "color": f"var(--fa-series-{number})", "opacity": 0.85,
                    "line": {"width": 1, "color": PAGE}},
         "hovertemplate": "%{customdata[0]}<br>%{x:.4~s}, %{y:.4~s}<br>%{customdata[1]}<extra></extra>"}
        for number in range(1, 9)
    ]  # fmt: skip
    frame = layout(axis(rangemode="tozero"), axis(rangemode="tozero"), "–")
    frame |= {"showlegend": True, "legend": LEGEND | {"y": -0.2, "yanchor": "top"}}
    frame["margin"] = {"l": 48, "r": 12, "t": 30, "b": 96}
    yes, no = Text(zh="是", en="yes")[language], Text(zh="否", en="no")[language]
    return build(traces, frame) | {
        "ticks": TICKS,
        "method_colours": {key: colour for key, (_, colour) in {**METHODS, **OTHER_METHODS}.items()},
        "fields": {key: text[language] for key, text in FIELDS.items()},
        "colours": {key: text[language] for key, text in COLOURS.items()},
        "values": {
            "method": {key: name[language] for key, (name, _) in {**METHODS, **OTHER_METHODS}.items()},
            "recipe": {"stock": WORDS["stock"][language], "lean": WORDS["lean"][language]},
            "gradient_checkpointing": {"true": WORDS["on"][language], "false": WORDS["off"][language]},
            "holdout": {"true": yes, "false": no},
        },
        "words": {
            "x": Text(zh="横轴", en="Across")[language],
            "y": Text(zh="纵轴", en="Up")[language],
            "colour": Text(zh="颜色", en="Colour")[language],
            "rest": Text(zh="其余", en="the rest")[language],
        },
    }


LENGTH = Text(zh="序列长度", en="Sequence length")
OTHER_METHODS: Mapping[str, tuple[Text, str]] = {
    "lora_8bit": (Text(zh="8 位 LoRA", en="LoRA, 8-bit base"), "var(--fa-series-5)"),
    "dora": (Text(zh="DoRA", en="DoRA"), "var(--fa-series-6)"),
    "prompt_tuning": (Text(zh="提示微调", en="Prompt tuning"), "var(--fa-series-7)"),
}

FIGURES: Mapping[str, Callable[[Dataset, Language], dict[str, Any]]] = {
    "curve-memory": partial(curve, quantity="memory"),
    "curve-speed": partial(curve, quantity="speed"),
    "gpu-largest": gpu_largest,
    "explorer": explorer,
    "loss": loss,
    "compare-method": partial(compare, kind="method"),
    "compare-recipe": partial(compare, kind="recipe"),
    "accuracy-memory": partial(accuracy_scatter, quantity="memory"),
    "accuracy-speed": partial(accuracy_scatter, quantity="speed"),
    "accuracy-method": partial(errors, name="method"),
    "accuracy-peers": partial(errors, name="peers"),
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
