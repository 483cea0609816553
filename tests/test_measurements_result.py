"""A result file: its shape, its sense, its name, and that nobody can see half of one."""

import json
from pathlib import Path

import pytest

from measurements import result, summary
from measurements.__main__ import main


def example() -> dict:
    """A valid result of a measured cell."""
    gib = 1024**3
    return {
        "schema": 1,
        "cell": {
            "model": "Qwen/Qwen2.5-7B",
            "config_sha256": "0" * 64,
            "architecture": "Qwen2ForCausalLM",
            "stands_for": None,
            "recipe": "stock",
            "method": "qlora",
            "micro_batch": 1,
            "seq_len": 1024,
            "gradient_checkpointing": True,
            "lora_rank": 16,
            "lora_targets": "all-linear",
            "gpu_count": 1,
            "sharding": None,
            "repeat": 0,
        },
        "status": "ok",
        "reason": None,
        "holdout": False,
        "holdout_kind": None,
        "depth": {"layers": 28, "measured_layers": None, "extrapolated": False},
        "parameters": {"total": 7_615_616_512, "trainable": 40_370_176, "active": None},
        "memory": {
            "peak_allocated_bytes": 11 * gib,
            "peak_reserved_bytes": 12 * gib,
            "process_bytes": 13 * gib,
            "context_bytes": gib,
            "min_cap_bytes": None,
            "min_cap_resolution_bytes": None,
            "load_peak_bytes": 9 * gib,
            "cap_bytes": None,
            "breakdown_bytes": {
                "weights": 7 * gib,
                "adapters": gib,
                "gradients": 0,
                "optimizer": gib,
                "activations": gib,
                "logits": gib,
                "other": 0,
            },
            "phase_peak_bytes": {"forward": 9 * gib, "loss": 11 * gib, "backward": 10 * gib, "step": 9 * gib},
            "peak_phase": "loss",
        },
        "speed": {
            "step_seconds": [0.5, 0.5, 0.5],
            "median_step_seconds": 0.5,
            "tokens_per_second": 2048.0,
            "flops_per_step": 3.0e13,
            "tflops_per_second": 60.0,
            "mfu": 0.06,
            "peak_tflops": 989.0,
            "formula": "4 N T",
        },
        "environment": {
            "gpu_id": "h100-sxm-80gb",
            "gpu_name": "NVIDIA H100 80GB HBM3",
            "gpu_total_bytes": 80 * gib,
            "driver": "580.159.04",
            "cuda": "13.0",
            "torch": "2.11.0",
            "transformers": "5.17.0",
            "peft": "0.21.2",
            "accelerate": "1.15.0",
            "bitsandbytes": None,
            "liger_kernel": None,
            "python": "3.12.3",
            "git_commit": None,
            "recipe_hash": "0123456789ab",
            "compute_dtype": "bfloat16",
            "attention": "sdpa",
            "cells_before": 0,
            "wall_seconds": 3.0,
            "date": "2026-11-24",
        },
    }


def test_the_example_is_valid() -> None:
    assert result.find_errors(example()) == []


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("cell.micro_batch", "1", "cell.micro_batch: expected a whole number, 1 or more, found '1'"),
        ("cell.micro_batch", True, "cell.micro_batch: expected a whole number, 1 or more, found True"),
        ("cell.recipe", "fast", "cell.recipe: expected one of stock, lean, found 'fast'"),
        ("cell.lora_targets", [], "cell.lora_targets: expected"),
        ("cell.lora_rank", None, "cell.lora_rank: must be given for qlora"),
        ("cell.gpu_count", 2, "cell.sharding: must be given exactly when gpu_count is above 1"),
        ("status", "oom", "reason: missing although status is oom"),
        ("holdout", True, "holdout_kind: must be"),
        ("depth.extrapolated", True, "depth.measured_layers: must be given"),
        ("memory.peak_reserved_bytes", 1, "memory.peak_reserved_bytes: smaller than the tier below it"),
        ("memory.breakdown_bytes.other", 5, "memory.breakdown_bytes: sums to"),
        ("memory.min_cap_bytes", 5, "memory.min_cap_bytes: smaller than peak_allocated_bytes"),
        ("speed.tokens_per_second", 1.0, "speed.tokens_per_second: not micro_batch"),
        ("speed.median_step_seconds", float("nan"), "speed.median_step_seconds: expected a finite number"),
        ("environment.date", "24/11/2026", "environment.date: expected a date, YYYY-MM-DD"),
        ("environment.extra", 1, "environment.extra: unknown field"),
        ("schema", 2, "schema: expected 1, found 2"),
    ],
)
def test_errors_name_the_field(path: str, value: object, reason: str) -> None:
    data = example()
    *parents, last = path.split(".")
    place = data
    for parent in parents:
        place = place[parent]
    place[last] = value
    assert any(found.startswith(reason) for found in result.find_errors(data)), result.find_errors(data)


def test_missing_fields_are_all_named() -> None:
    data = example()
    del data["speed"], data["cell"]["model"]
    assert result.find_errors(data) == ["cell.model: missing", "speed: missing"]


def test_write_then_read(tmp_path: Path) -> None:
    path = result.write(example(), tmp_path)
    assert path.parent.name == "h100-sxm-80gb"
    assert path.name.startswith("qwen--qwen2.5-7b--stock--qlora--")
    assert result.read(path) == example()
    assert result.write(example(), tmp_path) == path, "sending a result twice changes nothing"
    assert len(list(path.parent.iterdir())) == 1


def test_an_invalid_result_is_not_written(tmp_path: Path) -> None:
    data = example() | {"status": "done"}
    with pytest.raises(result.InvalidResult, match="status: expected one of"):
        result.write(data, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_while_writing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", stop)
    with pytest.raises(OSError, match="disk full"):
        result.write(example(), tmp_path)
    assert list((tmp_path / "h100-sxm-80gb").iterdir()) == []


def test_a_changed_renamed_or_moved_file_is_found(tmp_path: Path) -> None:
    path = result.write(example(), tmp_path)
    edited = json.loads(path.read_text())
    edited["speed"]["mfu"] = 0.9
    path.write_text(json.dumps(edited))
    with pytest.raises(result.InvalidResult, match="file name: the content asks for"):
        result.read_all(tmp_path)
    path.unlink()
    path = result.write(example(), tmp_path)
    (tmp_path / "other-gpu").mkdir()
    path.rename(tmp_path / "other-gpu" / path.name)
    with pytest.raises(result.InvalidResult, match="folder: the content asks for h100-sxm-80gb/"):
        result.read_all(tmp_path)


@pytest.mark.parametrize(
    ("device", "gpu_id"),
    [
        ("NVIDIA H100 80GB HBM3", "h100-sxm-80gb"),
        ("NVIDIA H100 PCIe", "h100-pcie-80gb"),
        ("NVIDIA H200", "h200-sxm-141gb"),
        ("NVIDIA GeForce RTX 4090", "nvidia-geforce-rtx-4090"),
        ("AMD Instinct MI300X", "amd-instinct-mi300x"),
    ],
)
def test_gpu_folder(device: str, gpu_id: str) -> None:
    assert result.identify_gpu(device) == gpu_id


def test_an_older_result_of_the_same_cell_is_superseded(tmp_path: Path) -> None:
    old, new, other = example(), example(), example()
    new["environment"]["date"] = "2026-11-25"
    other["cell"]["repeat"] = 1
    older = result.write(old, tmp_path)
    kept = {result.write(new, tmp_path), result.write(other, tmp_path)}
    assert summary.find_superseded(tmp_path) == [older]
    assert main(["supersede", "--results", str(tmp_path), "--delete"]) == 0
    assert set(tmp_path.glob("*/*.json")) == kept


def test_a_result_that_alone_has_a_figure_stays(tmp_path: Path) -> None:
    """A cell timed again without searching its cap again does not lose the cap, nor the older figure its place."""
    capped, timed = example(), example()
    capped["memory"] |= {"min_cap_bytes": 20_000_000_000, "min_cap_resolution_bytes": 8 << 20}
    timed["memory"] |= {"min_cap_bytes": None, "min_cap_resolution_bytes": None}
    timed["speed"] |= {"probe_seconds": 0.03, "gpu_seconds": 0.1, "kernels": 4000}
    assert result.find_errors(capped) == result.find_errors(timed) == []
    older = result.write(capped, tmp_path)
    result.write(timed, tmp_path)
    assert summary.find_superseded(tmp_path) == []
    timed["memory"] |= {"min_cap_bytes": 20_000_000_000, "min_cap_resolution_bytes": 8 << 20}
    result.write(timed, tmp_path)
    assert older in summary.find_superseded(tmp_path), "on the same day, the one that tells more"


def test_the_summary_tells_memory_from_speed_and_processor_from_gpu() -> None:
    def speed(repeat: int, seconds: float, launch: float) -> dict:
        data = example()
        data["cell"]["repeat"] = repeat
        data["speed"] |= {
            "median_step_seconds": seconds,
            "tokens_per_second": 1024 / seconds,
            "launch_seconds": launch,
            "undisturbed": True,
        }
        assert result.find_errors(data) == []
        return data

    slow = [speed(0, 1.0, 0.99), speed(1, 1.5, 1.49)]
    assert [summary.waits_for_processor(data) for data in slow] == [True, True]
    assert "the same where the GPU is busy" not in summary.summarise(slow)
    busy = [speed(0, 1.0, 0.4), speed(1, 1.02, 0.4)]
    cut = speed(3, 1.01, 0.4)
    cut["depth"] |= {"measured_layers": [4, 8], "extrapolated": True}
    del cut["speed"]["launch_seconds"]
    assert summary.waits_for_processor(cut) is None
    said = summary.summarise([*busy, cut])
    assert "the same where the GPU is busy: median 2.000%" in said
    assert "cut depth against whole, tokens_per_second: median 0.0" in said
    assert "repeat error of tokens_per_second, timed undisturbed: median 2.000%, worst 2.000%, 1 cells" in said, (
        "cut depths are no repeats"
    )


def test_a_plan_can_leave_out_what_is_measured(tmp_path: Path) -> None:
    results, out = tmp_path / "results", tmp_path / "plan.jsonl"

    def lines(*arguments: str) -> list[dict]:
        assert main(["plan", "--short", "--out", str(out), "--results", str(results), *arguments]) == 0
        return [json.loads(line) for line in out.read_text().splitlines()]

    everything = lines()
    data = example()
    knobs = next(line for line in everything if line["model"] == "Qwen/Qwen2.5-7B" and line["repeat"] == 2)
    data["cell"] |= {key: value for key, value in knobs.items() if key in data["cell"]}
    data["speed"]["tokens_per_second"] = knobs["micro_batch"] * knobs["seq_len"] / 0.5
    result.write(data, results)
    assert len(lines("--lacking", "h100-sxm-80gb")) == len(everything) - 1
    assert lines("--lacking", "h100-sxm-80gb", "--since", "2026-11-25") == everything, "it was measured the day before"
    assert lines("--lacking", "h200-sxm-141gb") == everything
