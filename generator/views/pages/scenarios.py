"""Tasks: the comparison and a page per task; who asks: the audiences."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...dataset import Dataset
from ...records import ModelEntry, ScenarioEntry, Text
from ..cells import cells_of
from ..page import Page
from .methods import clip


def recommended(dataset: Dataset, task: ScenarioEntry) -> list[ModelEntry]:
    """Current models listed for the task, of the right size and kind, smallest first."""
    low, high = task.size_billions
    found = [
        m
        for m in dataset.catalog.models.values()
        if m.status == "current"
        and task.id in m.scenarios
        and m.variant in task.variants
        and low <= dataset.parameters.get(m.id, 0) / 1e9 <= high
    ]
    return sorted(found, key=lambda m: (dataset.parameters[m.id], m.id))


def pages(dataset: Dataset) -> Iterator[Page]:
    """``scenarios/index.md``, ``scenarios/<id>.md`` and ``audiences/index.md``."""
    cells, catalog = cells_of(dataset), dataset.catalog
    tasks = sorted(catalog.scenarios.values(), key=lambda task: task.order)
    rows: list[dict[str, Any]] = []
    for task in tasks:
        models = recommended(dataset, task)
        needs = {
            m.id: [cells.need(m, "qlora", r, task.seq_len) for r in ("stock", "lean")]
            + [cells.need(m, "lora", "stock", task.seq_len)]
            for m in models
        }
        lean = [n[1].value for n in needs.values() if n[1]]
        lora = [n[2].value for n in needs.values() if n[2]]
        rows.append(
            {
                "task": task,
                "models": models,
                "needs": needs,
                "lean": (min(lean), max(lean)) if lean else None,
                "lora": (min(lora), max(lora)) if lora else None,
            }
        )
    shared = {"parameters": dataset.parameters, "catalog": catalog}
    yield Page(
        path="scenarios/index.md",
        template="scenarios.md.j2",
        title=Text(
            zh="按任务选：客服、法律、医学、写作、代码等", en="By task: customer service, law, medicine, writing, code"
        ),
        description=Text(
            zh="九类常见任务各该选多大的模型、什么方法、多少数据、要多少显存，附公开的微调结果作证据。",
            en="Nine common tasks: which size, which method, how much data and memory, with published fine-tunes as evidence.",
        ),
        context={**shared, "rows": rows},
        hide=(),
    )
    for row in rows:
        task = row["task"]
        yield Page(
            path=f"scenarios/{task.id}.md",
            template="scenario.md.j2",
            title=Text(zh=f"{task.name.zh}：选什么模型、怎么微调", en=f"{task.name.en}: which model, how to fine-tune"),
            description=Text(
                zh=clip(f"{task.goal.zh}{task.lesson.zh}", 140), en=clip(f"{task.goal.en} {task.lesson.en}", 155)
            ),
            context={**shared, **row, "licences": {m.id: dataset.licence(m) for m in row["models"]}},
            edit=f"catalog/scenarios/{task.id}.yaml",
            hide=(),
        )
    audiences = []
    for who in sorted(catalog.audiences.values(), key=lambda entry: entry.order):
        models = [catalog.models[key] for key in who.models if key in catalog.models]
        gpus = [catalog.gpus[key] for key in who.gpus if key in catalog.gpus]
        methods = [m for m in catalog.methods.values() if m.measured_id in who.methods]
        audiences.append(
            {
                "who": who,
                "gpus": [(g, cells.largest(g, "qlora", "lean"), cells.largest(g, "lora", "stock")) for g in gpus],
                "models": [(m, cells.need(m, "qlora", "lean"), cells.need(m, "lora")) for m in models],
                "methods": methods,
            }
        )
    yield Page(
        path="audiences/index.md",
        template="audiences.md.j2",
        title=Text(
            zh="你是谁：学生、开发者、创业团队、研究机构各选什么",
            en="Who you are: students, developers, start-ups, research groups",
        ),
        description=Text(
            zh="学生与新手、个人开发者、创业团队、高校与研究机构：手上的显卡、适合的模型、方法和显存需求。",
            en="Students, individual developers, start-ups and research groups: the cards they have, the models and methods that suit them, the memory needed.",
        ),
        context={**shared, "audiences": audiences},
        hide=(),
    )
