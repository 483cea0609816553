"""The trace of a training step: the allocator's rules, and small models against sums that can be done by hand."""

import json
from pathlib import Path

import pytest

from generator.records import Case
from generator.trace import trace
from generator.trace_allocator import MIB, Allocator, OutOfMemory, replay, smallest_cap
from generator.trace_model import NotTraceable
from generator.trace_step import trace_step

TINY = {
    "model_type": "qwen2", "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 32000, "tie_word_embeddings": True,
}  # fmt: skip
PARAMETERS = 32000 * 256 + 2 * (256 * (256 + 2 * 128) + 512 + 256 * 256 + 3 * 256 * 512 + 2 * 256) + 256
RESULTS = Path(__file__).parents[1] / "measurements" / "results" / "h100-sxm-80gb"
CONFIGS = Path(__file__).parents[1] / "measurements" / "configs"


def test_blocks_are_rounded_split_and_joined_as_the_allocator_does() -> None:
    allocator = Allocator()
    first, second = allocator.allocate(1), allocator.allocate(3 * MIB)
    assert (allocator.allocated, allocator.reserved) == (512 + 3 * MIB, 22 * MIB)
    whole = allocator.allocate(16 * MIB + 1)  # what is left of 17 MiB is too little to split
    assert whole.size == 17 * MIB and allocator.reserved == 22 * MIB
    for block in (first, second, whole):
        allocator.release(block)
    assert allocator.allocated == 0 and allocator.reserved == 22 * MIB
    allocator.give_back()
    assert allocator.reserved == 0


def test_a_cap_makes_the_allocator_give_free_segments_back_before_it_fails() -> None:
    allocator = Allocator(cap=40 * MIB)
    allocator.release(allocator.allocate(30 * MIB))
    assert allocator.allocate(36 * MIB).size == 36 * MIB  # the 30 MiB segment was returned
    with pytest.raises(OutOfMemory):
        allocator.allocate(12 * MIB)


def test_the_smallest_cap_lies_between_allocated_and_reserved() -> None:
    sizes, order = [30 * MIB, 36 * MIB, 30 * MIB], [0, ~0, 1, ~1, 2]
    marks = [(0, "build"), (4, "step")]
    peaks, reserved = replay(sizes, order, marks)
    assert peaks["step"] == 36 * MIB and reserved == 66 * MIB
    cap = smallest_cap(sizes, order, marks, peaks["step"], reserved)
    assert 36 * MIB <= cap <= 36 * MIB + 8 * MIB


def test_full_fine_tuning_keeps_sixteen_bytes_per_parameter() -> None:
    events = trace_step(TINY, Case(method="full", micro_batch=1, seq_len=64))
    assert events.parts["weights"] == events.parts["gradients"] == 4 * PARAMETERS
    assert events.parts["optimizer"] == pytest.approx(8 * PARAMETERS, rel=1e-3)
    peaks, _ = replay(events.sizes, events.order, events.marks)
    assert peaks["step"] > 16 * PARAMETERS


def test_a_lora_step_peaks_at_twelve_bytes_per_logit_and_liger_makes_no_logits() -> None:
    pytest.importorskip("liger_kernel")
    case = Case(method="lora", micro_batch=2, seq_len=2048)
    stock, lean = trace(TINY, case), trace(TINY, case.model_copy(update={"recipe": "lean"}))
    logits = 32000 * 2 * 2048
    above = stock["phase_peak_bytes"]["loss"] - stock["phase_peak_bytes"]["forward"]
    assert stock["peak_phase"] == "loss" and above == pytest.approx(12 * logits, rel=0.05)
    assert lean["peak_allocated_bytes"] < stock["peak_allocated_bytes"] - 11 * logits
    again = trace(TINY, case)  # Liger replaces names in the modeling module: they are put back
    assert again["peak_allocated_bytes"] == stock["peak_allocated_bytes"]


def test_checkpointing_and_quantisation_save_what_they_should() -> None:
    on = trace(TINY, Case(method="lora", micro_batch=1, seq_len=1024))
    off = trace(TINY, Case(method="lora", micro_batch=1, seq_len=1024, gradient_checkpointing=False))
    pytest.importorskip("bitsandbytes")
    quantised = trace(TINY, Case(method="qlora", micro_batch=1, seq_len=1024))
    assert off["phase_peak_bytes"]["forward"] > on["phase_peak_bytes"]["forward"] + 2 * 3 * 512 * 2 * 1024
    linear = PARAMETERS - 32000 * 256
    saved = on["parts_bytes"]["weights"] + 2 * 32000 * 256 - quantised["parts_bytes"]["weights"]
    assert saved == pytest.approx(1.5 * linear, rel=0.03)


def test_an_unknown_configuration_is_refused() -> None:
    with pytest.raises(NotTraceable, match="no native class for 'nonsense'"):
        trace({"model_type": "nonsense"}, Case())


@pytest.mark.parametrize("method", ["lora", "full_bf16_adam8bit"])
def test_the_trace_of_a_small_model_agrees_with_its_measurement_to_one_percent(method: str) -> None:
    config = json.loads((CONFIGS / "qwen--qwen2.5-0.5b.json").read_text(encoding="utf-8"))["config"]
    checked = 0
    for path in sorted(RESULTS.glob(f"qwen--qwen2.5-0.5b--stock--{method}--*.json")):
        found = json.loads(path.read_text(encoding="utf-8"))
        cell = found["cell"]
        if found["status"] != "ok" or not cell["gradient_checkpointing"] or cell["micro_batch"] != 4:
            continue
        case = Case(method=method, micro_batch=4, seq_len=cell["seq_len"], lora_rank=cell["lora_rank"] or 16)
        traced = trace(config, case)["peak_allocated_bytes"]
        assert traced == pytest.approx(found["memory"]["peak_allocated_bytes"], rel=0.01)
        checked += 1
    assert checked
