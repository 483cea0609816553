"""Conclusions drawn from the data, the article's claims tested, licences, and how the figures are made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from ...dataset import Dataset
from ...estimate import Coefficients
from ...records import PROBE_SECONDS, Text
from ..cells import EXAMPLES, cells_of
from ..claims import hold_claims
from ..page import Page
from .gpu_list import STEPS_GB, tightest

SECTIONS: tuple[tuple[str, str, Text], ...] = (
    ("一", "sizes/index.md", Text(zh="不同规模模型微调适用性", en="Which sizes are worth fine-tuning")),
    ("二", "methods/index.md", Text(zh="微调技术类型对显存的影响", en="How the method decides the memory")),
    ("三", "gpus/index.md", Text(zh="按你的硬件选", en="By your hardware")),
    ("四", "models/index.md", Text(zh="实际模型推荐", en="Models")),
    ("五", "audiences/index.md", Text(zh="不同模型适合人群", en="Who you are")),
    ("六", "models/index.md", Text(zh="非常适合微调的模型", en="Models that fine-tune well")),
    ("七", "methods/index.md", Text(zh="推荐使用的微调技术", en="Methods to use")),
    ("八", "scenarios/index.md", Text(zh="场景选择与对比总结表", en="Tasks and their comparison")),
    ("九", "sizes/index.md", Text(zh="不同参数规模的特点与小结表", en="What each size is like, with the summary")),
    ("十", "conclusion.md", Text(zh="总结", en="Conclusion")),
)
"""Section of the article → page that replaces it."""


def pages(dataset: Dataset) -> Iterator[Page]:
    """``conclusion.md``, ``article/index.md``, ``licences/index.md`` and ``methodology.md``."""
    cells, catalog = cells_of(dataset), dataset.catalog
    cards = []
    for size in STEPS_GB:
        found = [g for g in catalog.gpus.values() if g.memory_gb == size and g.gpu_count == 1 and g.vendor == "NVIDIA"]
        if found:
            card = tightest(found)
            cards.append(
                (
                    size,
                    [
                        cells.largest(card, m, r)
                        for m, r in (("qlora", "lean"), ("lora", "stock"), ("full_bf16_adam8bit", "lean"))
                    ],
                )
            )
    examples = [catalog.models[key] for key in EXAMPLES if key in catalog.models]
    thirteen = catalog.models.get("llama-2-13b")
    yield Page(
        path="conclusion.md",
        template="conclusion.md.j2",
        title=Text(zh="结论：多大的显存配多大的模型", en="Conclusions: how much memory for which model"),
        description=Text(
            zh="由本站数据直接算出的结论：每档显存放得下的最大模型，每种规模所需的显存，以及 13B、32B、70B 是否真的遥不可及。",
            en="Conclusions computed from the data: the largest model for each memory size, the memory for each model size, and whether 13B, 32B and 70B are out of reach.",
        ),
        context={
            "cards": cards,
            "parameters": dataset.parameters,
            "needs": [
                (
                    m,
                    [
                        cells.need(m, "qlora", "lean"),
                        cells.need(m, "qlora"),
                        cells.need(m, "lora"),
                        cells.need(m, "full"),
                    ],
                )
                for m in examples
            ],
            "thirteen": (thirteen, cells.need(thirteen, "qlora"), cells.need(thirteen, "lora")) if thirteen else None,
            "sections": SECTIONS,
        },
        hide=(),
    )
    tested = hold_claims(dataset, cells)
    by_hub = {model.hub_id.lower(): model for model in catalog.models.values()}
    yield Page(
        path="article/index.md",
        template="article.md.j2",
        title=Text(zh="旧文章的说法逐条检验", en="An older article’s claims, tested one by one"),
        description=Text(
            zh=f"网上流传的一篇微调选型文章，{len(tested)} 条说法逐条对照实测或估算：哪些成立，哪些偏低、偏高；以及其中不存在的模型名。",
            en=f"A widely copied article on choosing models to fine-tune: its {len(tested)} claims against measured or estimated figures, and the model names that do not exist.",
        ),
        context={
            "tested": tested,
            "counts": Counter(item.verdict for item in tested),
            "corrections": [
                (c, [(hub, by_hub.get(hub.lower())) for hub in c.right])
                for c in sorted(catalog.name_corrections.values(), key=lambda c: (c.exists, c.id))
            ],
            "sections": SECTIONS,
        },
        hide=("navigation", "toc"),
    )
    used = Counter(entry.id for m in catalog.models.values() if (entry := dataset.licence(m)))
    order = {"yes": 0, "conditions": 1, "no": 2, "unknown": 3}
    yield Page(
        path="licences/index.md",
        template="licences.md.j2",
        title=Text(zh="许可证：哪些模型能商用", en="Licences: which models may be used commercially"),
        description=Text(
            zh=f"{len(catalog.licences)} 种模型许可证：能否商用、有什么条件、输出能否用于训练，以及我们读了多少原文。",
            en=f"{len(catalog.licences)} model licences: commercial use, conditions, whether outputs may train other models, and how much of each text was read.",
        ),
        context={
            "licences": sorted(catalog.licences.values(), key=lambda e: (order[e.commercial_use], -used[e.id], e.id)),
            "used": used,
            "models": Counter(
                (entry.commercial_use if (entry := dataset.licence(m)) else "unknown") for m in catalog.models.values()
            ),
        },
        hide=("navigation", "toc"),
    )
    runs = [run for run in dataset.runs if run.status == "ok"]
    yield Page(
        path="methodology.md",
        template="methodology.md.j2",
        title=Text(zh="数字怎么来的", en="How the figures are made"),
        description=Text(
            zh="本站每个数字的来历：三种显存口径、估算公式、什么是实测、什么是估算、什么来自 Hub、局限、如何引用和参与。",
            en="Where every figure comes from: tiers of memory, the formula of the estimate, what is measured, estimated, fetched or cited, limits, how to cite.",
        ),
        context={
            "runs": len(runs),
            "measured_cards": sorted(
                {catalog.gpus[run.gpu].name if run.gpu in catalog.gpus else run.gpu for run in runs}
            ),
            "hub": len(dataset.hub),
            "data_date": dataset.data_date,
            "example": (examples[2], cells.need(examples[2], "qlora")) if len(examples) > 2 else None,
            "host": reference_host(cells.estimator.table),
        },
        hide=(),
    )


def reference_host(table: Coefficients) -> dict[str, Any] | None:
    """What launching takes on the reference host, in words: kernel and launch in µs, layer in ms, probe in ms; and the
    paces of the hosts that were measured. None before any card was."""
    for gpu in table.gpus.values():
        if gpu.measured and gpu.kernel_seconds and gpu.launch_seconds and gpu.layer_seconds:
            return {
                "kernel": f"{gpu.kernel_seconds * 1e6:.1f}", "launch": f"{gpu.launch_seconds * 1e6:.0f}",
                "layer": f"{gpu.layer_seconds * 1e3:.1f}", "probe": f"{PROBE_SECONDS * 1e3:.0f}",
                "pace": [f"{value:.2f}" for value in table.pace],
            }  # fmt: skip
    return None
