"""The trace of a training step: the allocator's rules, and small models against sums that can be done by hand."""

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

from generator.architecture import describe
from generator.estimate import chunk_tokens
from generator.estimate_closed import make_sets
from generator.records import Case
from generator.trace import trace
from generator.trace_allocator import MIB, Allocator, OutOfMemory, replay, search_cap, smallest_cap
from generator.trace_depth import Depth, plan_depths, trace_whole
from generator.trace_distil import distil_set
from generator.trace_model import NotTraceable
from generator.trace_points import loops_over_length
from generator.trace_repeat import one_step, repeat_middle, two_steps
from generator.trace_step import trace_step
from measurements.caps import search_min_cap

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


def test_of_equal_free_blocks_the_one_of_the_lowest_address_is_taken() -> None:
    allocator = Allocator()
    blocks = [allocator.allocate(30 * MIB) for _ in range(3)]
    for block in reversed(blocks):
        allocator.release(block)
    assert allocator.allocate(30 * MIB).address == blocks[0].address
    assert allocator.allocate(29 * MIB).address == blocks[1].address


@pytest.mark.parametrize("seed", range(12))
def test_the_search_finds_what_the_harness_finds_where_working_is_not_monotone(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = Random(seed)
    low, high = 1000 * MIB, random.randint(1001, 1600) * MIB
    holes = [(start, start + random.randint(5, 60) * MIB) for start in
             (random.randint(low, high) for _ in range(random.randint(0, 5)))]  # fmt: skip
    first = random.randint(low, high) if seed % 3 else high + 30 * MIB  # every third time nothing below `high` works

    def works(cap: int) -> bool:
        return cap >= first and not any(a <= cap < b for a, b in holes)

    class Gauge:
        cap = 0

        def set_cap(self, cap: int | None) -> None:
            self.cap = cap or 0

        def release(self) -> None:
            pass

    gauge = Gauge()

    def run() -> None:
        if not works(gauge.cap):
            raise torch.OutOfMemoryError

    monkeypatch.setattr("measurements.caps.drop_checkpoints", lambda: None)  # a pass over all of Python's objects
    found = search_min_cap(gauge, run, low, high, 1 << 60, 8 * MIB)  # type: ignore[arg-type]
    assert found is not None and search_cap(works, low, high, 8 * MIB) == found[0]


def test_weights_arrive_one_by_one_and_leave_the_holes_of_what_was_quantised() -> None:
    events = trace_step(TINY, Case(method="qlora", micro_batch=1, seq_len=64))
    marks = [phase for _, phase in events.marks if phase in ("loaded", "build")]
    assert marks[-1] == "build" and marks.count("loaded") >= 1
    built = events.order[: events.built]
    alive = {item for item in built if item >= 0} - {~item for item in built if item < 0}
    kept = sum(events.sizes[item] for item in alive)
    assert kept == pytest.approx(events.parts["weights"] + events.parts["adapters"], rel=0.02)
    made = sum(events.sizes[item] for item in built if item >= 0)
    linear = PARAMETERS - 32000 * 256
    assert made > kept + 2 * linear + 2 * 32000 * 256  # all of it was there in 16 bits


def test_products_with_a_bias_take_a_workspace_of_their_own_in_both_passes() -> None:
    def workspaces(config: dict[str, Any], checkpointing: bool) -> int:
        case = Case(method="lora", seq_len=512, gradient_checkpointing=checkpointing)
        two, single = trace_step(config, case), trace_step(config, case, None, 1)
        joined = two_steps(one_step(single))
        made = [single.shapes[joined.source[item]] for item in joined.order if item >= 0]
        count = two.shapes.count((1 << 20,))
        assert made.count((1 << 20,)) == count
        return count

    plain = {**TINY, "model_type": "llama"}
    assert [workspaces(TINY, on) for on in (True, False)] == [2, 1]
    assert [workspaces(plain, on) for on in (True, False)] == [0, 0]


def test_full_fine_tuning_keeps_sixteen_bytes_per_parameter() -> None:
    events = trace_step(TINY, Case(method="full", micro_batch=1, seq_len=64))
    assert events.parts["weights"] == events.parts["gradients"] == 4 * PARAMETERS
    assert events.parts["optimizer"] == pytest.approx(8 * PARAMETERS, rel=1e-3)
    peaks, _ = replay(events.sizes, events.order, events.marks)
    assert peaks["step"] > 16 * PARAMETERS


def test_a_lora_step_peaks_at_twelve_bytes_per_logit_and_liger_makes_no_logits() -> None:
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


def test_the_replayed_allocator_reserves_and_needs_what_was_measured() -> None:
    """gpt2: 4-bit matrices, biases, a tied head that is cast to fp32."""
    config = json.loads((CONFIGS / "openai-community--gpt2.json").read_text(encoding="utf-8"))["config"]
    checked = 0
    for path in sorted(RESULTS.glob("openai-community--gpt2--stock--qlora--*.json")):
        found = json.loads(path.read_text(encoding="utf-8"))
        cell, memory = found["cell"], found["memory"]
        if found["status"] != "ok" or not cell["gradient_checkpointing"] or cell["seq_len"] != 1024:
            continue
        case = Case(method="qlora", micro_batch=cell["micro_batch"], seq_len=1024, lora_rank=cell["lora_rank"])
        traced = trace(config, case, search_cap=bool(memory["min_cap_bytes"]))
        assert abs(traced["peak_reserved_bytes"] - memory["peak_reserved_bytes"]) <= 4 * MIB
        if memory["min_cap_bytes"]:
            assert traced["min_cap_bytes"] == pytest.approx(memory["min_cap_bytes"], rel=0.02)
        checked += 1
    assert checked


DEEP = {**TINY, "num_hidden_layers": 7}
SETS = {entry.id: entry for entry in make_sets()}


@pytest.mark.parametrize("name", ["stock/lora/on", "stock/lora/off", "stock/full/on", "stock/prompt_tuning/off"])
def test_three_layers_give_the_events_of_seven(name: str) -> None:
    recipe, method, checkpointing = name.split("/")
    case = Case(recipe=recipe, method=method, seq_len=512, gradient_checkpointing=checkpointing == "on")  # type: ignore[arg-type]
    events, copies, repeats = trace_whole(DEEP, case, plan_depths(describe(DEEP)))
    whole = trace_step(DEEP, case, None, 1)
    assert repeats in (4, 5) and len(events.order) < len(whole.order) == len(copies.order)
    found = replay([events.sizes[i] for i in copies.source], copies.order, copies.marks)
    assert found == replay(whole.sizes, whole.order, whole.marks)
    assert events.parts == whole.parts


def test_two_steps_follow_from_one() -> None:
    case = Case(method="lora", seq_len=512)
    one = two_steps(one_step(trace_step(TINY, case, None, 1)))
    single = trace_step(TINY, case, None, 1)
    two = trace_step(TINY, case)
    assert (
        replay([single.sizes[i] for i in one.source], one.order, one.marks)[1]
        == replay(two.sizes, two.order, two.marks)[1]
    )


def test_a_block_that_is_repeated_frees_its_neighbours_memory() -> None:
    case = Case(method="lora", seq_len=512)
    blocks = ((0,), (1,), (2,))
    events = trace_step(DEEP, case, (0, 1, 2), 1, blocks)
    copies = repeat_middle(events, 30)
    made = {item for item in copies.order if item >= 0}
    freed = [~item for item in copies.order if item < 0]
    assert len(freed) == len(set(freed)) and set(freed) <= made


def test_layers_of_one_kind_are_traced_three_times_and_a_pattern_by_its_period() -> None:
    assert plan_depths(describe(DEEP))[0] == Depth((0, 1, 2), ((0,), (1,), (2,)), 5)
    kinds = (["linear_attention"] * 3 + ["full_attention"]) * 6
    path = Path(__file__).parents[1] / "measurements" / "configs" / "qwen--qwen3.5-0.8b.json"
    shape = describe(json.loads(path.read_text(encoding="utf-8"))["config"])
    assert [layer.kind == "attention" for layer in shape.layers] == [kind == "full_attention" for kind in kinds]
    assert plan_depths(shape)[0] == Depth(
        tuple(range(12)), (tuple(range(4)), tuple(range(4, 8)), tuple(range(8, 12))), 4
    )


@pytest.mark.parametrize("name", ["stock/lora/on", "stock/full/off", "lean/lora/on", "stock/qlora/off"])
def test_rows_of_one_trace_give_the_peak_at_other_lengths_and_ranks(name: str) -> None:
    recipe, method, checkpointing = name.split("/")
    shape = describe(DEEP)
    found = distil_set(DEEP, shape, SETS[name])
    assert found == distil_set(DEEP, shape, SETS[name])
    for micro_batch, seq_len, rank in ((1, 1024, 8), (4, 2048, 16), (2, 4096, 64)):
        case = Case(
            recipe=recipe, method=method, gradient_checkpointing=checkpointing == "on", micro_batch=micro_batch,  # type: ignore[arg-type]
            seq_len=seq_len, lora_rank=rank,
        )  # fmt: skip
        tokens = micro_batch * seq_len
        point = [1, rank, tokens, rank * tokens, tokens * seq_len, chunk_tokens(tokens, 32000 // 256)]
        peak = max(sum(a * b for a, b in zip(row, point, strict=False)) for row in found["rows"])
        assert peak == pytest.approx(trace(DEEP, case)["peak_allocated_bytes"], rel=0.02)


def test_work_is_counted_in_operations_of_the_model() -> None:
    """A frozen weight: forward, recomputed forward, gradient of its input; an adapter also the gradient of itself."""
    found = distil_set(DEEP, describe(DEEP), SETS["stock/lora/on"])["speed"]
    layer = 256 * (256 + 2 * 128) + 256 * 256 + 3 * 256 * 512
    adapters = 16 * sum((256 + n) for n in (256, 128, 128, 256, 512, 512)) + 16 * (512 + 256)
    expected = 2 * (7 * layer * 3 + 32000 * 256 * 2) + 2 * 7 * adapters * 4
    assert found[0] == pytest.approx(expected, rel=0.02)
    assert found[1] == pytest.approx(7 * 2 * 256 * (1 + 1 + 2.5), rel=1e-6)
    assert 100 * 7 < found[4] < 500 * 7


MOE = {
    "model_type": "qwen3_moe", "hidden_size": 128, "intermediate_size": 256, "moe_intermediate_size": 64,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "num_experts": 8,
    "num_experts_per_tok": 2, "norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": [],
    "vocab_size": 32000, "tie_word_embeddings": False,
}  # fmt: skip


def test_experts_in_fp32_are_traced_and_their_gradients_counted() -> None:
    """`stock` full keeps fp32 experts, which the meta device's grouped product refuses."""
    found = trace(MOE, Case(method="full", micro_batch=1, seq_len=256), search_cap=False)
    parts = found["parts_bytes"]
    assert parts["gradients"] == pytest.approx(parts["weights"], rel=0.01)
    assert found["peak_allocated_bytes"] > parts["weights"] + parts["gradients"] + parts["optimizer"]


def test_the_fused_loss_casts_no_accumulator() -> None:
    """A full step of a tied fp32 head holds the gradient in fp32 twice, or once beside two bf16 copies of the head."""
    config = {**TINY, "vocab_size": 128_000, "hidden_size": 256}
    found = trace(config, Case(recipe="lean", method="full", micro_batch=1, seq_len=512), search_cap=False)
    head = 4 * 128_000 * 256
    static = found["parts_bytes"]["weights"] + found["parts_bytes"]["optimizer"]
    workspace = 64 * MIB
    assert 2 * head <= found["phase_peak_bytes"]["loss"] - static - workspace <= 2.2 * head


SCAN = {
    "model_type": "qwen3_5_text", "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "linear_num_value_heads": 4,
    "linear_num_key_heads": 2, "linear_key_head_dim": 32, "linear_value_head_dim": 32, "linear_conv_kernel_dim": 4,
    "full_attention_interval": 4, "vocab_size": 32000, "tie_word_embeddings": True,
    "layer_types": ["linear_attention"] * 3 + ["full_attention"],
}  # fmt: skip


def test_loops_over_the_length_are_told_by_several_traces() -> None:
    """What the turns of a loop allocate is as large at every length, so one trace would call it constant."""
    shape = describe(SCAN)
    assert loops_over_length(shape) and not loops_over_length(describe(TINY))
    entry = SETS["lean/qlora/on"]
    rows = distil_set(SCAN, shape, entry)["rows"]
    for batch, seq, rank in ((1, 2048, 16), (2, 2048, 64)):
        case = Case(recipe="lean", method="qlora", micro_batch=batch, seq_len=seq, lora_rank=rank)
        tokens = batch * seq
        point = [1, rank, tokens, rank * tokens, tokens * seq, 0]
        estimated = max(sum(a * b for a, b in zip(row, point, strict=False)) for row in rows)
        assert estimated == pytest.approx(trace(SCAN, case, search_cap=False)["peak_allocated_bytes"], rel=0.02)
