"""Real training steps of every recipe × method on a tiny model on the CPU, and the queue around them."""

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState

from measurements import breadth, campaign, cells
from measurements.cells import Cell, PlanError, config_path, make_cell, plan_line, read_plan, take_shard
from measurements.result import METHODS, RECIPES

TINY = {
    "model_type": "qwen2",
    "architectures": ["Qwen2ForCausalLM"],
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 128,
    "max_position_embeddings": 128,
    "tie_word_embeddings": True,
}


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    entry = {"hub_id": "test/tiny", "architecture": "Qwen2ForCausalLM", "stands_for": None, "config": TINY}
    config_path("test/tiny", tmp_path).write_text(json.dumps(entry))
    monkeypatch.setattr(cells.read_config, "__defaults__", (tmp_path,))
    return "test/tiny"


@pytest.mark.parametrize("checkpointing", [True, False])
@pytest.mark.parametrize("method", ["full", "lora", "dora", "prompt_tuning"])
def test_a_cell_is_measured_for_real(tiny: str, tmp_path: Path, method: str, checkpointing: bool) -> None:
    from measurements import runner
    from measurements.result import read_all

    knobs = {"model": tiny, "method": method, "seq_len": 16, "micro_batch": 2, "gradient_checkpointing": checkpointing}
    cell = make_cell(knobs)
    results = tmp_path / "results"
    assert runner.run([cell], results, torch.device("cpu")) == 0
    (data,) = read_all(results)
    assert data["status"] == "ok", data["reason"]
    assert data["memory"]["peak_allocated_bytes"] is None
    assert len(data["speed"]["step_seconds"]) >= 2
    assert (data["parameters"]["trainable"] == data["parameters"]["total"]) == (method == "full")
    before = sorted(results.rglob("*.json"))
    assert runner.run([cell], results, torch.device("cpu")) == 0
    assert sorted(results.rglob("*.json")) == before, "a done cell is not repeated"


def test_cut_depths_are_extended_to_the_real_one(tiny: str, tmp_path: Path) -> None:
    from measurements import runner
    from measurements.result import read_all

    cut = make_cell({"model": tiny, "method": "lora", "seq_len": 16, "depths": [1, 2]})
    runner.run([cut], tmp_path / "r", torch.device("cpu"))
    (data,) = read_all(tmp_path / "r")
    assert data["depth"] == {"layers": 4, "measured_layers": [1, 2], "extrapolated": True}
    whole = make_cell({"model": tiny, "method": "lora", "seq_len": 16})
    runner.run([whole], tmp_path / "w", torch.device("cpu"))
    (full,) = read_all(tmp_path / "w")
    assert data["parameters"] == full["parameters"]


def test_a_step_trains_and_the_base_comes_back(tiny: str) -> None:
    from measurements import recipes, workload
    from measurements.cells import read_config

    device = torch.device("cpu")
    config = workload.read_model_config(read_config(tiny)["config"])
    base = workload.build_model(config, "bfloat16", device)
    names = [name for name, _ in base.named_parameters()]
    before = {name: parameter.clone() for name, parameter in base.named_parameters()}
    cell = make_cell({"model": tiny, "method": "lora", "seq_len": 16})
    model = recipes.attach_method(base, cell)
    accelerator = recipes.make_accelerator(device, torch.bfloat16)
    prepared, optimizer = accelerator.prepare(model, recipes.make_optimizer(model, cell.method))
    adapters = {n: p.clone() for n, p in model.named_parameters() if p.requires_grad}
    batch = workload.make_batch(128, 2, 16, device)
    for _ in range(2):
        loss = recipes.train_step(accelerator, prepared, optimizer, batch)
    assert torch.isfinite(loss)
    assert all(p.dtype == torch.float32 for p in model.parameters() if p.requires_grad)
    assert any(not torch.equal(adapters[n], p) for n, p in model.named_parameters() if p.requires_grad)
    assert all(parameter.grad is None for parameter in model.parameters())
    recipes.detach_method(model, base, cell)
    assert [name for name, _ in base.named_parameters()] == names
    assert all(torch.equal(before[name], parameter) for name, parameter in base.named_parameters())


def test_missing_packages_are_said_once_and_skipped(
    tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from measurements import recipes, runner

    real = importlib.util.find_spec
    gone = ("bitsandbytes", "liger_kernel")
    monkeypatch.setattr(recipes.importlib.util, "find_spec", lambda name: None if name in gone else real(name))
    plan = [make_cell({"model": tiny, "method": "qlora", "seq_len": seq}) for seq in (16, 32)]
    plan.append(make_cell({"model": tiny, "recipe": "lean", "method": "lora", "seq_len": 16}))
    assert runner.run(plan, tmp_path, torch.device("cpu")) == 0
    said = capsys.readouterr().err
    assert said.count("bitsandbytes is not installed") == 1
    assert said.count("liger-kernel is not installed") == 1
    assert not list(tmp_path.glob("*/*.json")), "skipped is not failed: nothing is written"


def test_a_failing_cell_does_not_stop_the_campaign(tiny: str, tmp_path: Path) -> None:
    from measurements import runner
    from measurements.result import read_all

    bad = make_cell({"model": tiny, "method": "lora", "seq_len": 16, "lora_targets": ["no_such_module"]})
    good = make_cell({"model": tiny, "method": "lora", "seq_len": 16})
    runner.run([bad, good], tmp_path / "r", torch.device("cpu"))
    status = {json.dumps(d["cell"]["lora_targets"]): d["status"] for d in read_all(tmp_path / "r")}
    assert status == {'["no_such_module"]': "failed", '"all-linear"': "ok"}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"model": "a/b", "seq_len": 0}', ":2:18: seq_len: expected a whole number, 2 or more, found 0"),
        ('{"model": "a/b", "method": "magic"}', ":2:18: method: expected one of full"),
        ('{"model": "a/b", "colour": 1}', ":2:18: colour: unknown field"),
        ('{"recipe": "stock"}', ":2:1: model: missing"),
        ('{"model": "a/b"', ":2:16: line: not JSON"),
        ("[]", ":2:1: line: expected an object"),
        ('{"model": "a/b", "depths": [8, 4]}', ":2:18: depths: expected two growing layer counts"),
    ],
)
def test_plan_errors_name_file_line_column_field(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "plan.jsonl"
    path.write_text(f'{{"model": "a/b"}}\n{line}\n')
    with pytest.raises(PlanError) as error:
        read_plan(path)
    assert str(error.value).startswith(f"{path}{reason}")


def test_a_plan_survives_writing_and_reading(tmp_path: Path) -> None:
    plan = campaign.make_plan()
    path = tmp_path / "plan.jsonl"
    path.write_text("".join(plan_line(cell) + "\n" for cell in plan))
    assert read_plan(path) == plan


def test_shards_cover_a_plan_without_overlap() -> None:
    plan = campaign.make_plan()
    parts = [take_shard(plan, f"{index}/3") for index in (1, 2, 3)]
    keys = [cell.key for part in parts for cell in part]
    assert sorted(keys) == sorted(cell.key for cell in plan)
    for bad in ("0/3", "4/3", "x", "1"):
        with pytest.raises(PlanError, match="--shard: expected i/n"):
            take_shard(plan, bad)


def test_the_campaign_names_known_models_and_holds_out_a_quarter() -> None:
    plan = campaign.make_plan()
    assert all(config_path(cell.model).exists() for cell in plan)
    drawn = [cell for cell in plan if cell.holdout_kind != "model"]
    share = sum(cell.holdout_kind == "cell" for cell in drawn) / len(drawn)
    assert 0.2 < share < 0.3
    assert {cell.holdout_kind for cell in plan if cell.model in campaign.HELD_OUT_MODELS} == {"model"}
    assert len({cell.key for cell in plan}) == len(plan)


def test_holding_out_does_not_depend_on_what_is_recorded() -> None:
    cell = Cell("a/b")
    assert cell.key == Cell("a/b", min_cap=True, holdout_kind="cell").key
    assert cell.key != Cell("a/b", repeat=1).key


def test_the_short_campaign_is_broad_and_balanced_from_the_start() -> None:
    plan = campaign.make_short()
    assert len({cell.key for cell in plan}) == len(plan)
    assert len({cell.model for cell in plan}) >= 40
    assert all(config_path(cell.model).exists() for cell in plan)
    assert sum(cell.min_cap for cell in plan) >= 40
    assert sum(cell.repeat == 1 for cell in plan) >= 10
    assert {cell.method for cell in plan} == set(METHODS)
    early = plan[: len(plan) // 3]
    assert len({cell.model for cell in early}) >= 20
    assert {cell.recipe for cell in early} == set(RECIPES)
    assert {cell.key for cell in plan if cell.holdout_kind == "model"} == {
        cell.key for cell in plan if cell.model in campaign.HELD_OUT_MODELS
    }
    again = {(cell.model, cell.recipe) for cell in plan if cell.repeat == 3}
    assert again, "some cells are measured at cut and at full depth"
    assert all(cell.depths for cell in plan if cell.repeat == 3)


def test_guessed_memory_is_rarely_below_what_was_measured() -> None:
    from measurements.result import read_all
    from measurements.workload import guess_need

    pairs = [
        (guess_need(cells.cell_of_result(data)), data["memory"]["peak_reserved_bytes"])
        for data in read_all(Path(__file__).parent.parent / "measurements" / "results")
        if data["memory"]["peak_reserved_bytes"] and not data["depth"]["extrapolated"]
    ]
    low = [guess / reserved for guess, reserved in pairs if guess < 0.95 * reserved]
    assert len(low) <= 0.05 * len(pairs), "a cell that outgrows its share is measured twice"


def test_a_step_that_broke_off_does_not_keep_the_model(tmp_path: Path) -> None:
    """Gemma 4 hands keys and values through a dict that checkpointing keeps: out of memory must not leak the model."""
    import gc
    import weakref

    from measurements import caps, gauge, recipes, workload

    cpu = torch.device("cpu")
    config = workload.read_model_config(
        {
            "model_type": "gemma4_text",
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 6,
            "num_kv_shared_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 1,
            "head_dim": 8,
            "global_head_dim": 8,
            "vocab_size": 64,
            "vocab_size_per_layer_input": 64,
            "hidden_size_per_layer_input": 8,
            "layer_types": ["sliding_attention", "full_attention"] * 3,
        }
    )

    def break_off() -> list[weakref.ref]:
        base = workload.build_model(config, "bfloat16", cpu)
        model = recipes.attach_method(base, Cell("a/b", "stock", "lora"))
        accelerator = recipes.make_accelerator(cpu, torch.bfloat16)
        model, optimizer = accelerator.prepare(model, recipes.make_optimizer(model, "lora"))
        batch = workload.make_batch(64, 1, 16, cpu)

        def run_out(*_: object) -> None:
            raise torch.OutOfMemoryError("the card is full")

        gauge.find_layers(gauge.find_decoder(model))[4].register_forward_pre_hook(run_out)
        with pytest.raises(torch.OutOfMemoryError):
            recipes.train_step(accelerator, model, optimizer, batch)
        accelerator.free_memory()
        return [weakref.ref(module) for module in base.modules()]

    parts = break_off()
    gc.collect()
    assert any(part() is not None for part in parts), "nothing leaks any more: drop_checkpoints can go"
    caps.drop_checkpoints()
    gc.collect()
    assert not any(part() is not None for part in parts)


def _card(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], hip: str | None = None) -> torch.device:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device=None: capability)
    monkeypatch.setattr(torch.version, "hip", hip)
    return torch.device("cuda", 0)


@pytest.mark.parametrize(
    ("capability", "hip", "expected"),
    [((7, 5), None, "float16"), ((8, 0), None, "bfloat16"), ((9, 0), None, "bfloat16"), ((7, 0), "6.4", "bfloat16")],
)
def test_cards_without_bf16_compute_in_fp16(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], hip: str | None, expected: str
) -> None:
    from measurements import recipes

    assert recipes.choose_compute_dtype(_card(monkeypatch, capability, hip)) == getattr(torch, expected)


@pytest.fixture
def fresh_accelerate() -> Iterator[None]:
    """accelerate keeps one precision for the life of a process."""
    AcceleratorState._reset_state(True)
    yield
    AcceleratorState._reset_state(True)


@pytest.mark.usefixtures("fresh_accelerate")
def test_what_fp16_cannot_do_is_refused_in_words_and_the_rest_is_measured(
    tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from measurements import recipes, runner
    from measurements.result import read_all

    monkeypatch.setattr(recipes, "choose_compute_dtype", lambda _device: torch.float16)
    real = importlib.util.find_spec
    monkeypatch.setattr(
        recipes.importlib.util, "find_spec", lambda name: real("json" if name == "bitsandbytes" else name)
    )
    plan = [make_cell({"model": tiny, "method": method, "seq_len": 16}) for method in ("full_bf16_adam8bit", "lora")]
    assert runner.run(plan, tmp_path, torch.device("cpu")) == 0
    assert "this GPU has no bf16" in capsys.readouterr().err
    (data,) = read_all(tmp_path)
    assert (data["status"], data["cell"]["method"]) == ("ok", "lora"), data["reason"]
    assert data["environment"]["compute_dtype"] == "float16"


def test_4_bit_layers_compute_in_fp16_where_the_card_has_no_bf16() -> None:
    from measurements import workload

    layer = torch.nn.Linear(2, 2)
    layer.compute_dtype = torch.bfloat16
    workload.compute_in_fp16(torch.nn.Sequential(layer, torch.nn.ReLU()))
    assert layer.compute_dtype == torch.float16


def test_missing_is_what_the_card_at_hand_lacks_and_can_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    from measurements import __main__, runner

    everything, larger = campaign.make_plan("h100-sxm-80gb"), campaign.make_plan("h200-sxm-141gb")
    assert len(larger) < len(everything)
    assert campaign.make_plan("rtx-4090-24gb") == everything
    assert __main__._name_gpu(on_cpu=True) == ""

    def left_on(gib: int) -> int:
        card = SimpleNamespace(total_memory=gib << 30)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _device: card)
        return len(runner.drop_oversized(everything, torch.device("cuda", 0)))

    assert 0 < left_on(8) < left_on(24) < left_on(80) <= len(everything)
    assert runner.drop_oversized(everything, torch.device("cpu")) == everything


def test_the_loaded_plan_keeps_the_gpu_busy_and_asks_what_else_is_missing() -> None:
    cells = campaign.make_loaded()
    assert len({cell.key for cell in cells}) == len(cells)
    assert {cell.model for cell in cells} >= {model for model, _, _ in breadth.MODELS}
    assert {cell.method for cell in cells} >= {"lora_8bit", "qlora", "full"}
    busy = [cell for cell in cells if cell.gradient_checkpointing and not cell.min_cap and cell.method != "lora_8bit"]
    assert all(cell.micro_batch * cell.seq_len >= 4096 for cell in busy)
    held = [cell for cell in cells if cell.holdout_kind == "cell"]
    assert 0.1 < len(held) / len(cells) < 0.4


def test_gpt2_leaves_positions_for_the_virtual_tokens() -> None:
    cells = [*campaign.make_plan(), *campaign.make_short(), *campaign.make_loaded()]
    gpt2 = [cell for cell in cells if "gpt2" in cell.model]
    assert any(cell.method == "prompt_tuning" for cell in gpt2)
    assert all(cell.seq_len + 20 * (cell.method == "prompt_tuning") <= 1024 for cell in gpt2)
