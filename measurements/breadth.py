"""The short campaign: as many different models, methods and knobs as one short run can take, in an order in which any
early stop is still balanced.

Cells come in bundles that share one base model. Every model gets ``ROUNDS`` bundles out of the list of its size class,
dealt in turn, so that each bundle meets many families; all models' first bundles come before anyone's second.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from .cells import WITH_LORA, Cell
from .result import digest

Bundle = tuple[str, tuple[dict[str, Any], ...]]  # recipe, knobs of each cell

QV = ("q_proj", "v_proj")
ROUNDS = 2


def choose_knobs(method: str, batch: int, seq: int, **more: Any) -> dict[str, Any]:
    """Knobs of a cell; without LoRA no rank and no targets."""
    plain = {} if method in WITH_LORA else {"lora_rank": None, "lora_targets": None}
    return {"method": method, "micro_batch": batch, "seq_len": seq} | plain | more


CAP = {"min_cap": True}
OFF = {"gradient_checkpointing": False}
SMALL: tuple[Bundle, ...] = (
    ("stock", (choose_knobs("lora", 1, 1024, **CAP), choose_knobs("lora", 4, 2048))),
    ("lean", (choose_knobs("full", 2, 1024, **CAP), choose_knobs("full", 8, 1024))),
    ("stock", (choose_knobs("qlora", 1, 1024, **CAP), choose_knobs("qlora", 2, 1024, **OFF))),
    ("lean", (choose_knobs("lora", 8, 1024), choose_knobs("lora", 1, 8192), choose_knobs("lora", 2, 1024, **OFF))),
    ("stock", (choose_knobs("full", 1, 1024, **CAP), choose_knobs("full", 4, 2048))),
    (
        "lean",
        (choose_knobs("qlora", 1, 4096), choose_knobs("qlora", 16, 1024), choose_knobs("qlora", 1, 512, lora_rank=256)),
    ),
    ("stock", (choose_knobs("full_bf16_adam8bit", 4, 1024), choose_knobs("prompt_tuning", 2, 1024))),
    ("lean", (choose_knobs("full_bf16_adam8bit", 4, 2048), choose_knobs("lora", 1, 16384))),
    (
        "stock",
        (
            choose_knobs("lora", 32, 512),
            choose_knobs("lora", 2, 2048, lora_rank=8, lora_targets=QV),
            choose_knobs("dora", 1, 1024),
        ),
    ),
)
MIDDLE: tuple[Bundle, ...] = (
    ("stock", (choose_knobs("qlora", 1, 1024, **CAP), choose_knobs("qlora", 1, 4096))),
    ("lean", (choose_knobs("lora", 1, 1024, **CAP), choose_knobs("lora", 2, 4096))),
    ("stock", (choose_knobs("lora", 1, 2048), choose_knobs("lora", 1, 1024, **OFF))),
    (
        "lean",
        (choose_knobs("qlora", 1, 2048, **CAP), choose_knobs("qlora", 1, 8192), choose_knobs("qlora", 2, 1024, **OFF)),
    ),
    ("stock", (choose_knobs("full_bf16_adam8bit", 1, 1024, **CAP), choose_knobs("prompt_tuning", 2, 1024))),
    ("lean", (choose_knobs("full_bf16_adam8bit", 2, 2048), choose_knobs("lora", 2, 512, lora_rank=128))),
    (
        "stock",
        (choose_knobs("lora", 4, 1024, lora_rank=8, lora_targets=QV), choose_knobs("lora", 1, 512, lora_rank=256)),
    ),
)
LARGE: tuple[Bundle, ...] = (
    ("stock", (choose_knobs("qlora", 1, 1024, **CAP), choose_knobs("qlora", 1, 4096))),
    ("lean", (choose_knobs("lora", 1, 1024, **CAP), choose_knobs("lora", 1, 4096))),
    ("lean", (choose_knobs("qlora", 1, 1024, **CAP), choose_knobs("qlora", 4, 2048))),
    ("stock", (choose_knobs("lora", 1, 1024), choose_knobs("lora", 2, 512, lora_rank=64))),
    (
        "lean",
        (
            choose_knobs("qlora", 1, 4096),
            choose_knobs("qlora", 1, 512, lora_rank=128),
            choose_knobs("qlora", 1, 1024, **OFF),
        ),
    ),
    ("stock", (choose_knobs("prompt_tuning", 2, 1024), choose_knobs("lora", 1, 2048, lora_rank=8, lora_targets=QV))),
)
# (model, size class, whether Liger has kernels for it)
MODELS: tuple[tuple[str, tuple[Bundle, ...], bool], ...] = (
    ("HuggingFaceTB/SmolLM2-135M", SMALL, True),
    ("google/gemma-3-270m", SMALL, True),
    ("Qwen/Qwen3-0.6B", SMALL, True),
    ("bigscience/bloom-560m", SMALL, False),
    ("meta-llama/Llama-3.2-1B", SMALL, True),
    ("Qwen/Qwen2.5-1.5B", SMALL, True),
    ("allenai/OLMo-2-0425-1B", SMALL, True),
    ("Qwen/Qwen3.5-0.8B", SMALL, True),
    ("HuggingFaceTB/SmolLM2-1.7B", SMALL, True),
    ("google/gemma-3-1b-pt", SMALL, True),
    ("openai-community/gpt2-medium", SMALL, False),
    ("Qwen/Qwen1.5-1.8B", SMALL, True),
    ("TinyLlama/TinyLlama-1.1B-Chat-v1.0", SMALL, True),
    ("baidu/ERNIE-4.5-0.3B-PT", SMALL, False),
    ("HuggingFaceTB/SmolLM2-360M", SMALL, True),
    ("openai-community/gpt2-xl", SMALL, False),
    ("bigscience/bloom-1b7", SMALL, False),
    ("microsoft/phi-2", MIDDLE, False),
    ("Qwen/Qwen2.5-3B", MIDDLE, True),
    ("google/gemma-2-2b", MIDDLE, True),
    ("ibm-granite/granite-3.3-2b-base", MIDDLE, True),
    ("Qwen/Qwen3-4B", MIDDLE, True),
    ("bigcode/starcoder2-3b", MIDDLE, False),
    ("meta-llama/Llama-3.2-3B", MIDDLE, True),
    ("Qwen/Qwen3.5-2B", MIDDLE, True),
    ("google/gemma-3-4b-pt", MIDDLE, True),
    ("HuggingFaceTB/SmolLM3-3B", MIDDLE, True),
    ("openbmb/MiniCPM-2B-sft-bf16", MIDDLE, True),
    ("google/gemma-4-E2B-it", MIDDLE, True),
    ("Qwen/Qwen3.5-4B", MIDDLE, True),
    ("mistralai/Mistral-7B-v0.3", LARGE, True),
    ("Qwen/Qwen3-8B", LARGE, True),
    ("zai-org/chatglm3-6b", LARGE, False),
    ("google/gemma-2-9b", LARGE, True),
    ("internlm/internlm2_5-7b", LARGE, True),
    ("meta-llama/Llama-2-13b-hf", LARGE, True),
    ("baichuan-inc/Baichuan2-7B-Base", LARGE, True),
    ("microsoft/phi-4", LARGE, True),
    ("Qwen/Qwen-7B", LARGE, True),
    ("zai-org/GLM-4-9B-0414", LARGE, True),
    ("Qwen/Qwen3.5-9B", LARGE, True),
    ("meta-llama/Llama-2-7b-hf", LARGE, True),
    ("tiiuae/Falcon3-7B-Base", LARGE, True),
    ("Qwen/Qwen3-14B", LARGE, True),
    ("google/gemma-3-12b-pt", LARGE, True),
    ("allenai/OLMo-2-1124-7B", LARGE, True),
    ("mistralai/Mistral-Nemo-Base-2407", LARGE, True),
    ("bigscience/bloom-7b1", LARGE, False),
    ("Qwen/Qwen2.5-14B", LARGE, True),
)
DEEP = (  # measured at two cut depths
    ("Qwen/Qwen2.5-32B", (4, 8), "stock", choose_knobs("qlora", 1, 1024)),
    ("Qwen/Qwen3-30B-A3B", (4, 8), "stock", choose_knobs("lora", 1, 1024)),
    ("meta-llama/Llama-3.1-70B", (4, 8), "lean", choose_knobs("qlora", 1, 1024)),
    ("openai/gpt-oss-20b", (2, 4), "stock", choose_knobs("lora", 1, 1024)),
    ("mistralai/Mixtral-8x7B-v0.1", (2, 4), "lean", choose_knobs("lora", 1, 1024)),
    ("Qwen/Qwen3-32B", (4, 8), "lean", choose_knobs("qlora", 1, 2048)),
    ("01-ai/Yi-1.5-34B", (4, 8), "lean", choose_knobs("lora", 1, 1024)),
    ("Qwen/Qwen2.5-72B", (4, 8), "stock", choose_knobs("qlora", 1, 1024)),
)
BOTH_WAYS = (  # cells measured at full depth and, as another repeat, at cut depths
    ("Qwen/Qwen2.5-7B", (4, 8), "stock", choose_knobs("qlora", 1, 1024)),
    ("Qwen/Qwen2.5-7B", (4, 8), "stock", choose_knobs("qlora", 4, 2048)),
    ("meta-llama/Llama-3.1-8B", (4, 8), "lean", choose_knobs("lora", 4, 2048)),
)
AGAIN: tuple[tuple[str, str, tuple[dict[str, Any], ...]], ...] = (  # runs of 2026-11-24 that were not clean
    (
        "Qwen/Qwen2.5-0.5B",
        "lean",
        (
            *(choose_knobs("full", batch, seq) for batch, seq in ((1, 1024), (4, 2048), (1, 4096))),
            choose_knobs("full", 2, 1024, **OFF),
        ),
    ),
    (
        "meta-llama/Llama-3.1-8B",
        "stock",
        (choose_knobs("lora", 1, 1024), choose_knobs("lora", 4, 2048), choose_knobs("lora", 2, 1024, **OFF)),
    ),
    (
        "Qwen/Qwen2.5-0.5B",
        "lean",
        (
            choose_knobs("lora", 1, 1024),
            choose_knobs("lora", 4, 2048),
            choose_knobs("lora", 2, 1024, **OFF),
            choose_knobs("qlora", 1, 1024, **CAP),
            choose_knobs("qlora", 4, 2048),
            choose_knobs("qlora", 2, 1024, **OFF),
            choose_knobs("qlora", 1, 512, lora_rank=64),
        ),
    ),
)
EXTRA = (  # questions of their own: the reference cell, int8, 16k tokens, the edge of a 40, 48 and 80 GB card
    (
        "Qwen/Qwen2.5-7B",
        "stock",
        (choose_knobs("qlora", 1, 1024, repeat=2, **CAP), choose_knobs("qlora", 4, 2048, repeat=2)),
    ),
    ("Qwen/Qwen3-8B", "stock", (choose_knobs("lora_8bit", 1, 1024, **CAP), choose_knobs("lora_8bit", 1, 2048))),
    ("Qwen/Qwen2.5-7B", "lean", (choose_knobs("full_bf16_adam8bit", 1, 1024, **CAP),)),
    ("Qwen/Qwen2.5-7B", "lean", (choose_knobs("qlora", 1, 16384), choose_knobs("qlora", 1, 2048, lora_targets=QV))),
    ("meta-llama/Llama-3.1-8B", "lean", (choose_knobs("lora", 4, 2048, repeat=1),)),
    ("Qwen/Qwen2.5-3B", "stock", (choose_knobs("full", 1, 1024, **CAP),)),
    ("Qwen/Qwen2.5-14B", "stock", (choose_knobs("lora", 1, 1024, **CAP), choose_knobs("lora", 2, 1024, **OFF))),
)
REPEATED = 10  # cells measured twice


def _positions(method: str) -> int:
    """How many positions of GPT-2's 1,024 are left for the text."""
    return 1000 if method == "prompt_tuning" else 1024


def keep_fitting(model: str, bundles: tuple[Bundle, ...], lean: bool) -> list[Bundle]:
    """The bundles that a model can take: without Liger only stock ones, GPT-2 no longer than its 1,024 positions, of
    which prompt-tuning takes some for itself."""
    fitting = [bundle for bundle in bundles if lean or bundle[0] == "stock"]
    if "gpt2" not in model:
        return fitting
    return [
        (recipe, tuple(item | {"seq_len": min(item["seq_len"], _positions(item["method"]))} for item in each))
        for recipe, each in fitting
    ]


def _deal() -> Iterator[list[Cell]]:
    """Bundles of every model, round by round; the size classes take turns."""
    dealt: dict[int, int] = {}
    hands: list[list[list[Cell]]] = [[] for _ in range(ROUNDS)]
    for model, bundles, lean in MODELS:
        fitting = keep_fitting(model, bundles, lean)
        start = dealt.get(id(bundles), 0)
        dealt[id(bundles)] = start + ROUNDS
        for number in range(ROUNDS):
            recipe, knobs = fitting[(start + number) % len(fitting)]
            separate = QV if model.startswith(("Qwen/", "meta-llama/", "google/", "mistralai/")) else None
            hands[number].append(
                [
                    Cell(model, recipe, **item)
                    for item in knobs
                    if item.get("lora_targets") != QV or separate or model.startswith("zai-org/GLM")
                ]
            )
    for hand in hands:
        yield from sorted((bundle for bundle in hand if bundle), key=lambda bundle: digest(bundle[0].model))


def make_short_plan() -> list[Cell]:
    """The cells, hold-outs not yet marked."""
    named = [[Cell(model, recipe, **item) for item in knobs] for model, recipe, knobs in (*EXTRA, *AGAIN)]
    deep = [[Cell(model, recipe, depths=depths, **item)] for model, depths, recipe, item in DEEP]
    deep += [[Cell(model, recipe, depths=depths, repeat=3, **item)] for model, depths, recipe, item in BOTH_WAYS]
    bundles: list[list[Cell]] = []
    special = named + deep
    for number, bundle in enumerate(_deal()):
        if number % 4 == 1 and special:
            bundles.append(special.pop(0))
        bundles.append(bundle)
    bundles += special
    repeated = 0
    for number, bundle in enumerate(bundles):
        if number % 7 == 3 and repeated < REPEATED and bundle[-1].depths is None and not bundle[-1].repeat:
            bundle.append(replace(bundle[-1], repeat=1, min_cap=False))
            repeated += 1
    unique = {cell.key: cell for bundle in reversed(bundles) for cell in reversed(bundle)}
    return list(reversed(unique.values()))
