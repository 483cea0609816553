"""Reads the curated YAML entries under ``catalog/`` and says exactly what is wrong with them.

One YAML file per entry; the file name without ``.yaml`` is the entry's id. Files whose name starts with ``_`` are
templates for contributors and are not read (``catalog_template`` makes them). All problems of all files come back
from one call, each with the file, line and column that a person has to change.

Kept out, because YAML reads them otherwise than people do: repeated keys (the last would win silently), ``no`` for
Norwegian (false), ``3.10`` as a version (3.1), bare dates (date objects), ``1e-4`` (text). The strict field types of
``records`` refuse all but the first, which the loader refuses itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml
from pydantic import ValidationError

from generator.records import (
    AudienceEntry,
    BenchmarkGroup,
    ClaimEntry,
    FamilyEntry,
    GpuEntry,
    LicenceEntry,
    MethodEntry,
    ModelEntry,
    NameCorrection,
    Problem,
    RecipeEntry,
    Record,
    ScenarioEntry,
    SizeClassEntry,
)

if TYPE_CHECKING:
    from yaml import SafeLoader as _BaseLoader
else:
    _BaseLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

R = TypeVar("R", bound=Record)
Location = Sequence[int | str]

RECORDS: dict[str, type[Record]] = {
    "families": FamilyEntry,
    "models": ModelEntry,
    "gpus": GpuEntry,
    "methods": MethodEntry,
    "recipes": RecipeEntry,
    "scenarios": ScenarioEntry,
    "audiences": AudienceEntry,
    "size_classes": SizeClassEntry,
    "licences": LicenceEntry,
    "benchmarks": BenchmarkGroup,
    "claims": ClaimEntry,
    "name_corrections": NameCorrection,
}
"""Folder under ``catalog/`` → the record that each of its files holds."""

REFERENCES: tuple[tuple[str, str, str], ...] = (
    ("models", "family", "families"),
    ("models", "successor", "models"),
    ("models", "instead", "models"),
    ("models", "licence", "licences"),
    ("models", "scenarios", "scenarios"),
    ("gpus", "card", "gpus"),
    ("audiences", "gpus", "gpus"),
    ("audiences", "models", "models"),
    ("size_classes", "examples", "models"),
    ("claims", "contradicts", "claims"),
)
"""(folder, field, folder that the field's ids must exist in)."""


@dataclass(frozen=True)
class Catalog:
    """All valid entries by id; within each dict in order of file name."""

    families: dict[str, FamilyEntry] = field(default_factory=dict)
    models: dict[str, ModelEntry] = field(default_factory=dict)
    gpus: dict[str, GpuEntry] = field(default_factory=dict)
    methods: dict[str, MethodEntry] = field(default_factory=dict)
    recipes: dict[str, RecipeEntry] = field(default_factory=dict)
    scenarios: dict[str, ScenarioEntry] = field(default_factory=dict)
    audiences: dict[str, AudienceEntry] = field(default_factory=dict)
    size_classes: dict[str, SizeClassEntry] = field(default_factory=dict)
    licences: dict[str, LicenceEntry] = field(default_factory=dict)
    benchmarks: dict[str, BenchmarkGroup] = field(default_factory=dict)
    claims: dict[str, ClaimEntry] = field(default_factory=dict)
    name_corrections: dict[str, NameCorrection] = field(default_factory=dict)


def load_catalog(root: Path) -> tuple[Catalog, list[Problem]]:
    """Read ``root/catalog`` (``root`` is the repository). Never raises for bad data: see the problems.

    An entry with problems is left out of the catalog; ids that point at it are not reported a second time.
    """
    catalog = Catalog()
    problems: list[Problem] = []
    known: dict[str, set[str]] = {}
    for folder, record in RECORDS.items():
        entries: dict[str, Record] = getattr(catalog, folder)
        known[folder] = set()
        for path in entry_paths(root, folder):
            known[folder].add(path.stem)
            stat = path.stat()
            entry, wrong = _read_once(root, path, record, stat.st_size, stat.st_mtime_ns)
            problems += wrong
            if entry is not None:
                entries[path.stem] = entry
    problems += _check_references(root, catalog, known)
    problems += _check_models(root, catalog)
    problems += _check_size_classes(root, catalog)
    return catalog, sorted(problems, key=lambda p: (p.file, p.line, p.column, p.field))


def entry_paths(root: Path, folder: str) -> list[Path]:
    """The entry files of one folder, templates left out, in order of name."""
    return sorted(path for path in (root / "catalog" / folder).glob("*.yaml") if not path.name.startswith(("_", ".")))


@lru_cache(maxsize=8192)
def _read_once(
    root: Path, path: Path, record: type[Record], size: int, changed_ns: int
) -> tuple[Record | None, tuple[Problem, ...]]:
    """`read_entry`, once per state of the file: an entry that nobody edited stays the same object in a reload."""
    entry, problems = read_entry(root, path, record)
    return entry, tuple(problems)


def read_entry(root: Path, path: Path, record: type[R]) -> tuple[R | None, list[Problem]]:
    """Read and validate one entry; ``None`` if anything is wrong with it."""
    name = path.relative_to(root).as_posix()
    try:
        text = path.read_text(encoding="utf-8")
        loader = _Loader(text)
        try:
            data = loader.get_single_data()
        finally:
            loader.dispose()
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        return None, [Problem(file=name, line=line, column=1, reason=f"not UTF-8 text ({error.reason})")]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        reason = error.problem or error.context or "not readable"
        return None, [Problem(file=name, line=line, column=column, reason=f"not valid YAML: {reason}")]
    except yaml.YAMLError as error:
        return None, [Problem(file=name, line=1, column=1, reason=f"not valid YAML: {str(error).splitlines()[0]}")]

    problems = [
        Problem(file=name, line=line, column=column, field=key, reason="this key stands twice in the same mapping")
        for key, line, column in loader.repeated
    ]
    if not isinstance(data, dict):
        problems.append(Problem(file=name, line=1, column=1, reason="must be a mapping of fields"))
        return None, problems
    entry: R | None = None
    if data.get("id", path.stem) != path.stem:
        line, column = locate(text, ("id",))
        reason = f"must equal the file name, {path.stem!r} (or be left out)"
        problems.append(Problem(file=name, line=line, column=column, field="id", reason=reason))
    try:
        entry = record.model_validate({**data, "id": path.stem})
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            loc = detail["loc"]
            line, column = locate(text, loc, key=detail["type"] == "extra_forbidden")
            where = ".".join(str(part) for part in loc)
            reason = detail["msg"].removeprefix("Value error, ") + _yaml_hint(detail["type"], detail.get("input"))
            problems.append(Problem(file=name, line=line, column=column, field=where, reason=reason))
    return (None if problems else entry), problems


def locate(text: str, loc: Location, *, key: bool = False) -> tuple[int, int]:
    """Line and column (from 1) of the value at ``loc`` in a YAML text, or of its key.

    Where ``loc`` leads to something that is not there (a required field), the innermost mapping that is there.
    """
    try:
        node = yaml.compose(text, Loader=_BaseLoader)
    except yaml.YAMLError:
        return 1, 1
    if node is None:
        return 1, 1
    mark = node.start_mark
    for part in loc:
        if isinstance(node, yaml.MappingNode):
            found = next(((k, v) for k, v in node.value if k.value == str(part)), None)
            if found is None:
                break
            node = found[1]
            mark = (found[0] if key else node).start_mark
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            mark = node.start_mark
        else:
            break
    return mark.line + 1, mark.column + 1


_TEXT, _SEQUENCE, _MAPPING = (f"tag:yaml.org,2002:{kind}" for kind in ("str", "seq", "map"))


class _Loader(_BaseLoader):
    """A safe loader that remembers keys which stand twice in one mapping."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.repeated: list[tuple[str, int, int]] = []
        self.without_anchors = "&" not in stream

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """As PyYAML's, which looks up a constructor for every node and sees to anchors; most nodes need neither."""
        if self.without_anchors:
            if node.tag == _TEXT and isinstance(node, yaml.ScalarNode):
                return node.value
            if node.tag == _SEQUENCE and isinstance(node, yaml.SequenceNode):
                return [self.construct_object(item, True) for item in node.value]
            if node.tag == _MAPPING and isinstance(node, yaml.MappingNode):
                return self.construct_mapping(node, True)
        return super().construct_object(node, deep)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    self.repeated.append((key.value, key.start_mark.line + 1, key.start_mark.column + 1))
                seen.add(key.value)
        made: dict[Any, Any] = super().construct_mapping(node, deep)
        return made


def _yaml_hint(kind: str, value: object) -> str:
    """Why YAML made something else of what was written, when that explains a wrong type."""
    if kind in ("string_type", "literal_error") and isinstance(value, bool | int | float | date):
        what = "yes/no" if isinstance(value, bool) else "a date" if isinstance(value, date) else "a number"
        return f" (YAML read {value!r} as {what}: put it in quotes)"
    if kind in ("float_type", "int_type") and isinstance(value, str):
        return f" (got the text {value!r}: write a plain number, such as 12 or 1.0e-4)"
    return ""


# ------------------------------------------------------------------------------------------- between the entries


def _problem(root: Path, folder: str, entry: str, loc: Location, reason: str) -> Problem:
    path = root / "catalog" / folder / f"{entry}.yaml"
    line, column = locate(path.read_text(encoding="utf-8"), loc)
    where = ".".join(str(part) for part in loc)
    return Problem(file=path.relative_to(root).as_posix(), line=line, column=column, field=where, reason=reason)


def _check_references(root: Path, catalog: Catalog, known: Mapping[str, set[str]]) -> Iterator[Problem]:
    for folder, name, target in REFERENCES:
        for id_, entry in getattr(catalog, folder).items():
            value = getattr(entry, name)
            if isinstance(value, list):
                pairs: list[tuple[Location, str]] = [((name, i), v) for i, v in enumerate(value)]
            else:
                pairs = [((name,), value)] if value is not None else []
            for loc, reference in pairs:
                if reference not in known[target]:
                    yield _problem(root, folder, id_, loc, f"there is no catalog/{target}/{reference}.yaml")
    scored = {score.benchmark for group in catalog.benchmarks.values() for score in group.scores}
    for id_, scenario in catalog.scenarios.items():
        for i, benchmark in enumerate(scenario.benchmarks):
            if benchmark not in scored:
                reason = f"no score in catalog/benchmarks is for the benchmark {benchmark!r}"
                yield _problem(root, "scenarios", id_, ("benchmarks", i), reason)


def _check_models(root: Path, catalog: Catalog) -> Iterator[Problem]:
    first: dict[str, str] = {}
    for id_, model in catalog.models.items():
        other = first.setdefault(model.hub_id.lower(), id_)
        if other != id_:
            yield _problem(root, "models", id_, ("hub_id",), f"already listed in catalog/models/{other}.yaml")
        if model.status == "superseded" and model.successor is None:
            yield _problem(root, "models", id_, ("status",), "a superseded model needs a successor")
        if id_ == model.successor or id_ in model.instead:
            loc = ("successor",) if id_ == model.successor else ("instead", model.instead.index(id_))
            yield _problem(root, "models", id_, loc, "a model cannot stand in for itself")


def _check_size_classes(root: Path, catalog: Catalog) -> Iterator[Problem]:
    """The classes must cover all sizes from 0 up, each size once."""
    reached: float | None = 0.0
    for id_, entry in sorted(catalog.size_classes.items(), key=lambda item: item[1].low_billions):
        if entry.low_billions != reached:
            reason = f"the classes must join: the one before ends at {reached}"
            yield _problem(root, "size_classes", id_, ("low_billions",), reason)
        reached = entry.high_billions
