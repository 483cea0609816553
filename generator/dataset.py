"""The join of everything known: curated catalog, Hub snapshot, measured runs. Read-only; one object per build."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from .architecture import count_parameters
from .catalog import Catalog, load_catalog
from .curves import LossCurves, read_curves
from .evidence import Evidence, columns_of, weigh
from .hub.discovered import FOLDER, Discovered, Discovery, read_discovered, without
from .hub.freshness import is_old, observed_day, origin
from .hub.snapshot import read_snapshot
from .ranking import load_ranking
from .records import HubFacts, LicenceEntry, ModelEntry, Problem, Run, SizeClassEntry
from .runs import read_runs

if TYPE_CHECKING:
    import pandas as pd

INPUTS = ("catalog", "measurements/results")
"""Folders whose content determines the site, relative to the repository root."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Everything a view may show. Built by `load_dataset`; the look-ups are computed once. Equal only to itself, so
    that what is made of it can be kept by it."""

    root: Path
    catalog: Catalog
    hub: Mapping[str, HubFacts]
    runs: Sequence[Run]
    discovery: Discovery | None = None
    """The last search for new models; None if none was ever made."""
    curves: Sequence[LossCurves] = ()
    """Training runs in both recipes, loss beside loss."""
    json_digest: str = ""
    """Of the files that the machine writes: equal digests mean the same snapshot, runs and tables of figures."""

    @cached_property
    def discovered(self) -> tuple[Discovered, ...]:
        """Notable models that the catalog lacks, most notable first: the first to be measured next."""
        return without(self.discovery, (model.hub_id for model in self.catalog.models.values()))

    def facts(self, model: ModelEntry) -> HubFacts:
        """Fetched facts of a catalog model; a record of unknowns where the snapshot has none."""
        return self.hub.get(model.hub_id) or HubFacts(hub_id=model.hub_id)

    @cached_property
    def parameters(self) -> Mapping[str, int]:
        """Catalog id → parameter count from the config (snapshot's own count where the config is unknown)."""
        counts: dict[str, int] = {}
        for model in self.catalog.models.values():
            facts = self.facts(model)
            count = facts.parameters or (count_parameters(facts.config) if facts.config else None)
            if count:
                counts[model.id] = count
        return counts

    def is_old(self, facts: HubFacts) -> bool:
        """Whether the Hub's changing figures (downloads, likes) were read over 30 days before the newest data."""
        return is_old(facts, date.fromisoformat(self.data_date), "downloads")

    def size_class(self, model: ModelEntry) -> SizeClassEntry | None:
        """Size class by total parameters (memory follows the total, also for mixtures of experts)."""
        count = self.parameters.get(model.id)
        if count is None:
            return None
        billions = count / 1e9
        for entry in self.catalog.size_classes.values():
            if entry.low_billions <= billions and (entry.high_billions is None or billions < entry.high_billions):
                return entry
        return None

    def licence(self, model: ModelEntry) -> LicenceEntry | None:
        """Licence terms: the curated choice, else the one that the Hub's field names."""
        if model.licence:
            return self.catalog.licences.get(model.licence)
        name = self.facts(model).licence
        for entry in self.catalog.licences.values():
            if name and (name == entry.id or name in entry.hub_names):
                return entry
        return None

    @cached_property
    def runs_of(self) -> Mapping[str, tuple[Run, ...]]:
        """Hub id → its measured runs."""
        grouped: dict[str, list[Run]] = {}
        for run in self.runs:
            grouped.setdefault(run.hub_id, []).append(run)
        return {hub_id: tuple(runs) for hub_id, runs in grouped.items()}

    @cached_property
    def evidence(self) -> Mapping[str, Mapping[str, Evidence]]:
        """Task id → Hub id → comparable evidence of the catalog's models."""
        quality = load_ranking(self.root).quality
        known = [model.hub_id for model in self.catalog.models.values()]
        columns = columns_of(self.catalog.benchmarks.values(), quality.least_compared)
        return {
            task.id: weigh(columns, task.benchmarks, known, quality.ridge, quality.bridge)
            for task in self.catalog.scenarios.values()
        }

    @cached_property
    def models(self) -> pd.DataFrame:
        """One row per catalog model with curated and fetched columns joined; missing values are None/NaN."""
        import pandas as pd  # a fifth of a second, which commands without this table do without

        rows = []
        for model in self.catalog.models.values():
            facts, size, licence = self.facts(model), self.size_class(model), self.licence(model)
            rows.append(
                {
                    "id": model.id,
                    "hub_id": model.hub_id,
                    "name": model.name,
                    "family": model.family,
                    "variant": model.variant,
                    "status": model.status,
                    "size_class": size.id if size else None,
                    "parameters": self.parameters.get(model.id),
                    "parameters_active": facts.parameters_active,
                    "licence": licence.id if licence else None,
                    "commercial_use": licence.commercial_use if licence else "unknown",
                    "languages": tuple(model.languages or facts.languages or ()),
                    "context_length": facts.context_length,
                    "downloads": facts.downloads,
                    "likes": facts.likes,
                    "gated": facts.gated,
                    "created": facts.created,
                    "observed": observed_date(facts),
                    "old": self.is_old(facts),
                    "runs": len(self.runs_of.get(model.hub_id, ())),
                }
            )
        if not rows:
            return pd.DataFrame(columns=["id", "name", "parameters"])
        frame = pd.DataFrame(rows).sort_values(["parameters", "id"], na_position="last")
        return frame.set_index(frame["id"].rename(None))

    @cached_property
    def data_date(self) -> str:
        """Newest date found in the data (never the clock, so that a rebuild changes nothing)."""
        dates = [str(run.date) for run in self.runs]
        dates += [facts.refreshed for facts in self.hub.values() if facts.refreshed]
        dates += [day for facts in self.hub.values() if (day := observed_date(facts))]
        return max(dates, default="1970-01-01")


def observed_date(facts: HubFacts) -> str | None:
    """Latest day (YYYY-MM-DD) on which the Hub's changing figures (downloads, likes) were read."""
    days = [observed_day(facts, field) for field in ("downloads", "likes") if origin(facts, field)]
    return max((day.isoformat() for day in days if day), default=facts.refreshed)


class BrokenInputs(ValueError):
    """Inputs that a command cannot work with; ``problems`` says what is wrong, one record each."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


def require_dataset(root: Path) -> Dataset:
    """The dataset, for commands that need it whole. Raises `BrokenInputs`."""
    dataset, problems = load_dataset(root)
    if problems:
        raise BrokenInputs(problems)
    return dataset


def load_dataset(root: Path) -> tuple[Dataset, list[Problem]]:
    """Read all inputs under `root`; problems of all files are collected, none is raised."""
    catalog, problems = load_catalog(root)
    digest = input_digest(root, (".json", ".jsonl"))
    hub, runs, curves, discovery, json_problems = _read_json(root, digest)
    problems += [problem.model_copy(update={"file": relative(problem.file, root)}) for problem in json_problems]
    return Dataset(root, catalog, hub, runs, discovery, curves, digest), problems


def relative(file: str, root: Path) -> str:
    """A file's name as a contributor knows it: from the root of the repository."""
    path = Path(file)
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else file


@lru_cache(maxsize=1)
def _read_json(
    root: Path, digest: str
) -> tuple[Mapping[str, HubFacts], Sequence[Run], Sequence[LossCurves], Discovery | None, tuple[Problem, ...]]:
    """Snapshot, runs, loss curves and discoveries, read again only when one of their files changed (`digest`)."""
    hub, hub_problems = read_snapshot(root / "catalog" / "hub")
    runs, run_problems = read_runs(root / "measurements" / "results")
    curves, curve_problems = read_curves(root / "measurements" / "results")
    discovery, search_problems = read_discovered(root / FOLDER)
    return hub, runs, curves, discovery, (*hub_problems, *run_problems, *curve_problems, *search_problems)


def input_digest(root: Path, kinds: tuple[str, ...] = (".yaml", ".json", ".jsonl")) -> str:
    """Digest of names, sizes and change times of the inputs: equal digests mean that nothing was edited."""
    digest = hashlib.blake2b(digest_size=16)
    for top in INPUTS:
        for folder, _, names in sorted(os.walk(root / top)):
            for name in sorted(names):
                if name.endswith(kinds):
                    stat = os.stat(f"{folder}/{name}")  # noqa: PTH116  (two thousand files, several times a build)
                    digest.update(f"{folder}/{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()
