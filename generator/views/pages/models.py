"""A page per model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...dataset import Dataset
from ...records import Case, ModelEntry, Text
from ..cells import Cells, Need, cells_of, judge, usable_bytes
from ..hub_facts import origins, reading_of
from ..page import Page

WAYS: tuple[tuple[str, str], ...] = (
    ("qlora", "lean"),
    ("qlora", "stock"),
    ("lora", "lean"),
    ("lora", "stock"),
    ("prompt_tuning", "stock"),
    ("full_bf16_adam8bit", "lean"),
    ("full_bf16_adam8bit", "stock"),
    ("full", "stock"),
)
"""Method and recipe of each row of the memory matrix, from the least memory to the most."""

CARDS: tuple[tuple[int, str], ...] = (
    (8, "rtx-3070"),
    (12, "rtx-3060-12gb"),
    (16, "rtx-4060-ti-16gb"),
    (24, "rtx-4090"),
    (32, "rtx-5090"),
    (48, "l40s"),
    (80, "a100-sxm-80gb"),
    (141, "h200-sxm-141gb"),
)
"""Size in GB and the catalog id of the card that stands for it."""

LENGTHS: tuple[int, ...] = (512, 1024, 2048, 4096, 8192)
LENGTH_WAYS: tuple[tuple[str, str], ...] = (("qlora", "stock"), ("qlora", "lean"), ("lora", "stock"), ("lora", "lean"))

SpeedTables = dict[str, list[tuple[str, str, str, list[float | None]]]]
"""Hub id → rows (card, method, recipe, estimated tokens per second per length)."""
SPEED_CARDS: tuple[str, ...] = ("rtx-4090", "h100-sxm-80gb")
"""Cards of the speed table: what many readers have, and what was measured."""
SPEED_WAYS: tuple[tuple[str, str], ...] = (("qlora", "stock"), ("lora", "stock"))
SCORES_SHOWN = 12


def pages(dataset: Dataset) -> Iterator[Page]:
    """Every model of the catalog."""
    cells = cells_of(dataset)
    cards = [(size, dataset.catalog.gpus[name]) for size, name in CARDS if name in dataset.catalog.gpus]
    usable = [usable_bytes(card) for _, card in cards]
    speeds = speed_tables(cells)
    by_family: dict[str, list[ModelEntry]] = {}
    for model in dataset.catalog.models.values():
        by_family.setdefault(model.family, []).append(model)
    for model in dataset.catalog.models.values():
        facts = dataset.facts(model)
        matrix = memory_matrix(cells, model, usable)
        siblings = sorted(
            (m for m in by_family[model.family] if m.id != model.id), key=lambda m: dataset.parameters.get(m.id, 0)
        )
        by_length = length_table(cells, model, facts.context_length)
        scores = sorted(
            {
                citation
                for by_model in dataset.evidence.values()
                if (found := by_model.get(model.hub_id))
                for citation in found.citations
            },
            key=lambda c: (-c.compared, c.group, c.benchmark, c.setting, c.place),
        )
        yield Page(
            path=f"models/{model.id}.md",
            template="model.md.j2",
            title=Text(
                zh=f"{model.name} 微调：显存、速度与选择", en=f"Fine-tuning {model.name}: memory, speed, choice"
            ),
            description=model.why,
            context={
                "model": model,
                "facts": facts,
                "parameters": dataset.parameters.get(model.id),
                "reading": reading_of(facts, "downloads", dataset.data_date),
                "origins": list(origins(facts, dataset.data_date)),
                "licence": dataset.licence(model),
                "family": dataset.catalog.families.get(model.family),
                "methods": dataset.catalog.methods,
                "recipes": dataset.catalog.recipes,
                "sizes": [size for size, _ in cards],
                "matrix": matrix,
                "start": starting_size(matrix, "qlora", [size for size, _ in cards]),
                "lora_start": starting_size(matrix, "lora", [size for size, _ in cards]),
                "lengths": LENGTHS,
                "by_length": by_length,
                "rise": rise(dataset, by_length),
                "speeds": speeds.get(model.hub_id, ()),
                "siblings": siblings[:12],
                "instead": [dataset.catalog.models[name] for name in model.instead],
                "successor": dataset.catalog.models.get(model.successor or ""),
                "tasks": [dataset.catalog.scenarios[name] for name in model.scenarios],
                "scores": scores[:SCORES_SHOWN],
                "groups": dataset.catalog.benchmarks,
                "runs": dataset.runs_of.get(model.hub_id, ()),
            },
            edit=f"catalog/models/{model.id}.yaml",
        )


def memory_matrix(
    cells: Cells, model: ModelEntry, usable: list[float | None]
) -> list[tuple[str, str, Need, list[Any]]]:
    """Rows (method, recipe, need, verdict per `usable` size) at 1 × 2,048 tokens; set-ups without an answer are left out."""
    return [
        (method, recipe, need, [judge(need, size) for size in usable])
        for method, recipe in WAYS
        if (need := cells.need(model, method, recipe)) is not None
    ]


def starting_size(matrix: list[tuple[str, str, Need, list[Any]]], method: str, sizes: list[int]) -> int | None:
    """Smallest of ``sizes`` (GB, one per verdict) on which `method` surely fits in some recipe."""
    fitting = [
        size
        for name, _, _, verdicts in matrix
        if name == method
        for size, verdict in zip(sizes, verdicts, strict=True)
        if verdict == "yes"
    ]
    return min(fitting, default=None)


def length_table(cells: Cells, model: ModelEntry, context: int | None) -> list[tuple[str, str, list[Need | None]]]:
    """Rows (method, recipe, need per length), lengths beyond the model's context left empty."""
    rows = []
    for method, recipe in LENGTH_WAYS:
        needs = [
            cells.need(model, method, recipe, seq_len=length) if not context or length <= context else None
            for length in LENGTHS
        ]
        if any(needs):
            rows.append((method, recipe, needs))
    return rows


def rise(dataset: Dataset, rows: list[tuple[str, str, list[Need | None]]]) -> tuple[int, int, Text, Need, Need] | None:
    """Shortest and longest length of the first row with its name and both needs: what the memory figure shows."""
    for method, _, needs in rows:
        known = [(length, need) for length, need in zip(LENGTHS, needs, strict=True) if need]
        if len(known) > 1:
            entry = dataset.catalog.methods.get(method)
            name = entry.title if entry else Text(zh=method, en=method)
            return known[0][0], known[-1][0], name, known[0][1], known[-1][1]
    return None


def speed_tables(cells: Cells) -> SpeedTables:
    """Estimated speeds of all models at once: the estimator answers a matrix faster than its cells."""
    gpus = cells.dataset.catalog.gpus
    table = cells.estimator.table
    cards = [name for name in SPEED_CARDS if name in gpus and name in table.gpus]
    cases = [Case(method=m, recipe=r, seq_len=n) for m, r in SPEED_WAYS for n in LENGTHS]  # type: ignore[arg-type]
    hubs = list(table.models)
    rates = cells.estimator.matrix(hubs, cases, cards)["tokens_per_second"]
    found: SpeedTables = {}
    for i, hub_id in enumerate(hubs):
        context = (facts.context_length if (facts := cells.dataset.hub.get(hub_id)) else None) or LENGTHS[-1]
        for k, card in enumerate(cards):
            for j, (method, recipe) in enumerate(SPEED_WAYS):
                row = rates[i, j * len(LENGTHS) : (j + 1) * len(LENGTHS), k]
                values = [
                    float(rate) if rate == rate and length <= context else None
                    for rate, length in zip(row, LENGTHS, strict=True)
                ]
                if any(values):
                    found.setdefault(hub_id, []).append((gpus[card].name, method, recipe, values))
    return found
