"""What one step needs, for every model × method × recipe: measured where it was measured, estimated elsewhere.

``needed`` is the smallest allocator cap under which the step finishes plus the CUDA context, which is what "does it fit
on my card" asks (methodology page). All figures are bytes. Computed once for both languages.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from ..architecture import UnknownArchitecture, describe
from ..dataset import Dataset
from ..estimate import BASES, Architecture, evaluate, set_id
from ..estimate_closed import approximate, make_sets
from ..records import GIB, Basis, Case, Fit, GpuEntry, ModelEntry, Run, Text

CONTEXT_BYTES = 0.6 * GIB
"""CUDA context of one process, seen on H100 and H200; on other cards it is 0.3–0.6 GiB."""

NOMINAL_SHARE = 0.975
"""Usable part of a card's nominal size where the vendor tool's figure is unknown (cards with known figures: 0.93–1.0)."""

METHODS: tuple[str, ...] = ("full", "full_bf16_adam8bit", "lora", "lora_8bit", "qlora", "prompt_tuning")
"""Methods with an estimate, from the most memory to the least."""

EXAMPLES: tuple[str, ...] = ("qwen2.5-0.5b", "qwen3-1.7b", "qwen3-8b", "qwen3-14b", "qwen3-32b", "llama-3.3-70b-instruct")
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
    def _sets(self) -> tuple[tuple, Mapping[str, int]]:  # type: ignore[type-arg]
        sets = make_sets()
        return sets, {entry.id: index for index, entry in enumerate(sets)}

    @cached_property
    def _architectures(self) -> Mapping[str, Architecture]:
        """Catalog id → coefficients; models whose configs are equal share one."""
        found: dict[str, Architecture] = {}
        known: dict[str, Architecture | None] = {}
        for model in self.dataset.catalog.models.values():
            config = self.dataset.facts(model).config
            if not config:
                continue
            key = json.dumps(config, sort_keys=True)
            if key not in known:
                try:
                    known[key] = approximate(describe(config), self._sets[0])
                except (UnknownArchitecture, ValueError):
                    known[key] = None
            architecture = known[key]
            if architecture is not None:
                found[model.id] = architecture
        return found

    @cached_property
    def _measured(self) -> Mapping[tuple[str, Case], Run]:
        """Finished runs by Hub id and case; of several the newest."""
        return {
            (run.hub_id, run.case): run
            for run in sorted(self.dataset.runs, key=lambda run: run.date)
            if run.status == "ok" and run.min_cap_bytes and not run.extrapolated and run.gpu_count == 1
        }

    @cached_property
    def _answers(self) -> dict[tuple[str, Case], Need | None]:
        return {}

    def need(self, model: ModelEntry, method: str, recipe: str = "stock", seq_len: int = 2048, batch: int = 1) -> Need | None:
        """The cell with gradient checkpointing, rank 16, all linear layers; None where nobody can say."""
        case = Case(recipe=recipe, method=method, seq_len=seq_len, micro_batch=batch)  # type: ignore[arg-type]
        key = (model.id, case)
        if key not in self._answers:
            self._answers[key] = self._find(model, case)
        return self._answers[key]

    def _find(self, model: ModelEntry, case: Case) -> Need | None:
        run = self._measured.get((model.hub_id, case))
        if run is not None and run.min_cap_bytes is not None:
            value = float(run.min_cap_bytes + (run.context_bytes or CONTEXT_BYTES))
            parts = {key: float(size) for key, size in (run.breakdown_bytes or {}).items()}
            return Need(value, value, value, "measured", run_note(self.dataset, run), parts)
        architecture = self._architectures.get(model.id)
        sets, index_of = self._sets
        index = index_of.get(set_id(case.recipe, case.method, case.gradient_checkpointing))
        if architecture is None or index is None or index not in architecture.cells:
            return None
        answer = evaluate(sets[index], architecture, architecture.cells[index], case)
        basis = BASES[answer.basis]
        low, high = sets[index].bands[basis]["cap"]
        return Need(
            answer.cap + CONTEXT_BYTES,
            answer.cap * low + CONTEXT_BYTES,
            answer.cap * high + CONTEXT_BYTES,
            "interpolated" if basis == "interpolated" else "estimated",
            Text(
                zh=f"公式估算，90% 区间 {answer.cap * low / GIB + 0.6:.1f}–{answer.cap * high / GIB + 0.6:.1f} GiB",
                en=f"by formula, 90 % interval {answer.cap * low / GIB + 0.6:.1f}–{answer.cap * high / GIB + 0.6:.1f} GiB",
            ),
            {str(key): size for key, size in answer.breakdown.items()},
        )

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


def usable_bytes(gpu: GpuEntry) -> float | None:
    """Memory of one card that a process can have, context included; None without a GPU or with shared memory."""
    if gpu.unified_memory or not gpu.gpu_count:
        return None
    if gpu.usable_mib:
        return float(gpu.usable_mib) * 1024**2
    return gpu.memory_gb * GIB * NOMINAL_SHARE


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


_CACHE: dict[int, tuple[Dataset, Cells]] = {}


def cells_of(dataset: Dataset) -> Cells:
    """The cells of a dataset, computed once however many sections ask."""
    kept = _CACHE.get(id(dataset))
    if kept is None or kept[0] is not dataset:
        _CACHE.clear()
        kept = _CACHE[id(dataset)] = (dataset, Cells(dataset))
    return kept[1]


