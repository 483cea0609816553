"""FSDP2 with two real processes over gloo on the CPU: forward, backward, step, and results as from any other cell."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from measurements.result import read_all

ROOT = Path(__file__).parent.parent
TINY = {
    "model_type": "qwen2",
    "architectures": ["Qwen2ForCausalLM"],
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 128,
    "max_position_embeddings": 128,
    "tie_word_embeddings": False,
}
TWO_RANKS = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def test_cells_of_two_ranks_are_measured_and_others_left_to_one(tmp_path: Path) -> None:
    for name, tied in (("test/untied", False), ("test/tied", True)):
        entry = {"hub_id": name, "architecture": "Qwen2ForCausalLM", "stands_for": None}
        entry["config"] = TINY | {"tie_word_embeddings": tied}
        (tmp_path / f"{name.replace('/', '--')}.json").write_text(json.dumps(entry))
    shared = {"seq_len": 16, "gpu_count": 2, "sharding": "fsdp2"}
    lines = [
        {"model": "test/untied", "method": "lora"} | shared,
        {"model": "test/untied", "method": "full"} | shared,
        {"model": "test/tied", "method": "full", "gradient_checkpointing": False} | shared,
        {"model": "test/tied", "method": "prompt_tuning"} | shared,  # not a sharded recipe: skipped
        {"model": "test/tied", "method": "lora", "lora_targets": ["no_such_module"]} | shared,
        {"model": "test/tied", "method": "lora"} | shared,
        {"model": "test/tied", "method": "lora", "seq_len": 16},
    ]
    plan = tmp_path / "plan.jsonl"
    plan.write_text("\n".join(json.dumps(line) for line in lines))
    command = [sys.executable, "-m", "measurements", "run", "--cpu", "--plan", str(plan)]
    command += ["--results", str(tmp_path / "results")]
    environment = os.environ | {"MEASUREMENTS_CONFIGS": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=environment, timeout=500, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "on several GPUs only full and lora are measured" in done.stderr
    found = read_all(tmp_path / "results")
    sharded = [data for data in found if data["cell"]["gpu_count"] == 2]
    assert len(found) == 6
    assert sorted(data["status"] for data in sharded) == ["failed"] + ["ok"] * 4
    for data in sharded:
        if data["status"] == "ok":
            speed = data["speed"]
            assert len(speed["step_seconds"]) == 3
            assert speed["tokens_per_second"] == pytest.approx(2 * 16 / speed["median_step_seconds"])
            assert data["memory"]["peak_allocated_bytes"] is None, "a CPU counts no memory"


TRAIN = """
import sys, torch
from measurements import fsdp, recipes, workload
from measurements.cells import Cell
method, cpu = sys.argv[1], torch.device("cpu")
config = workload.read_model_config(CONFIG)
cell = Cell("a/b", "stock", method, 1, 16)
if method == "full":
    from dataclasses import replace
    cell = replace(cell, lora_rank=None, lora_targets=None)
torch.manual_seed(1)
base = workload.build_model(config, cell.weights, cpu)
torch.manual_seed(1)
model = recipes.attach_method(base, cell)
for module in model.modules():
    if isinstance(module, torch.nn.Dropout):
        module.p = 0.0
optimizer = recipes.make_optimizer(model, method)
for group in optimizer.param_groups:
    group["lr"] = 0.01
sharded = len(sys.argv) == 2
accelerator = fsdp.make_accelerator(cpu, torch.bfloat16) if sharded else recipes.make_accelerator(cpu, torch.bfloat16)
model, optimizer = accelerator.prepare(model, optimizer)
if sharded:
    parameters = list(model.parameters())
    own = sum(fsdp.own_part(parameter).numel() for parameter in parameters)
    assert own == sum(parameter.numel() for parameter in parameters) / 2, "each rank holds half"
batch = workload.make_batch(config.vocab_size, 2, 16, cpu)
losses = [float(recipes.train_step(accelerator, model, optimizer, batch)) for _ in range(10)]
if accelerator.process_index == 0:
    print("LOSSES", losses)
"""


@pytest.mark.parametrize("method", ["full", "lora"])
def test_two_ranks_on_the_same_batch_learn_what_one_learns(tmp_path: Path, method: str) -> None:
    script = tmp_path / "train.py"
    script.write_text(TRAIN.replace("CONFIG", repr(TINY)))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}

    def losses(*command: str) -> list[float]:
        done = subprocess.run(command, cwd=ROOT, env=environment, timeout=300, capture_output=True, text=True)
        (line,) = [line for line in done.stdout.splitlines() if line.startswith("LOSSES")] or [done.stderr[-3000:]]
        found: list[float] = json.loads(line.removeprefix("LOSSES "))
        return found

    two = losses(*TWO_RANKS, str(script), method)
    one = losses(sys.executable, str(script), method, "alone")
    assert two == pytest.approx(one, rel=0.01)
    assert one[-1] < one[0] - 0.1
