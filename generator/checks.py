"""The rules of the catalog: one small function each, listed in RULES; `check` prints what all of them find."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

from .architecture import count_parameters
from .dataset import Dataset
from .distil import architectures
from .ranking import read_ranking
from .records import Problem, slug
from .render import rendering_problems
from .traced import FOLDER, read_traced

Rule = Callable[[Dataset], Iterator[Problem]]

PARAMETER_TOLERANCE = 0.005
"""Largest accepted relative difference between a recorded parameter count and the config's own arithmetic."""


def dangling_ids(dataset: Dataset) -> Iterator[Problem]:
    """Every id that an entry names must exist."""
    catalog = dataset.catalog
    for model in catalog.models.values():
        file = f"catalog/models/{model.id}.yaml"
        if model.family not in catalog.families:
            yield Problem(file=file, field="family", reason=f"no family '{model.family}' in catalog/families")
        if model.licence is not None and model.licence not in catalog.licences:
            yield Problem(file=file, field="licence", reason=f"no licence '{model.licence}' in catalog/licences")
        for field, ids in (("successor", [model.successor] if model.successor else []), ("instead", model.instead)):
            for other in ids:
                if other not in catalog.models:
                    yield Problem(file=file, field=field, reason=f"no model '{other}' in catalog/models")
        for scenario in model.scenarios:
            if scenario not in catalog.scenarios:
                yield Problem(file=file, field="scenarios", reason=f"no scenario '{scenario}' in catalog/scenarios")
    for audience in catalog.audiences.values():
        file = f"catalog/audiences/{audience.id}.yaml"
        for gpu in audience.gpus:
            if gpu not in catalog.gpus:
                yield Problem(file=file, field="gpus", reason=f"no GPU '{gpu}' in catalog/gpus")
        for model_id in audience.models:
            if model_id not in catalog.models:
                yield Problem(file=file, field="models", reason=f"no model '{model_id}' in catalog/models")
    for size in catalog.size_classes.values():
        for model_id in size.examples:
            if model_id not in catalog.models:
                yield Problem(
                    file=f"catalog/size_classes/{size.id}.yaml", field="examples", reason=f"no model '{model_id}'"
                )
    for gpu_entry in catalog.gpus.values():
        if gpu_entry.card is not None and gpu_entry.card not in catalog.gpus:
            yield Problem(file=f"catalog/gpus/{gpu_entry.id}.yaml", field="card", reason=f"no GPU '{gpu_entry.card}'")


def duplicate_models(dataset: Dataset) -> Iterator[Problem]:
    """Two entries must not describe one Hub repository."""
    seen: dict[str, str] = {}
    for model in dataset.catalog.models.values():
        key = model.hub_id.lower()
        if key in seen:
            yield Problem(
                file=f"catalog/models/{model.id}.yaml",
                field="hub_id",
                reason=f"{model.hub_id} already has the entry '{seen[key]}'",
            )
        seen.setdefault(key, model.id)


def missing_facts(dataset: Dataset) -> Iterator[Problem]:
    """Every catalog model has a snapshot file (unknown facts are null, the file is there)."""
    for model in dataset.catalog.models.values():
        if model.hub_id not in dataset.hub:
            yield Problem(
                file=f"catalog/models/{model.id}.yaml",
                field="hub_id",
                reason=f"no catalog/hub/{slug(model.hub_id)}.json: `python -m generator refresh --only {model.hub_id}`",
            )


def parameter_counts(dataset: Dataset) -> Iterator[Problem]:
    """A recorded parameter count must agree with the config's arithmetic within 0.5 %."""
    for facts in dataset.hub.values():
        if not facts.config or not facts.parameters:
            continue
        counted = count_parameters(facts.config)
        if counted and abs(counted / facts.parameters - 1) > PARAMETER_TOLERANCE:
            yield Problem(
                file=f"catalog/hub/{slug(facts.hub_id)}.json",
                field="parameters",
                reason=f"{facts.parameters:,} recorded, but the config makes {counted:,} "
                f"({counted / facts.parameters - 1:+.1%})",
            )


def size_partition(dataset: Dataset) -> Iterator[Problem]:
    """Size classes cover every parameter count once."""
    entries = sorted(dataset.catalog.size_classes.values(), key=lambda entry: entry.low_billions)
    for lower, upper in pairwise(entries):
        if lower.high_billions != upper.low_billions:
            yield Problem(
                file=f"catalog/size_classes/{upper.id}.yaml",
                field="low_billions",
                reason=f"must begin where '{lower.id}' ends ({lower.high_billions})",
            )


def dead_links(dataset: Dataset) -> Iterator[Problem]:
    """Every page renders in every language: no link to a page that does not exist, no phrase without its twin."""
    for page, reason in rendering_problems(dataset):
        yield Problem(file=f"generator/views/templates/{page.template}", field=page.path, reason=reason)


def ranking(dataset: Dataset) -> Iterator[Problem]:
    """The picker's weights are there and make sense."""
    yield from read_ranking(dataset.root)[1]


def traced_coefficients(dataset: Dataset) -> Iterator[Problem]:
    """Every file of catalog/traced can be read and belongs to a shape of the snapshot."""
    files, problems = read_traced(dataset.root / "catalog" / FOLDER)
    yield from problems
    known = set(architectures(dataset.hub.values()))
    for key, data in files.items():
        if key not in known:
            yield Problem(
                file=f"catalog/{FOLDER}/{key}.json",
                field="shape",
                reason=f"no configuration of the snapshot has this shape any more ({data.get('model')}): delete it",
            )


QUICK_RULES: tuple[Rule, ...] = (
    dangling_ids, duplicate_models, missing_facts, size_partition, ranking, traced_coefficients
)  # fmt: skip
RULES: tuple[Rule, ...] = (*QUICK_RULES, parameter_counts, dead_links)


def find_problems(dataset: Dataset, *, quick: bool = False) -> list[Problem]:
    """All problems that the rules find; `quick` leaves out what a build finds anyway while rendering."""
    return [problem for rule in (QUICK_RULES if quick else RULES) for problem in rule(dataset)]
