"""The campaign: which cells are worth measuring, and which are set aside before anyone fits anything.

Every model gets the same short list of cells, larger ones fewer, so a campaign that is cut off is still balanced. A
quarter of the cells is drawn by the hash of the cell, the same on every machine; a few models are set aside whole.
"""

from __future__ import annotations

from dataclasses import replace

from .breadth import make_short_plan
from .cells import Cell
from .loaded import make_loaded_plan

HELD_OUT_MODELS = (
    "Qwen/Qwen3-4B",
    "mistralai/Mistral-7B-v0.3",
    "ibm-granite/granite-3.3-2b-instruct",
    "google/gemma-2-2b",
)
HELD_OUT_SHARE = 4  # one cell in so many

# (model, billions of parameters, lean too): order is priority
MODELS = (
    ("Qwen/Qwen2.5-7B", 7.6, True),
    ("meta-llama/Llama-3.1-8B", 8.0, True),
    ("Qwen/Qwen2.5-0.5B", 0.5, True),
    ("Qwen/Qwen3-1.7B", 1.7, True),
    ("Qwen/Qwen3-4B", 4.0, True),
    ("google/gemma-2-2b", 2.6, True),
    ("meta-llama/Llama-3.2-1B", 1.2, True),
    ("HuggingFaceTB/SmolLM2-135M", 0.1, True),
    ("openai-community/gpt2", 0.1, False),
    ("bigscience/bloom-560m", 0.6, False),
    ("Qwen/Qwen3-0.6B", 0.6, True),
    ("google/gemma-3-1b-pt", 1.0, True),
    ("HuggingFaceTB/SmolLM2-1.7B", 1.7, True),
    ("TinyLlama/TinyLlama-1.1B-Chat-v1.0", 1.1, True),
    ("Qwen/Qwen2.5-1.5B", 1.5, True),
    ("Qwen/Qwen1.5-1.8B", 1.8, True),
    ("microsoft/phi-2", 2.8, False),
    ("meta-llama/Llama-3.2-3B", 3.2, True),
    ("Qwen/Qwen2.5-3B", 3.1, True),
    ("HuggingFaceTB/SmolLM3-3B", 3.1, True),
    ("allenai/OLMo-2-0425-1B", 1.5, True),
    ("ibm-granite/granite-3.3-2b-instruct", 2.5, True),
    ("mistralai/Mistral-7B-v0.3", 7.2, True),
    ("Qwen/Qwen3-8B", 8.2, True),
    ("meta-llama/Llama-2-7b-hf", 6.7, True),
    ("google/gemma-2-9b", 9.2, True),
    ("zai-org/GLM-4-9B-0414", 9.4, True),
    ("bigcode/starcoder2-3b", 3.0, False),
    ("zai-org/chatglm3-6b", 6.2, False),
    ("internlm/internlm2_5-7b", 7.7, True),
    ("baichuan-inc/Baichuan2-7B-Base", 7.5, True),
    ("openbmb/MiniCPM-2B-sft-bf16", 2.7, True),
    ("Qwen/Qwen-7B", 7.7, True),
    ("bigscience/bloom-1b7", 1.7, False),
    ("baidu/ERNIE-4.5-0.3B-PT", 0.4, False),
    ("google/gemma-3-270m", 0.3, True),
    ("google/gemma-3-4b-pt", 3.9, True),
    ("meta-llama/Llama-2-13b-hf", 13.0, True),
    ("microsoft/phi-4", 14.7, True),
    ("Qwen/Qwen2.5-14B", 14.8, True),
    ("Qwen/Qwen3-14B", 14.8, True),
    ("Qwen/Qwen3.5-2B", 2.2, True),
    ("Qwen/Qwen3.5-0.8B", 0.9, True),
)
DEEP = (  # too large for many full-depth steps: measured at two depths; (model, depths)
    ("Qwen/Qwen2.5-32B", (4, 8)),
    ("Qwen/Qwen3-32B", (4, 8)),
    ("01-ai/Yi-1.5-34B", (4, 8)),
    ("meta-llama/Llama-3.1-70B", (4, 8)),
    ("Qwen/Qwen2.5-72B", (4, 8)),
    ("Qwen/Qwen3-30B-A3B", (4, 8)),
    ("openai/gpt-oss-20b", (2, 4)),
    ("mistralai/Mixtral-8x7B-v0.1", (2, 4)),
)


def _model_cells(model: str, billions: float, recipe: str) -> list[Cell]:
    def lora(method: str, batch: int, seq: int, **knobs: object) -> Cell:
        return Cell(model, recipe, method, batch, seq, **knobs)  # type: ignore[arg-type]

    def plain(method: str, batch: int, seq: int, **knobs: object) -> Cell:
        return Cell(model, recipe, method, batch, seq, lora_rank=None, lora_targets=None, **knobs)  # type: ignore[arg-type]

    longest = 1024 if "gpt2" in model else 4096
    two = min(2048, longest)
    cells = [
        lora("qlora", 1, 1024, min_cap=True),
        lora("qlora", 4, two),
        lora("qlora", 1, longest),
        lora("lora", 1, 1024, min_cap=True),
        lora("lora", 4, two),
        lora("lora", 2, 512, lora_rank=64),
    ]
    if billions < 10:
        cells += [
            lora("lora", 1, 1024, gradient_checkpointing=False),
            lora("qlora", 1, 1024, gradient_checkpointing=False),
            plain("prompt_tuning", 2, 1000 if "gpt2" in model else 1024),  # its virtual tokens take positions too
        ]
    if billions < 10 and model.startswith(("Qwen/", "meta-llama/", "mistralai/", "google/")):
        cells += [lora("qlora", 1, 2048, lora_targets=("q_proj", "v_proj")), lora("lora", 1, 512, lora_rank=256)]
    if billions < 3.5:
        cells += [plain("full", 1, 1024, min_cap=True), plain("full", 4, two), plain("full_bf16_adam8bit", 4, 1024)]
    elif billions < 10:
        cells += [plain("full_bf16_adam8bit", 1, 1024, min_cap=True), plain("full_bf16_adam8bit", 4, 1024)]
    if model == "meta-llama/Llama-3.1-8B":
        cells += [lora("lora_8bit", 1, 1024), lora("dora", 1, 1024), lora("qlora", 1, 16384), lora("lora", 1, 8192)]
    if billions < 0.7:
        cells += [lora("lora", 32, 512), plain("full", 16, 512), plain("full", 1, 1024, gradient_checkpointing=False)]
    return cells


def make_plan(gpu: str = "h100") -> list[Cell]:
    """The cells of the campaign on a GPU, in order of priority, hold-outs marked.

    On an H200 only the larger models; on every other GPU all of them (what cannot fit there is passed over later).
    """
    groups = [
        _model_cells(model, billions, recipe)
        for model, billions, lean in MODELS
        for recipe in (("stock", "lean") if lean else ("stock",))
        if "h200" not in gpu or billions > 5
    ]
    repeats = [replace(group[0], repeat=1, min_cap=False) for group in groups[:12]]
    deep = []
    for model, depths in DEEP:
        for recipe in ("stock", "lean"):
            for method in ("qlora", "lora"):
                for batch, seq in ((1, 1024), (1, 4096), (4, 2048)):
                    deep.append(Cell(model, recipe, method, batch, seq, depths=depths))
    cells = [cell for group in groups for cell in group] + repeats + deep
    unique: dict[str, Cell] = {}
    for cell in cells:
        if cell.key not in unique or cell.min_cap:  # one result answers both, if it also seeks the cap
            unique[cell.key] = cell
    return [replace(cell, holdout_kind=_hold_out(cell)) for cell in unique.values()]


def make_short() -> list[Cell]:
    """The cells of the short campaign, in order of priority, hold-outs marked."""
    return [replace(cell, holdout_kind=_hold_out(cell)) for cell in make_short_plan()]


def make_loaded() -> list[Cell]:
    """The cells at the loads that people train with, in order of priority, hold-outs marked."""
    return [replace(cell, holdout_kind=_hold_out(cell)) for cell in make_loaded_plan()]


def make_sharded(gpus: int) -> list[Cell]:
    """Cells of so many GPUs of one host, cheapest first, hold-outs marked."""
    wanted = (
        ("Qwen/Qwen2.5-0.5B", "full", 1, 1024),
        ("Qwen/Qwen3-1.7B", "full", 1, 1024),
        ("Qwen/Qwen2.5-7B", "lora", 1, 1024),
        ("Qwen/Qwen2.5-7B", "lora", 4, 2048),
        ("Qwen/Qwen3-4B", "full", 1, 1024),
        ("meta-llama/Llama-3.1-8B", "full", 1, 1024),
        ("meta-llama/Llama-3.1-8B", "lora", 1, 4096),
        ("Qwen/Qwen2.5-14B", "lora", 1, 1024),
        ("Qwen/Qwen2.5-32B", "lora", 1, 1024),
    )
    cells = []
    for model, method, batch, seq in wanted:
        rank, targets = (16, "all-linear") if method == "lora" else (None, None)
        cell = Cell(model, "stock", method, batch, seq, lora_rank=rank, lora_targets=targets)
        cells.append(replace(cell, gpu_count=gpus, sharding="fsdp2"))
    return [replace(cell, holdout_kind=_hold_out(cell)) for cell in cells]


def _hold_out(cell: Cell) -> str | None:
    if cell.model in HELD_OUT_MODELS:
        return "model"
    base = replace(cell, repeat=0, min_cap=False, depths=None, holdout_kind=None)
    return "cell" if int(base.key, 16) % HELD_OUT_SHARE == 0 else None
