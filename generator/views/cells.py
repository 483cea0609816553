"""What one step needs, for every model × method × recipe: measured where it was measured, estimated elsewhere.

``needed`` is the smallest allocator cap under which the step finishes plus the CUDA context, which is what "does it fit
on my card" asks (methodology page). All figures are bytes. Computed once for both languages.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

from ..coefficients import CONTEXT_BYTES, build_coefficients, gpu_figures, read_json
from ..dataset import Dataset
from ..estimate import BASES, evaluate
from ..estimate_answer import Estimator, case_key
from ..records import GIB, Basis, Case, Fit, GpuEntry, ModelEntry, Run, Text
from ..traced import FOLDER, read_traced_once

METHODS: tuple[str, ...] = ("full", "full_bf16_adam8bit", "lora", "lora_8bit", "qlora", "prompt_tuning")
"""Methods with an estimate, from the most memory to the least."""

EXAMPLES: tuple[str, ...] = (
    "qwen2.5-0.5b",
    "qwen3-1.7b",
    "qwen3-8b",
    "qwen3-14b",
    "qwen3-32b",
    "llama-3.3-70b-instruct",
)
"""Catalog ids of the models that stand for 0.5B, 1.7B, 8B, 14B, 32B and 70B."""


@dataclass(frozen=True)
class Need:
    """Memory of one step, bytes, with its 90 % interval and where it comes from."""

    value: float
    low: float
    high: float
    basis: Basis
    note: Text
    breakdown: Mapping[str, float]


@dataclass(frozen=True)
class Cells:
    """All cells of a dataset; `need` looks one up."""

    dataset: Dataset

    @cached_property
    def estimator(self) -> Estimator:
        """Coefficients of the catalog's models, corrected by the committed fit where there is one."""
        folder = self.dataset.root / "catalog"
        facts = [self.dataset.facts(model) for model in self.dataset.catalog.models.values()]
        calibration = read_json(folder / "calibration.json")
        traced = read_traced_once(folder / FOLDER, self.dataset.json_digest)[0]
        table, shapes = build_coefficients(facts, self.dataset.catalog.gpus.values(), calibration, traced)
        return Estimator(table, self.dataset.runs, shapes, calibration)

    @cached_property
    def _measured(self) -> Mapping[tuple[object, ...], Run]:
        """Finished runs by Hub id and case; of several the newest."""
        return {
            case_key(run.hub_id, run.case, ""): run
            for run in sorted(self.dataset.runs, key=lambda run: run.date)
            if run.status == "ok"
            and run.min_cap_bytes
            and not run.extrapolated
            and run.gpu_count == 1
            and not run.on_stand_in
        }

    @cached_property
    def _answers(self) -> dict[tuple[str, str, str, int, int], Need | None]:
        return {}

    def need(
        self, model: ModelEntry, method: str, recipe: str = "stock", seq_len: int = 2048, batch: int = 1
    ) -> Need | None:
        """The cell with gradient checkpointing, rank 16, all linear layers; None where nobody can say."""
        key = (model.id, method, recipe, seq_len, batch)
        if key not in self._answers:
            self._answers[key] = self._find(model, case_of(method, recipe, seq_len, batch))
        return self._answers[key]

    def _find(self, model: ModelEntry, case: Case) -> Need | None:
        run = self._measured.get(case_key(model.hub_id, case, ""))
        if run is not None and run.min_cap_bytes is not None:
            value = float(run.min_cap_bytes + (run.context_bytes or CONTEXT_BYTES))
            parts = {key: float(size) for key, size in (run.breakdown_bytes or {}).items()}
            return Need(value, value, value, "measured", run_note(self.dataset, run), parts)
        if not self.estimator.knows(model.hub_id, case):
            return None
        table = self.estimator.table
        architecture = table.architectures[table.models[model.hub_id]]
        index = table.set_index(case)
        entry, cell = table.sets[index], architecture.cells[index]
        answer = evaluate(entry, architecture, cell, case)
        basis = BASES[cell.basis]
        bands = entry.bands[basis]["cap"]
        low, high = answer.cap * bands[0] + CONTEXT_BYTES, answer.cap * bands[1] + CONTEXT_BYTES
        span = f"{low / GIB:.1f}–{high / GIB:.1f} GiB"
        if basis == "interpolated":
            note = Text(zh=f"90% 区间 {span}", en=f"90 % interval {span}")
        else:
            note = Text(zh=f"没有这一项的实测；90% 区间 {span}", en=f"not measured itself; 90 % interval {span}")
        parts = {str(key): size for key, size in answer.breakdown.items()}
        found: Basis = "interpolated" if basis == "interpolated" else "estimated"
        return Need(answer.cap + CONTEXT_BYTES, low, high, found, note, parts)

    def largest(self, gpu: GpuEntry, method: str, recipe: str) -> tuple[ModelEntry, Need] | None:
        """The largest current model that fits one card at 1 × 2,048 tokens; None for none, or where nobody can say."""
        usable = usable_bytes(gpu)
        if usable is None or gpu.vendor not in ("NVIDIA", "AMD"):
            return None
        for model, need in self._by_size(method, recipe):
            if need.value <= usable:
                return model, need
        return None

    def _by_size(self, method: str, recipe: str) -> list[tuple[ModelEntry, Need]]:
        if (method, recipe) not in self._ordered:
            counts = self.dataset.parameters
            current = [m for m in self.dataset.catalog.models.values() if m.status == "current" and m.id in counts]
            current.sort(key=lambda m: (-counts[m.id], m.id))
            rows = [(m, need) for m in current if (need := self.need(m, method, recipe)) is not None]
            self._ordered[method, recipe] = rows
        return self._ordered[method, recipe]

    @cached_property
    def _ordered(self) -> dict[tuple[str, str], list[tuple[ModelEntry, Need]]]:
        return {}


@lru_cache(maxsize=1024)
def case_of(method: str, recipe: str, seq_len: int, batch: int) -> Case:
    """The case of a cell: few of them, asked for of every model."""
    return Case(recipe=recipe, method=method, seq_len=seq_len, micro_batch=batch)  # type: ignore[arg-type]


def usable_bytes(gpu: GpuEntry) -> float | None:
    """Memory of one card that a process can have, context included; None without a GPU or with shared memory."""
    if gpu.unified_memory or not gpu.gpu_count:
        return None
    return gpu_figures(gpu).usable_bytes


def judge(need: Need | None, usable: float | None) -> Fit | None:
    """Fits (even the upper end), tight (the value but not the upper end), no; None where one side is unknown."""
    if need is None or usable is None:
        return None
    if max(need.high, need.value) <= usable:
        return "yes"
    return "tight" if need.value <= usable else "no"


def run_note(dataset: Dataset, run: Run) -> Text:
    """GPU, versions and date of a run, for the mark's tooltip."""
    gpu = dataset.catalog.gpus.get(run.gpu)
    versions = ", ".join(
        f"{name} {run.environment[name]}" for name in ("torch", "transformers", "peft") if name in run.environment
    )
    words = ", ".join(part for part in (gpu.name if gpu else run.gpu, versions, str(run.date)) if part)
    return Text(zh=words, en=words)


_LATEST: list[Cells] = []


def cells_of(dataset: Dataset) -> Cells:
    """The cells of a dataset, computed once however many sections ask; a reload that changes no input keeps them."""
    latest = _LATEST[0] if _LATEST else None
    if latest is None or latest.dataset is not dataset:
        cells = Cells(dataset)
        if latest is not None and _priced_alike(latest.dataset, dataset):
            kept = ("estimator", "_measured", "_answers") if latest.dataset.catalog.gpus == dataset.catalog.gpus else ()
            for name in kept or ("estimator", "_measured"):
                if name in latest.__dict__:
                    cells.__dict__[name] = latest.__dict__[name]
        _LATEST[:] = [cells]
    return _LATEST[0]


def _priced_alike(old: Dataset, new: Dataset) -> bool:
    """Whether no input of the estimator differs: snapshot, runs, tables, the cards' figures and the models' Hub ids."""
    return (
        old.root == new.root
        and bool(old.json_digest)
        and old.json_digest == new.json_digest
        and {g.id: gpu_figures(g) for g in old.catalog.gpus.values()}
        == {g.id: gpu_figures(g) for g in new.catalog.gpus.values()}
        and {m.id: m.hub_id for m in old.catalog.models.values()}
        == {m.id: m.hub_id for m in new.catalog.models.values()}
    )
