"""Fine-tuning methods: the comparison, a page per method, and the two recipes."""

from __future__ import annotations

from collections.abc import Iterator

from ...dataset import Dataset
from ...records import MethodEntry, ModelEntry, Text
from ..cells import EXAMPLES, cells_of
from ..page import Page

DRAWN = frozenset({"full", "lora", "qlora", "prompt_tuning", "dora", "rslora", "lora_8bit", "full_bf16_adam8bit"})
"""Methods with a drawing in templates/drawings.md.j2."""


def pages(dataset: Dataset) -> Iterator[Page]:
    """``methods/index.md``, ``methods/<id>.md`` and ``recipes.md``."""
    cells, catalog = cells_of(dataset), dataset.catalog
    methods = sorted(catalog.methods.values(), key=lambda method: method.order)
    examples = [catalog.models[key] for key in EXAMPLES if key in catalog.models]

    def row(method: MethodEntry, recipe: str) -> list:  # type: ignore[type-arg]
        return [cells.need(model, method.measured_id or "", recipe) for model in examples]

    shared = {"examples": examples, "parameters": dataset.parameters}
    yield Page(
        path="methods/index.md",
        template="methods.md.j2",
        title=Text(
            zh="微调方法：全量、LoRA、QLoRA 怎么选", en="Fine-tuning methods: full, LoRA, QLoRA and when to use which"
        ),
        description=Text(
            zh="全量微调、LoRA、QLoRA、8 位 LoRA、DoRA、rsLoRA 与提示微调：原理、训练什么、六种规模各需多少显存、何时选用。",
            en="Full fine-tuning, LoRA, QLoRA, 8-bit LoRA, DoRA, rsLoRA and prompt tuning: how they work, what six sizes cost, when to use each.",
        ),
        context={**shared, "methods": [(m, row(m, "stock") if m.measured_id else None) for m in methods]},
        hide=(),
    )
    for method in methods:
        known = method.measured_id is not None
        yield Page(
            path=f"methods/{method.id}.md",
            template="method.md.j2",
            title=Text(
                zh=f"{method.title.zh}：原理、显存与取舍", en=f"{method.title.en}: how it works and what it costs"
            ),
            description=Text(zh=clip(method.summary.zh, 120), en=clip(method.summary.en, 155)),
            context={
                **shared,
                "method": method,
                "drawing": method.id if method.id in DRAWN else None,
                "stock": row(method, "stock") if known else None,
                "lean": row(method, "lean") if known else None,
                "others": [m for m in methods if m.id != method.id],
            },
            edit=f"catalog/methods/{method.id}.yaml",
            hide=(),
        )
    recipes = sorted(catalog.recipes.values(), key=lambda recipe: recipe.id != "stock")
    yield Page(
        path="recipes.md",
        template="recipes.md.j2",
        title=Text(zh="两种配方：常规与精简", en="Two recipes: stock and lean"),
        description=Text(
            zh="同样的模型和方法，配方不同，显存可差一倍以上：常规配方与精简配方的设置、差别和各规模的显存。",
            en="Same model, same method, half the memory: what the stock and the lean recipe set, and what each needs at every size.",
        ),
        context={
            **shared,
            "recipes": recipes,
            "rows": [(m, row(m, "stock"), row(m, "lean")) for m in methods if m.measured_id],
            "ladder": ladder(dataset, catalog.models.get("qwen3-8b")),
            "curves": dataset.curves,
            "curve_models": {model.hub_id: model for model in catalog.models.values()},
            "titles": {method.measured_id: method.title for method in methods if method.measured_id},
        },
        hide=(),
    )


def ladder(dataset: Dataset, model: ModelEntry | None) -> list[dict]:  # type: ignore[type-arg]
    """Switches that save memory on one model, most effective order for a reader: each row one change more."""
    if model is None:
        return []
    cells = cells_of(dataset)
    steps = [
        (
            Text(zh="LoRA，常规配方，序列长 2,048", en="LoRA, stock recipe, sequence length 2,048"),
            ("lora", "stock", 2048),
        ),
        (Text(zh="改用 QLoRA", en="QLoRA instead"), ("qlora", "stock", 2048)),
        (Text(zh="改用精简配方", en="lean recipe"), ("qlora", "lean", 2048)),
        (Text(zh="序列长减到 1,024", en="sequence length 1,024"), ("qlora", "lean", 1024)),
        (Text(zh="序列长减到 512", en="sequence length 512"), ("qlora", "lean", 512)),
    ]
    rows = [(name, cells.need(model, method, recipe, length)) for name, (method, recipe, length) in steps]
    top = max((need.value for _, need in rows if need), default=1.0)
    return [{"name": name, "need": need, "share": need.value / top} for name, need in rows if need]


def clip(text: str, limit: int) -> str:
    """`text` cut at a word or a Chinese stop so that it is at most `limit` characters long."""
    if len(text) <= limit:
        return text
    cut = text[: limit - 1]
    for stop in ("。", "；", "，", ". ", "; ", ", ", " "):
        if (at := cut.rfind(stop)) >= limit // 2:
            cut = cut[:at]
            break
    return cut.rstrip("，；。,;. ") + "…"
