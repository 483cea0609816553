"""The rules that need more than one kind of input; `check` prints what all of them find, after the problems of reading.

What concerns the catalog alone (schema, ids that lead nowhere, duplicates, size classes) is found while it is read.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from .architecture import count_parameters
from .catalog import RECORDS, entry_paths, locate
from .dataset import Dataset
from .distil import architectures
from .json_places import place_in
from .ranking import read_ranking
from .records import Problem, slug
from .render import rendering_problems
from .traced import FOLDER, read_traced_once
from .views.page import DeadLink, Page

Rule = Callable[[Dataset], Iterator[Problem]]

PARAMETER_TOLERANCE = 0.005
"""Largest accepted relative difference between a recorded parameter count and the config's own arithmetic."""


PLACEHOLDER = re.compile(r"待写|\bto[ -]be[ -]written\b|\bowner/name\b")
PLACEHOLDER_WORDS = ("待写", "written", "owner/name")
"""One of them is in every placeholder; looking for plain words is far quicker than for the pattern."""


def missing_facts(dataset: Dataset) -> Iterator[Problem]:
    """Every catalog model has a snapshot file (unknown facts are null, the file is there)."""
    for model in dataset.catalog.models.values():
        path = dataset.root / "catalog" / "hub" / f"{slug(model.hub_id)}.json"
        if model.hub_id not in dataset.hub and not path.is_file():
            file = f"catalog/models/{model.id}.yaml"
            line, column = locate((dataset.root / file).read_text(encoding="utf-8"), ("hub_id",))
            reason = f"no catalog/hub/{path.name}: `python -m generator refresh --only {model.hub_id}`"
            yield Problem(file=file, line=line, column=column, field="hub_id", reason=reason)


def parameter_counts(dataset: Dataset) -> Iterator[Problem]:
    """A recorded parameter count must agree with the config's arithmetic within 0.5 %."""
    for facts in dataset.hub.values():
        if not facts.config or not facts.parameters:
            continue
        counted = count_parameters(facts.config)
        if counted and abs(counted / facts.parameters - 1) > PARAMETER_TOLERANCE:
            file = f"catalog/hub/{slug(facts.hub_id)}.json"
            line, column = place_in((dataset.root / file).read_text(encoding="utf-8"), ("parameters",))
            reason = f"{facts.parameters:,} recorded, but the config makes {counted:,} "
            reason += f"({counted / facts.parameters - 1:+.1%})"
            yield Problem(file=file, line=line, column=column, field="parameters", reason=reason)


def placeholders(dataset: Dataset) -> Iterator[Problem]:
    """No entry still holds the words that its template gave it."""
    for folder in RECORDS:
        for path in entry_paths(dataset.root, folder):
            text = path.read_text(encoding="utf-8", errors="replace")
            if not any(word in text for word in PLACEHOLDER_WORDS):
                continue
            for number, line in enumerate(text.splitlines(), start=1):
                if found := PLACEHOLDER.search(line.partition(" #")[0]):
                    file = path.relative_to(dataset.root).as_posix()
                    reason = f"{found[0]!r} is left over from the template"
                    yield Problem(file=file, line=number, column=found.start() + 1, reason=reason)


def menu(dataset: Dataset) -> Iterator[Problem]:
    """Scenarios, methods and size classes are few, and each has its place in the menu of mkdocs.yml."""
    settings = dataset.root / "mkdocs.yml"
    if not settings.is_file():
        return
    lines = settings.read_text(encoding="utf-8").splitlines()
    start = next((number for number, line in enumerate(lines, start=1) if line.startswith("nav:")), 1)
    listed = {line.rpartition(": ")[2].strip() for line in lines}
    for folder, ids in (
        ("scenarios", dataset.catalog.scenarios),
        ("methods", dataset.catalog.methods),
        ("sizes", dataset.catalog.size_classes),
    ):
        for path in (f"{folder}/{id_}.md" for id_ in ids):
            if path not in listed:
                reason = f"{path} is not in the menu (its English title goes into nav_translations)"
                yield Problem(file="mkdocs.yml", line=start, column=1, field="nav", reason=reason)


def ranking(dataset: Dataset) -> Iterator[Problem]:
    """The picker's weights are there and make sense."""
    yield from read_ranking(dataset.root)[1]


def traced_coefficients(dataset: Dataset) -> Iterator[Problem]:
    """Every file of catalog/traced can be read and belongs to a shape of the snapshot."""
    files, problems = read_traced_once(dataset.root / "catalog" / FOLDER, dataset.json_digest)
    yield from problems
    if len(dataset.hub) < sum(1 for _ in (dataset.root / "catalog" / "hub").glob("*.json")):
        return  # a record that could not be read may be what a file belongs to
    known = set(architectures(dataset.hub.values()))
    for key, data in files.items():
        if key not in known:
            yield Problem(
                file=f"catalog/{FOLDER}/{key}.json",
                line=1,
                column=1,
                field="shape",
                reason=f"no configuration of the snapshot has this shape any more ({data.get('model')}): delete it",
            )


def dead_links(dataset: Dataset) -> Iterator[Problem]:
    """Every page renders in every language: no link to a page that does not exist, no phrase without its twin."""
    for page, error in rendering_problems(dataset):
        yield page_problem(page, error)


def dead_links_beside(dataset: Dataset, found: Sequence[Problem]) -> Iterator[Problem]:
    """Dead links of a data set of which entries could not be read (`found`), but for those that lead to such entries.

    What else fails may fail for want of those entries, and is left for the next check.
    """
    unread = {Path(problem.file).stem for problem in found}
    try:
        failures = list(rendering_problems(dataset))
    except (LookupError, ValueError, TypeError, AttributeError):
        return
    for page, error in failures:
        if isinstance(error, DeadLink) and Path(error.target).stem not in unread:
            yield page_problem(page, error)


def page_problem(page: Page, error: Exception) -> Problem:
    """What stopped a page, at the line of its template that raised it (templates know no columns)."""
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename.endswith(page.template)]
    file = f"generator/views/templates/{page.template}"
    return Problem(file=file, line=(lines or [None])[-1] or 1, column=1, field=page.path, reason=str(error))


QUICK_RULES: tuple[Rule, ...] = (missing_facts, ranking, placeholders, menu, traced_coefficients)
RULES: tuple[Rule, ...] = (*QUICK_RULES, parameter_counts, dead_links)


def find_problems(dataset: Dataset, *, quick: bool = False, rendering: bool = True) -> list[Problem]:
    """All problems that the rules find; without `rendering` those that a build meets anyway are left to it, and `quick`
    keeps to what can be told while somebody waits for a save."""
    rules = QUICK_RULES if quick else RULES if rendering else (*QUICK_RULES, parameter_counts)
    return [problem for rule in rules for problem in rule(dataset)]


def find_all_problems(dataset: Dataset, found: Sequence[Problem]) -> list[Problem]:
    """`found` while reading, and all that the rules find in what could be read."""
    if not found:
        return find_problems(dataset)
    others = [problem for rule in (*QUICK_RULES, parameter_counts) for problem in rule(dataset)]
    return [*found, *others, *dead_links_beside(dataset, found)]
