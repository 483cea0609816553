"""Training the same small model twice, and the record of how far two runs are apart. The Liger part needs a GPU."""

import json
from pathlib import Path

import pytest
import torch

from measurements import cells, loss_curves
from measurements.cells import config_path, make_cell
from measurements.result import read_all

CPU = torch.device("cpu")
TINY = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 256,
    "max_position_embeddings": 128,
    "tie_word_embeddings": True,
}


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    entry = {"hub_id": "test/tiny", "architecture": "LlamaForCausalLM", "stands_for": None, "config": TINY}
    config_path("test/tiny", tmp_path).write_text(json.dumps(entry))
    monkeypatch.setattr(cells.read_config, "__defaults__", (tmp_path,))
    return "test/tiny"


def _batches(steps: int) -> list[dict[str, torch.Tensor]]:
    text = loss_curves.read_text(Path(__file__).parent.parent)
    return loss_curves.make_batches(text, steps, 4, 32, CPU)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_same_run_gives_the_same_losses_and_learns(tiny: str, method: str) -> None:
    cell = make_cell({"model": tiny, "method": method})
    first = loss_curves.train(cell, 2, _batches(25), CPU)
    assert first == loss_curves.train(cell, 2, _batches(25), CPU), "weights, adapters and batches come from one seed"
    assert first[0] == pytest.approx(5.55, abs=0.3), "about ln 256 before anything is learnt"
    if method == "full":
        assert first[-1] < first[0] - 0.1


def test_reordered_rows_differ_by_rounding_alone(tiny: str) -> None:
    cell = make_cell({"model": tiny, "method": "full"})
    stock = loss_curves.train(cell, 2, _batches(8), CPU)
    turned = [{name: tensor.flip(0) for name, tensor in batch.items()} for batch in _batches(8)]
    apart = loss_curves.differ(stock, loss_curves.train(cell, 2, turned, CPU))
    assert max(apart) < 0.005


def test_a_record_says_how_far_apart_and_whether_that_is_close(tiny: str, tmp_path: Path) -> None:
    cell = make_cell({"model": tiny, "method": "full"})
    near = loss_curves.describe(cell, 2, b"text", ([2.0] * 20, [2.002] * 20, [2.001] * 20), CPU)
    assert near["mean_difference"] == pytest.approx(0.001)
    assert near["mean_noise"] == pytest.approx(0.0005)
    assert near["agree"]
    far = loss_curves.describe(cell, 2, b"text", ([2.0] * 20, [2.1] * 20, None), CPU)
    assert not far["agree"]
    assert far["final_difference"] == "+5.0000 %"
    path = loss_curves.write(near, tmp_path)
    assert json.loads(path.read_text()) == near
    assert read_all(tmp_path) == [], "curves are no results of cells"
    with pytest.raises(ValueError, match="mean_noise"):
        loss_curves.write(near | {"mean_noise": "small"}, tmp_path)


def test_text_is_needed(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no text to train on"):
        loss_curves.read_text(tmp_path)
