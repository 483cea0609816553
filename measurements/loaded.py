"""Cells at the loads that people train with: so many tokens a step that the GPU, not the processor, sets the pace.

The short campaign asks what fits, so its steps are small; on a large card most of them wait for the processor. These
take as many tokens as make a step of about a second. With them come two questions of their own: 8-bit base models, and
the smallest caps near 80 GB.
"""

from __future__ import annotations

from .breadth import CAP, LARGE, MIDDLE, MODELS, OFF, SMALL, Bundle, choose_knobs, keep_fitting
from .cells import Cell

LOADS: dict[int, tuple[Bundle, ...]] = {
    id(SMALL): (
        ("stock", (choose_knobs("lora", 8, 2048), choose_knobs("full", 8, 1024), choose_knobs("qlora", 16, 1024))),
        ("lean", (choose_knobs("lora", 16, 2048), choose_knobs("qlora", 8, 2048), choose_knobs("full", 8, 2048))),
        ("lean", (choose_knobs("full_bf16_adam8bit", 16, 1024), choose_knobs("lora", 8, 1024, **OFF))),
    ),
    id(MIDDLE): (
        ("stock", (choose_knobs("lora", 4, 2048), choose_knobs("qlora", 8, 1024))),
        (
            "lean",
            (
                choose_knobs("lora", 8, 2048),
                choose_knobs("qlora", 4, 4096),
                choose_knobs("full_bf16_adam8bit", 8, 1024),
            ),
        ),
        ("lean", (choose_knobs("qlora", 16, 1024), choose_knobs("lora", 4, 1024, **OFF))),
    ),
    id(LARGE): (
        ("stock", (choose_knobs("lora", 4, 1024), choose_knobs("qlora", 4, 2048))),
        ("lean", (choose_knobs("lora", 4, 2048), choose_knobs("qlora", 2, 4096), choose_knobs("lora", 1, 8192))),
        ("lean", (choose_knobs("qlora", 8, 1024), choose_knobs("qlora", 2, 1024, **OFF))),
    ),
}
INT8 = (
    ("meta-llama/Llama-3.2-1B", (choose_knobs("lora_8bit", 1, 1024), choose_knobs("lora_8bit", 4, 2048))),
    ("Qwen/Qwen2.5-3B", (choose_knobs("lora_8bit", 1, 1024, **CAP), choose_knobs("lora_8bit", 2, 2048))),
    ("google/gemma-2-2b", (choose_knobs("lora_8bit", 1, 1024),)),
    ("HuggingFaceTB/SmolLM2-1.7B", (choose_knobs("lora_8bit", 2, 2048), choose_knobs("lora_8bit", 1, 1024, **OFF))),
    ("meta-llama/Llama-3.1-8B", (choose_knobs("lora_8bit", 1, 1024), choose_knobs("lora_8bit", 4, 1024))),
    ("Qwen/Qwen3-8B", (choose_knobs("lora_8bit", 1, 1024, **CAP), choose_knobs("lora_8bit", 1, 2048))),
)
EDGE = (  # the smallest caps near 80 GB
    ("Qwen/Qwen3-4B", "stock", choose_knobs("full", 1, 1024, **CAP)),
    ("microsoft/phi-4", "lean", choose_knobs("full_bf16_adam8bit", 1, 1024, **CAP)),
    ("google/gemma-2-9b", "lean", choose_knobs("full_bf16_adam8bit", 4, 2048, **CAP)),
    ("mistralai/Mistral-Nemo-Base-2407", "lean", choose_knobs("full_bf16_adam8bit", 1, 1024, **CAP)),
    ("Qwen/Qwen2.5-7B", "stock", choose_knobs("lora", 12, 2048, **CAP)),
)


def make_loaded_plan() -> list[Cell]:
    """The cells, hold-outs not yet marked: every model's first bundle before anyone's second."""
    hands: list[list[Cell]] = [[], [], []]
    for model, size, lean in MODELS:
        for hand, (recipe, knobs) in zip(hands, keep_fitting(model, LOADS[id(size)], lean), strict=False):
            hand += [Cell(model, recipe, **item) for item in knobs]
    special = [Cell(model, "stock", **item) for model, knobs in INT8 for item in knobs]
    special += [Cell(model, recipe, **item) for model, recipe, item in EDGE]
    cells = hands[0] + special + hands[1] + hands[2]
    return list({cell.key: cell for cell in reversed(cells)}.values())[::-1]
