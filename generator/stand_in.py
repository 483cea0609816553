"""Models that need code from their repository: the class of transformers that is measured and traced in their place.

That code is never run here. What is built instead has the same sizes and another class: projections that the original
packs into one (``c_attn``, ``W_pack``, ``query_key_value``) are split where the class splits them. The weights are the
same; LoRA adapters are not: a packed projection gets one pair of matrices and three get three. So a run that was
measured on a stand-in is compared with the estimate of the stand-in, and never stands for the original; the original's
estimate is the stand-in's trace with the original's own adapters.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from .architecture import Shape, describe
from .estimate import ROW_UNITS, Cell, CoefficientSet
from .estimate_closed import round_up

CLASSES = {
    "baichuan": "llama", "internlm2": "llama", "internlm3": "llama", "minicpm": "llama",
    "qwen": "qwen2", "chatglm": "glm",
}  # fmt: skip
"""Model type that needs its repository's code → model type that stands for it."""
NAMES = {"llama": "Llama", "qwen2": "Qwen2", "glm": "GLM"}
"""How pages call the classes that stand for others."""


def stand_in(shape: Shape) -> dict[str, Any] | None:
    """Configuration of the class that stands for ``shape``, or None where transformers has the model's own class."""
    kind = CLASSES.get(shape.model_type)
    if kind is None:
        return None
    layer = shape.layers[0]
    config: dict[str, Any] = {
        "model_type": kind, "hidden_size": shape.hidden, "num_attention_heads": layer.heads,
        "num_key_value_heads": layer.kv_heads, "intermediate_size": layer.linears[-1].inputs,
        "num_hidden_layers": len(shape.layers), "vocab_size": shape.vocab, "tie_word_embeddings": shape.tied,
    }  # fmt: skip
    if kind == "glm":
        config |= {"head_dim": layer.head_dim, "attention_bias": layer.linears[0].bias, "pad_token_id": 0}
    elif layer.head_dim * layer.heads != shape.hidden:
        config["head_dim"] = layer.head_dim
    if kind == "llama" and layer.linears[0].bias:
        config["attention_bias"] = True
    return config


def name_stand_in(hub_id: str) -> str:
    """What a table of coefficients calls the stand-in of a model."""
    return f"{hub_id} (stand-in)"


@dataclass(frozen=True)
class Adapters:
    """What LoRA adapters on all linear layers of a model amount to."""

    parameters_per_rank: int
    modules: int
    inputs: int

    @classmethod
    def of(cls, shape: Shape) -> Adapters:
        linears = [linear for layer in shape.layers for linear in layer.linears]
        return cls(shape.lora_parameters_per_rank, len(linears), sum(linear.inputs for linear in linears))


def with_own_adapters(cell: Cell, shape: Shape, entry: CoefficientSet) -> Cell:
    """The stand-in's traced cell with the adapters of ``shape``: their parameters, the output that each pair's first
    matrix keeps, and the dropped-out input that each pair keeps (``CoefficientSet.target_bytes``)."""
    config = stand_in(shape)
    if config is None or entry.trained != "adapters":
        return cell
    own, traced = Adapters.of(shape), Adapters.of(describe(config))
    parameters = own.parameters_per_rank / traced.parameters_per_rank
    modules = own.modules / traced.modules
    fewer = traced.inputs - own.inputs
    rows = []
    for row in cell.rows:
        saved = fewer * (entry.target_bytes + row[6] * entry.layer_target_bytes / len(shape.layers)) / ROW_UNITS[2]
        rows.append(
            (
                row[0], round_up(row[1] * parameters, 3), round_up(max(row[2] - saved, 0.0), 4),
                round_up(row[3] * modules, 3), *row[4:],
            )
        )  # fmt: skip
    return replace(cell, rows=tuple(dict.fromkeys(rows)))  # type: ignore[arg-type]
