"""The shape of a model: its layers, their linear parts, and everything beside them, as sizes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

Config = dict[str, Any]


class UnknownArchitecture(ValueError):
    """The configuration names an architecture, or lacks a size, from which no shape can be derived."""


@dataclass(frozen=True)
class Linear:
    """One ``nn.Linear`` (or ``Conv1D``): ``inputs`` × ``outputs`` weights and an optional bias."""

    name: str
    inputs: int
    outputs: int
    bias: bool = False

    @property
    def weights(self) -> int:
        return self.inputs * self.outputs

    @property
    def parameters(self) -> int:
        return self.weights + (self.outputs if self.bias else 0)


@dataclass(frozen=True)
class Layer:
    """One decoder layer. ``expert_parameters`` are 3-D grouped tensors, which bitsandbytes leaves as they are."""

    kind: str
    linears: tuple[Linear, ...]
    other_parameters: int
    expert_parameters: int = 0
    expert_active_parameters: int = 0
    heads: int = 0
    kv_heads: int = 0
    head_dim: int = 0
    window: int | None = None
    layernorm: bool = False
    expert_inner: int = 0
    experts_per_token: int = 0

    @cached_property
    def linear_weights(self) -> int:
        return sum(x.weights for x in self.linears)

    @cached_property
    def parameters(self) -> int:
        return sum(x.parameters for x in self.linears) + self.other_parameters + self.expert_parameters


@dataclass(frozen=True)
class Shape:
    """A whole model. ``tower_parameters`` belong to vision or audio parts that text training never runs."""

    model_type: str
    hidden: int
    vocab: int
    layers: tuple[Layer, ...]
    tied: bool
    embedding_parameters: int
    head_parameters: int
    other_parameters: int
    tower_parameters: int = 0
    soft_capped: bool = False
    eager_attention: bool = False
    extra: dict[str, int] = field(default_factory=dict)

    @cached_property
    def parameters(self) -> int:
        return self.text_parameters + self.tower_parameters

    @cached_property
    def text_parameters(self) -> int:
        inner = sum(layer.parameters for layer in self.layers)
        return inner + self.embedding_parameters + self.head_parameters + self.other_parameters

    @cached_property
    def active_parameters(self) -> int:
        """Parameters that one token meets (all of them but the experts it is not routed to)."""
        idle = sum(layer.expert_parameters - layer.expert_active_parameters for layer in self.layers)
        return self.text_parameters - idle

    @cached_property
    def linear_weights(self) -> int:
        return sum(layer.linear_weights for layer in self.layers)

    @cached_property
    def kinds(self) -> dict[Layer, int]:
        """Each different layer, in order, and how many there are of it: most models have one or two."""
        objects = {id(layer): layer for layer in self.layers}  # hashing a layer goes through all its linear ones
        found: dict[Layer, int] = {}
        for key, count in Counter(map(id, self.layers)).items():
            found[objects[key]] = found.get(objects[key], 0) + count
        return found

    @cached_property
    def lora_parameters_per_rank(self) -> int:
        """Adapter parameters for rank 1 on all linear layers but the head."""
        return sum((x.inputs + x.outputs) * count for layer, count in self.kinds.items() for x in layer.linears)


def need(config: Config, *names: str) -> int:
    """The first of the fields that is set, as an integer. Raises UnknownArchitecture where none is."""
    for name in names:
        value = config.get(name)
        if value is not None:
            return int(value)
    raise UnknownArchitecture(f"config.json of {config.get('model_type')!r} lacks {names[0]}")


def flag(config: Config, name: str, default: bool) -> bool:
    """A boolean field, or its default where it is missing or null."""
    value = config.get(name)
    return default if value is None else bool(value)
