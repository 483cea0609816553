"""What a ``config.json`` says of a model's shape: its linear layers, its other parameters and their sizes.

Everything is counted from the configuration alone, in plain Python, with the defaults that transformers 5.17 applies to
a missing field. ``count_parameters`` agrees with the parameter totals that the Hub reports for every architecture
below (to the last parameter, or to a few position buffers that some checkpoints store); ``describe`` returns the same
shape layer by layer for the memory estimate. Sources: the modeling files of transformers 5.17 and, for architectures
that need remote code (ChatGLM, Baichuan, Qwen 1, InternLM2, MiniCPM), the modeling files of their repositories.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from .dense import DENSE, dense_shape
from .mixed import gemma4_shape, granite_hybrid_shape, lfm2_shape, mla_shape, nemotron_h_shape, qwen3_5_shape
from .shape import Config, Layer, Linear, Shape, UnknownArchitecture
from .towers import count_gemma4_embedders, count_gemma4_tower, count_qwen_vision, count_siglip

__all__ = [
    "Layer",
    "Linear",
    "Shape",
    "UnknownArchitecture",
    "count_active_parameters",
    "count_parameters",
    "describe",
    "text_config",
]

_OTHER: dict[str, Callable[[Config], Shape]] = {
    "minicpm3": mla_shape,
    "glm4_moe_lite": mla_shape,
    "deepseek_v2": mla_shape,
    "deepseek_v3": mla_shape,
    "nemotron_h": nemotron_h_shape,
    "granitemoehybrid": granite_hybrid_shape,
    "lfm2": lfm2_shape,
    "qwen3_5_text": qwen3_5_shape,
    "qwen3_5_moe_text": qwen3_5_shape,
    "gemma4_text": gemma4_shape,
    "gemma4_unified_text": gemma4_shape,
}
_WRAPPED = {
    "gemma3": "gemma3_text", "gemma4": "gemma4_text", "gemma4_unified": "gemma4_unified_text",
    "qwen3_5": "qwen3_5_text", "qwen3_5_moe": "qwen3_5_moe_text",
}  # fmt: skip


def text_config(config: Config) -> Config:
    """The language model's own configuration: the inner one of a multimodal wrapper, else the configuration itself."""
    kind = config.get("model_type")
    inner = config.get("text_config")
    if not isinstance(inner, dict):
        if kind in _WRAPPED:
            raise UnknownArchitecture(f"config.json of {kind!r} lacks text_config")
        return config
    inner = {**inner, "model_type": inner.get("model_type") or _WRAPPED.get(str(kind), kind)}
    if "tie_word_embeddings" in config:
        inner.setdefault("tie_word_embeddings", config["tie_word_embeddings"])
    return inner


def describe(config: Config) -> Shape:
    """Shape of the model behind ``config``.

    Raises:
        UnknownArchitecture: the model type is not known here or a size is missing; the message names it.
    """
    if not isinstance(config, dict) or not config.get("model_type"):
        raise UnknownArchitecture("config.json lacks model_type")
    inner = text_config(config)
    kind = str(inner.get("model_type"))
    if kind in DENSE:
        shape = dense_shape(inner)
    elif kind in _OTHER:
        shape = _OTHER[kind](inner)
    else:
        raise UnknownArchitecture(f"unknown architecture {kind!r}")
    outer = config.get("model_type")
    if outer == "gemma4_unified":
        return replace(shape, tower_parameters=count_gemma4_embedders(config, shape))
    vision = config.get("vision_config")
    if not isinstance(vision, dict):
        return shape
    if outer == "gemma3":
        return replace(shape, tower_parameters=count_siglip(vision, shape.hidden))
    if outer in ("qwen3_5", "qwen3_5_moe"):
        return replace(shape, tower_parameters=count_qwen_vision(vision))
    if outer == "gemma4":
        return replace(shape, tower_parameters=count_gemma4_tower(config, shape))
    return shape


def count_parameters(config: Config) -> int | None:
    """Parameters of the model behind ``config``, vision and audio towers included; None where no shape is known."""
    try:
        return describe(config).parameters
    except UnknownArchitecture:
        return None


def count_active_parameters(config: Config) -> int | None:
    """Parameters that one text token meets; None for dense models and where no shape is known."""
    try:
        shape = describe(config)
    except UnknownArchitecture:
        return None
    return shape.active_parameters if any(layer.expert_parameters for layer in shape.layers) else None
