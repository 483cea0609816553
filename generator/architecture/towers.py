"""Parameters of what a multimodal model has beside its language model: vision and audio towers, projectors."""

from __future__ import annotations

from .shape import Config, Shape, flag, need


def count_siglip(vision: Config, hidden: int) -> int:
    """SigLIP encoder without its pooling head, and Gemma 3's projector."""
    width, inner, layers = (
        need(vision, "hidden_size"),
        need(vision, "intermediate_size"),
        need(vision, "num_hidden_layers"),
    )
    patch, image = need(vision, "patch_size"), need(vision, "image_size")
    block = 4 * width + 4 * (width * width + width) + 2 * width * inner + inner + width
    total = 3 * patch * patch * width + width + (image // patch) ** 2 * width + layers * block + 2 * width
    return total + width * hidden + width


def count_qwen_vision(vision: Config) -> int:
    """Qwen3-VL's vision tower with its merger. Raises UnknownArchitecture."""
    width, inner, depth = need(vision, "hidden_size"), need(vision, "intermediate_size"), need(vision, "depth")
    patch, frames, merge = (need(vision, k) for k in ("patch_size", "temporal_patch_size", "spatial_merge_size"))
    channels, positions = int(vision.get("in_channels") or 3), need(vision, "num_position_embeddings")
    merged = width * merge * merge
    block = 4 * width + 3 * width * width + 3 * width + width * width + width + 2 * width * inner + inner + width
    out = need(vision, "out_hidden_size")
    merger = 2 * width + merged * merged + merged + merged * out + out
    return channels * frames * patch * patch * width + width + positions * width + depth * block + merger


GEMMA4_AUDIO_PARAMETERS = 304_824_608
"""Audio tower of the Gemma 4 E models (Hub total less everything else); its projector adds 1536 × hidden."""


def count_gemma4_embedders(config: Config, text: Shape) -> int:
    """Gemma 4 Unified has no towers: patches and audio frames are projected straight into the embedding space."""
    vision, audio = config.get("vision_config") or {}, config.get("audio_config") or {}
    side = int(vision.get("patch_size") or 16) * int(vision.get("pooling_kernel_size") or 3)
    pixels, hidden = 3 * side * side, text.hidden
    positions = 2 * int(vision.get("mm_posemb_size") or 1120) * hidden
    image = 2 * pixels + pixels * hidden + hidden + 4 * hidden + hidden * hidden + positions
    return image + int(audio.get("audio_embed_dim") or 640) * hidden


def count_gemma4_tower(config: Config, text: Shape) -> int:
    """Gemma 4's vision tower and projector, and the audio tower of the E models. Raises UnknownArchitecture."""
    vision = config.get("vision_config") or {}
    width, inner, layers = (
        need(vision, "hidden_size"),
        need(vision, "intermediate_size"),
        need(vision, "num_hidden_layers"),
    )
    heads, kv, dim = (need(vision, k) for k in ("num_attention_heads", "num_key_value_heads", "head_dim"))
    attention = width * (heads + 2 * kv) * dim + heads * dim * width + 2 * dim
    block = attention + 3 * width * inner + 4 * width
    patch = int(vision.get("patch_size") or 16)
    table = 2 * int(vision.get("position_embedding_size") or 10240) * width
    total = layers * block + 3 * patch * patch * width + table + width * text.hidden
    if flag(vision, "standardize", False):
        total += 2 * width
    if (config.get("text_config") or {}).get("hidden_size_per_layer_input"):
        total += GEMMA4_AUDIO_PARAMETERS + 1536 * text.hidden
    return total
