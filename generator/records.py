"""The frozen records that everything else passes around. This module imports nothing from the project.

Four kinds, one type each, so that a given value can never be mistaken for a derived one:
*given* (``ModelEntry``, ``GpuEntry``, … written by people in ``catalog/*.yaml``), *fetched* (``HubFacts``, written by
``refresh`` in ``catalog/hub/*.json``), *measured* (``Run``, written by the harness in ``measurements/results``) and
*derived* (``Estimate``). Sizes are bytes, times seconds, rates per second; GiB (1024³) appears only where people read.
"""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

GIB = 1024**3

Language = Literal["zh", "en"]
LANGUAGES: tuple[Language, ...] = ("zh", "en")
"""Site languages; the first is the default and lives at the site root."""

RecipeId = Literal["stock", "lean"]
MethodId = Literal["full", "full_bf16_adam8bit", "lora", "qlora", "lora_8bit", "dora", "prompt_tuning"]
Basis = Literal["measured", "interpolated", "estimated"]
Fit = Literal["yes", "tight", "no"]

Id = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=96)]
HubId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$", max_length=140)]


def _visible(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be empty")
    return value


Visible = Annotated[str, AfterValidator(_visible)]


def slug(hub_id: str) -> str:
    """File and URL name of a Hub id: ``Qwen/Qwen3-8B`` → ``qwen--qwen3-8b``."""
    return re.sub(r"[^a-z0-9.-]+", "-", hub_id.lower().replace("/", "--"))


class Record(BaseModel):
    """Strict, frozen base: unknown keys are refused, numbers are never read from text."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)


class Text(Record):
    """One reader-facing passage in every site language."""

    zh: Visible
    en: Visible

    def __getitem__(self, language: Language) -> str:
        return self.zh if language == "zh" else self.en


class Source(Record):
    """Where a figure or a statement comes from."""

    title: Visible
    url: str | None = None
    observed: str | None = Field(None, description="date (YYYY-MM-DD) or an honest bound such as '<= 2026-09-24'")


class Problem(Record):
    """One thing wrong with the inputs, printed as ``file:line:column: field: reason``."""

    file: str
    line: int = 0
    column: int = 0
    field: str = ""
    reason: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{place}: {self.field}: {self.reason}" if self.field else f"{place}: {self.reason}"


# ---------------------------------------------------------------------------------------------- given (catalog/*.yaml)


class FamilyEntry(Record):
    """A model family: ``catalog/families/<id>.yaml``."""

    id: Id
    name: Visible
    maker: Text
    about: Text
    model_types: list[str] = Field(description="transformers model_type values of its configs")
    needs_remote_code: bool | None = None
    measured_as: Text | None = Field(
        None, description="which native architecture stands for it in measurements, and why"
    )
    sources: list[Source] = []


class FrameworkSupport(Record):
    """What the common training frameworks know of one model."""

    llamafactory_template: str | None = None
    llamafactory_registered: bool | None = None
    ms_swift_model_type: str | None = None
    ms_swift_registered: bool | None = None
    modelscope_id: str | None = None
    unsloth_listed: bool | None = None
    litgpt_name: str | None = None
    torchtune_listed: bool | None = None
    transformers_native: bool | None = None
    peft_default_targets: list[str] | None = None
    source: Source | None = None


class ModelEntry(Record):
    """A model worth a page: ``catalog/models/<id>.yaml``."""

    id: Id
    hub_id: HubId = Field(description="the model's id on the Hub, owner/name", examples=["owner/name"])
    name: Visible = Field(description="name to show")
    family: Id = Field(description="id of an entry in catalog/families", examples=["qwen3"])
    variant: Literal["base", "chat", "reasoning", "code"] = Field(description="what it was trained for")
    status: Literal["current", "superseded", "historical"] = Field(
        description="superseded = its successor is the better start today; historical = kept for those who know it"
    )
    successor: Id | None = Field(None, description="catalog id of what to take instead today")
    released: str | None = Field(None, description="YYYY-MM or YYYY-MM-DD")
    licence: Id | None = Field(None, description="id of an entry in catalog/licences; null = unknown")
    languages: list[str] | None = Field(None, description="ISO 639-1 codes the maker names; null = unknown")
    why: Text = Field(description="one line: why it is listed")
    choose_when: Text | None = Field(None, description="one line: when to take it rather than its neighbours")
    instead: list[Id] = Field([], description="catalog ids of good alternatives")
    scenarios: list[Id] = Field([], description="ids of catalog/scenarios that it suits")
    frameworks: FrameworkSupport | None = Field(None, description="what training frameworks know of it")
    sources: list[Source] = Field([], description="where the facts above come from")


class GpuEntry(Record):
    """A card or a machine: ``catalog/gpus/<id>.yaml``. null = unknown, never guessed."""

    id: Id
    name: Visible = Field(description="name as sold, with the memory size where it varies")
    vendor: Visible = Field(description="maker of the chip")
    category: Literal["consumer", "laptop", "workstation", "data_centre", "desktop_unified", "none"] = Field(
        description="market it is sold in; desktop_unified = one memory for CPU and GPU"
    )
    memory_gb: float = Field(ge=0, description="nominal size as sold, of one card; the largest where sizes vary")
    memory_options_gb: list[float] | None = Field(None, description="all sizes, where one chip is sold with several")
    usable_mib: int | None = Field(None, description="total memory that nvidia-smi (or the vendor's tool) prints, MiB")
    torch_total_gib: float | None = Field(None, description="total_memory as torch reports it, GiB")
    bandwidth_gb_s: float | None = Field(None, description="memory bandwidth, GB/s")
    fp16_dense_tflops: float | None = Field(
        None, description="matrix rate without sparsity, FP32 accumulation, TFLOP/s"
    )
    bf16_dense_tflops: float | None = Field(None, description="the same for bf16; null without native bf16")
    fp32_tflops: float | None = Field(None, description="FP32 rate outside the matrix units, TFLOP/s")
    fp16_nontensor_tflops: float | None = Field(None, description="FP16 rate outside the matrix units, TFLOP/s")
    tensor_basis: str | None = Field(None, description="documented, computed, no tensor cores or unknown")
    compute_capability: str | None = Field(None, description="CUDA only, in quotes: '8.6'")
    bf16: Literal["native", "none"] | None = Field(None, description="none = emulated or refused by libraries")
    tdp_w: float | None = Field(None, description="board power, W")
    launch_year: int | None = None
    unified_memory: bool = Field(False, description="the GPU shares the computer's memory")
    gpu_count: int = Field(1, ge=0, description="cards in the machine; 8 for an 8×H200 host, 0 for 'no GPU'")
    card: Id | None = Field(None, description="the single card of a multi-card machine")
    hourly_usd: float | None = Field(None, description="rent of the whole machine, US dollars an hour")
    price_source: Source | None = Field(None, description="where the price was read, and when")
    note: Text | None = Field(None, description="what a buyer would not guess")
    sources: list[Source] = Field([], description="where the figures come from")


class MethodEntry(Record):
    """A fine-tuning method: ``catalog/methods/<id>.yaml``."""

    id: str
    name: Visible = Field(description="short name, the same in both languages")
    title: Text = Field(description="what pages call it")
    measured_id: MethodId | None = Field(None, description="its id in recipes; null when only described")
    order: int
    summary: Text
    how_it_works: Text
    trains: Text
    costs: Text
    choose_when: Text
    avoid_when: Text
    diagram: str | None = Field(None, description="name of a diagram the site draws")
    sources: list[Source] = []


class RecipeEntry(Record):
    """Everything but the reader's knobs: ``catalog/recipes/<id>.yaml``."""

    id: RecipeId
    name: Text
    summary: Text
    settings: list[Text]
    differs: Text | None = None
    sources: list[Source] = []


class PublicDataset(Record):
    """A public training set named as evidence in a scenario."""

    id: Visible
    size: str | None = None
    licence: str | None = None
    language: str | None = None
    note: Text | None = None
    source: str | None = None


class PublishedFineTune(Record):
    """A published fine-tune named as evidence in a scenario."""

    name: Visible
    base_model: str | None = None
    method: Text | None = None
    data: Text | None = None
    hardware: Text | None = None
    reported_result: Text | None = None
    evidence: Text | None = Field(None, description="how far the result can be trusted")
    source: str | None = None


class ScenarioEntry(Record):
    """A reader's task: ``catalog/scenarios/<id>.yaml``."""

    id: Id
    order: int = Field(description="place on the page")
    in_article: bool = Field(description="one of the five scenarios of the article this guide replaces")
    name: Text
    goal: Text = Field(description="what the reader wants to build")
    lesson: Text = Field(description="what the evidence below teaches, in one or two sentences")
    method: Text = Field(description="which method to use and from which kind of model")
    data: Text = Field(description="what to train on and how much of it")
    why: Text = Field(description="why this size and method")
    language: str = Field(description="main data language, ISO 639-1, or 'any'")
    seq_len: int = Field(gt=0, description="typical training length, tokens")
    samples: int = Field(gt=0, description="typical number of training samples")
    size_billions: list[float] = Field(
        min_length=2, max_length=2, description="sensible parameter range, billions", examples=[[1.5, 8.0]]
    )
    benchmarks: list[str] = Field(description="benchmark names that count as evidence for this task")
    variants: list[Literal["base", "chat", "reasoning", "code"]] = Field(
        description="kinds of model to start from: base, chat, reasoning, code", examples=[["chat"]]
    )
    datasets: list[PublicDataset] = Field([], description="public training sets")
    fine_tunes: list[PublishedFineTune] = Field([], description="published fine-tunes, with what was measured")
    gaps: list[Text] = Field([], description="what was looked for and not found")
    sources: list[Source] = Field([], description="where the advice comes from")


class AudienceEntry(Record):
    """Who asks: ``catalog/audiences/<id>.yaml``."""

    id: Id
    order: int
    name: Text
    situation: Text
    gpus: list[Id]
    models: list[Id]
    methods: list[MethodId]
    advice: Text


class SizeClassEntry(Record):
    """A range of parameter counts: ``catalog/size_classes/<id>.yaml``. Range is [low, high) in billions."""

    id: Id
    order: int
    name: Text
    low_billions: float
    high_billions: float | None
    summary: Text
    good_for: list[Text]
    pros: list[Text]
    limits: list[Text]
    advice: Text
    examples: list[Id]


class LicenceEntry(Record):
    """Licence terms: ``catalog/licences/<id>.yaml``."""

    id: Id
    name: Visible
    commercial_use: Literal["yes", "conditions", "no", "unknown"]
    conditions: Text
    outputs_may_train: Text | None = None
    hub_names: list[str] = Field([], description="values of the Hub's license field that mean this licence")
    url: str | None = None
    evidence: Text | None = Field(None, description="how much of the licence text was read")
    note: Text | None = None
    source: str | None = None


class BenchmarkGroup(Record):
    """Scores that may be compared with each other: ``catalog/benchmarks/<id>.yaml``."""

    id: Id
    title: Visible
    source: Visible
    url: str | None = None
    note: Text | None = None
    secondary: bool = False
    scores: list[BenchmarkScore]


class BenchmarkScore(Record):
    model: str
    benchmark: str
    score: float
    kind: str | None = None
    mode: str | None = None
    setting: str | None = None
    note: str | None = None


class ClaimEntry(Record):
    """A numeric claim of the article this guide replaces: ``catalog/claims/<id>.yaml``."""

    id: str
    section: str
    claim: Text
    method: MethodId | None = None
    recipe: RecipeId = "stock"
    models: list[HubId] = Field([], description="models to test it on")
    vram_gb_low: float | None = None
    vram_gb_high: float | None = None
    verdict: Text | None = Field(None, description="where no measurement can decide it")
    contradicts: list[str] = []
    quantity: dict[str, Any] = Field({}, description="the claim's own figures, as written")


class NameCorrection(Record):
    """A model name in the article that does not exist or is wrong: ``catalog/name_corrections/<id>.yaml``."""

    id: Id
    as_written: Visible
    exists: bool
    problem: Text
    right: list[HubId]
    evidence: Text


# ------------------------------------------------------------------------------------ fetched (catalog/hub/<slug>.json)


class Provenance(Record):
    """Where one group of fetched facts comes from and when it was read."""

    source: str
    observed: str | None = None


class HubFacts(Record):
    """What the Hub says of one model. Schema 1. Untrusted text: escape it wherever it is shown. null = unknown."""

    schema_version: Literal[1] = 1
    hub_id: HubId
    revision: str | None = None
    config: dict[str, Any] | None = None
    parameters_hub: int | None = Field(None, description="safetensors.total, which is not the parameter count")
    parameters_hub_by_dtype: dict[str, int] | None = Field(None, description="safetensors.parameters: stored per dtype")
    parameters: int | None = Field(None, description="counted from the config")
    parameters_active: int | None = Field(None, description="per token, for mixtures of experts")
    parameters_check: str | None = None
    context_length: int | None = None
    licence: str | None = None
    gated: bool | None = None
    languages: list[str] | None = None
    tags: list[str] | None = None
    pipeline_tag: str | None = None
    library_name: str | None = None
    base_models: list[str] | None = None
    downloads: int | None = Field(None, description="last 30 days")
    likes: int | None = None
    created: str | None = None
    modified: str | None = None
    notes: list[str] = []
    provenance: dict[str, Provenance] = {}
    refreshed: str | None = Field(
        None, description="date of the last complete live read, YYYY-MM-DD; null = starting snapshot"
    )
    stale: str | None = Field(None, description="why the last refresh kept the old facts")
    renamed_from: HubId | None = None
    renamed_to: HubId | None = Field(None, description="where the Hub redirects this id today")


# -------------------------------------------------------------------------------- measured (measurements/results/**)


class Case(Record):
    """One fine-tuning set-up whose cost can be measured or estimated."""

    recipe: RecipeId = "stock"
    method: MethodId = "qlora"
    micro_batch: int = Field(1, ge=1)
    seq_len: int = Field(2048, ge=1)
    gradient_checkpointing: bool = True
    lora_rank: int = Field(16, ge=1)
    lora_targets: str | tuple[str, ...] = "all-linear"
    processor_pace: float | None = Field(
        None,
        gt=0,
        description="how long the processor takes to launch kernels, over what the reference host takes, if known",
    )


Pace = Literal["gpu", "processor"]
GPU_BOUND = 0.9
"""Share of a step in which the GPU works, from which on it sets the pace. Above, steps measured twice differ by 0.3 %;
below, by up to a half, on account of the processor."""
LAUNCH_BOUND = 0.985
"""The same where the GPU's own time was not measured: share of a step in which the processor launches, from which on
the GPU waits for it."""
PROBE_SECONDS = 0.041
"""What the reference host takes for the harness's fixed piece of launching (``measurements/timing.py``): the
median of the hosts that were measured, Xeons of the Sapphire Rapids kind."""


class Run(Record):
    """One measured cell, as the site uses it (read from the harness's result file by ``runs.py``)."""

    id: str
    hub_id: str
    config_sha256: str | None
    stands_for: str | None
    case: Case
    gpu: Id
    gpu_count: int
    sharding: str | None
    status: Literal["ok", "oom", "failed", "skipped"]
    reason: str | None
    holdout: bool
    extrapolated: bool
    repeat: int = Field(0, description="0 for the first measurement of a cell, 1 for the second …")
    peak_allocated_bytes: int | None
    peak_reserved_bytes: int | None
    process_bytes: int | None
    context_bytes: int | None
    min_cap_bytes: int | None
    load_peak_bytes: int | None
    breakdown_bytes: dict[str, int] | None
    step_seconds: float | None = Field(description="median after warm-up")
    launch_share: float | None = Field(
        None, description="of the step, until the processor had launched all of it; near 1 the GPU waited for it"
    )
    gpu_seconds: float | None = Field(None, description="of a step, in which the GPU worked")
    kernels: int | None = Field(None, description="and copies that the GPU did in a step")
    probe_seconds: float | None = Field(None, description="that the processor took for a fixed piece of launching")
    undisturbed: bool = Field(False, description="timed while no other process of the campaign used the machine")
    tokens_per_second: float | None
    tflops_per_second: float | None
    mfu: float | None
    environment: dict[str, Any]
    date: date

    @property
    def on_stand_in(self) -> bool:
        """Whether another class was measured, because the model needs code from its repository (``stand_in.py``)."""
        return bool(self.stands_for and "remote code" in self.stands_for)

    @property
    def paced_by(self) -> Pace | None:
        """What set the speed of the step; None where it is not known, or was timed beside other work."""
        if not self.step_seconds or not self.undisturbed:
            return None
        if self.gpu_seconds:
            return "gpu" if self.gpu_seconds >= GPU_BOUND * self.step_seconds else "processor"
        if self.launch_share is None:
            return None
        return "processor" if self.launch_share >= LAUNCH_BOUND else "gpu"

    @property
    def processor_pace(self) -> float | None:
        """How long the processor took to launch kernels, over what the reference host takes."""
        return float(f"{self.probe_seconds / PROBE_SECONDS:.4g}") if self.probe_seconds else None


# --------------------------------------------------------------------------------------------------------- derived


class Range(Record):
    """A figure with its 90 % interval."""

    value: float
    low: float
    high: float


class Estimate(Record):
    """The answer for one model, case and GPU."""

    basis: Basis
    basis_note: str = Field(description="from what: run ids, or the formula and its version")
    peak_allocated_bytes: Range
    peak_reserved_bytes: Range
    min_cap_bytes: Range
    needed_bytes: Range
    load_peak_bytes: float | None
    breakdown_bytes: dict[str, float] = Field(
        description="weights, adapters, gradients, optimizer, activations, logits, other"
    )
    tokens_per_second: Range | None
    limited_by: Pace | None = Field(
        None, description="what sets the speed: the card, or the processor that launches its kernels"
    )
    mfu: float | None
    fits: Fit | None
    largest_seq_len: int | None
    largest_micro_batch: int | None
