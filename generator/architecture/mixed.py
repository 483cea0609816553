"""Decoders with layers of several kinds, or with attention of their own: latent, linear, convolutional, state-space.

Every function raises UnknownArchitecture for a missing size.
"""

from __future__ import annotations

from dataclasses import replace

from .dense import DENSE, Sizes, attention_linears, mlp_linears
from .shape import Config, Layer, Linear, Shape, UnknownArchitecture, flag, need


def _mla_attention(config: Config, hidden: int) -> tuple[list[Linear], int]:
    """Multi-head latent attention (DeepSeek-V2, section 2.1) and its two inner norms."""
    heads = need(config, "num_attention_heads")
    nope, rope = need(config, "qk_nope_head_dim"), need(config, "qk_rope_head_dim")
    value = int(config.get("v_head_dim") or hidden // heads)
    q_rank, kv_rank = need(config, "q_lora_rank"), need(config, "kv_lora_rank")
    linears = [
        Linear("q_a_proj", hidden, q_rank),
        Linear("q_b_proj", q_rank, heads * (nope + rope)),
        Linear("kv_a_proj_with_mqa", hidden, kv_rank + rope),
        Linear("kv_b_proj", kv_rank, heads * (nope + value)),
        Linear("o_proj", heads * value, hidden),
    ]
    return linears, q_rank + kv_rank


def mla_shape(config: Config) -> Shape:
    """DeepSeek-V2 and -V3, MiniCPM3, GLM-4.7-Flash: latent attention, with experts in most."""
    kind = config["model_type"]
    hidden, vocab = need(config, "hidden_size"), need(config, "vocab_size")
    heads, inner = need(config, "num_attention_heads"), need(config, "intermediate_size")
    attention, norms = _mla_attention(config, hidden)
    plain = DENSE["mistral"]
    head_dim = need(config, "qk_nope_head_dim") + need(config, "qk_rope_head_dim")
    layers = []
    dense_until = int(config.get("first_k_dense_replace") or 0)
    for index in range(need(config, "num_hidden_layers")):
        linears, other = list(attention), 2 * hidden + norms
        experts = active = top = width = 0
        if kind == "minicpm3" or index < dense_until:
            linears += mlp_linears(config, plain, hidden, inner)
        else:
            count, top = need(config, "n_routed_experts"), need(config, "num_experts_per_tok")
            width = need(config, "moe_intermediate_size")
            experts, active = count * 3 * hidden * width, top * 3 * hidden * width
            linears += mlp_linears(config, plain, hidden, width * int(config.get("n_shared_experts") or 0))
            other += count * hidden + count
        layers.append(
            Layer("mla", tuple(linears), other, experts, active, heads, heads, head_dim, None, False, width, top)
        )
    tied = flag(config, "tie_word_embeddings", kind == "minicpm3")
    embedding = vocab * hidden
    return Shape(kind, hidden, vocab, tuple(layers), tied, embedding, 0 if tied else embedding, hidden)


def nemotron_h_shape(config: Config) -> Shape:
    """Nemotron-H: one mixer a layer (Mamba-2, attention, MLP or experts), by its pattern."""
    hidden, vocab = need(config, "hidden_size"), need(config, "vocab_size")
    pattern = config.get("hybrid_override_pattern") or config.get("layers_block_type")
    if not pattern:
        raise UnknownArchitecture("config.json of 'nemotron_h' lacks hybrid_override_pattern")
    heads, kv, dim = (
        need(config, "num_attention_heads"),
        need(config, "num_key_value_heads"),
        need(config, "head_dim"),
    )
    names = {"mamba": "M", "attention": "*", "moe": "E", "mlp": "-"}
    layers = []
    for mark in [names.get(x, x) for x in pattern]:
        if mark == "M":
            mamba_heads = need(config, "mamba_num_heads")
            inner = mamba_heads * need(config, "mamba_head_dim")
            grouped = 2 * need(config, "n_groups") * need(config, "ssm_state_size")
            conv = inner + grouped
            linears = (Linear("in_proj", hidden, inner + conv + mamba_heads), Linear("out_proj", inner, hidden))
            other = hidden + conv * (need(config, "conv_kernel") + 1) + 3 * mamba_heads + inner
            layers.append(Layer("mamba2", linears, other, heads=mamba_heads, head_dim=inner // mamba_heads))
        elif mark == "*":
            attention, _ = attention_linears(config, DENSE["llama"], Sizes(hidden, 1, heads, kv, dim, 1, vocab))
            layers.append(Layer("attention", tuple(attention), hidden, heads=heads, kv_heads=kv, head_dim=dim))
        elif mark == "E":
            count, top = need(config, "n_routed_experts"), need(config, "num_experts_per_tok")
            width, shared = need(config, "moe_intermediate_size"), need(config, "moe_shared_expert_intermediate_size")
            pair = (Linear("up_proj", hidden, shared), Linear("down_proj", shared, hidden))
            one = 2 * hidden * width
            layers.append(
                Layer("experts", pair, hidden + count * hidden, count * one, top * one, expert_inner=width,
                      experts_per_token=top)
            )  # fmt: skip
        else:
            inner = need(config, "intermediate_size")
            pair = (Linear("up_proj", hidden, inner), Linear("down_proj", inner, hidden))
            layers.append(Layer("mlp", pair, hidden))
    tied = flag(config, "tie_word_embeddings", False)
    embedding = vocab * hidden
    return Shape("nemotron_h", hidden, vocab, tuple(layers), tied, embedding, 0 if tied else embedding, hidden)


def granite_hybrid_shape(config: Config) -> Shape:
    """Granite 4: Mamba-2 and attention layers over a shared MLP, with experts in some."""
    hidden, vocab, count = (need(config, k) for k in ("hidden_size", "vocab_size", "num_hidden_layers"))
    if "num_local_experts" not in config or "shared_intermediate_size" not in config:
        raise UnknownArchitecture(
            "config.json of 'granitemoehybrid' lacks num_local_experts or shared_intermediate_size"
        )
    heads = need(config, "num_attention_heads")
    sizes = Sizes(hidden, 1, heads, int(config.get("num_key_value_heads") or heads), hidden // heads, 1, vocab)
    shared = need(config, "shared_intermediate_size")
    mlp = [Linear("input_linear", hidden, 2 * shared), Linear("output_linear", shared, hidden)]
    experts, top = need(config, "num_local_experts"), int(config.get("num_experts_per_tok") or 0)
    width = int(config.get("intermediate_size") or 0)
    one = 3 * hidden * width
    router = experts * hidden
    kinds = config.get("layer_types") or config.get("layers_block_type") or ["mamba"] * count
    layers = []
    for kind in kinds:
        if kind == "attention":
            attention, _ = attention_linears(config, DENSE["llama"], sizes)
            mixer, other = attention, 2 * hidden
        else:
            mamba_heads = need(config, "mamba_n_heads")
            inner = int(config.get("mamba_expand") or 2) * hidden
            conv = inner + 2 * need(config, "mamba_n_groups") * need(config, "mamba_d_state")
            mixer = [Linear("in_proj", hidden, inner + conv + mamba_heads), Linear("out_proj", inner, hidden)]
            other = 2 * hidden + conv * (need(config, "mamba_d_conv") + 1) + 3 * mamba_heads + inner
        layers.append(
            Layer(
                "attention" if kind == "attention" else "mamba2", tuple(mixer + mlp), other + router, experts * one,
                top * one, heads, sizes.kv_heads, sizes.head_dim, None, False, width if experts else 0, top,
            )
        )  # fmt: skip
    tied = flag(config, "tie_word_embeddings", True)
    embedding = vocab * hidden
    return Shape("granitemoehybrid", hidden, vocab, tuple(layers), tied, embedding, 0 if tied else embedding, hidden)


def lfm2_shape(config: Config) -> Shape:
    """LFM2: short convolutions and attention."""
    hidden, vocab, count = (need(config, k) for k in ("hidden_size", "vocab_size", "num_hidden_layers"))
    heads = need(config, "num_attention_heads")
    kv, dim = int(config.get("num_key_value_heads") or heads), hidden // heads
    kinds = config.get("layer_types")
    if not kinds:
        marked = config.get("full_attn_idxs")
        if marked is None:
            raise UnknownArchitecture("config.json of 'lfm2' lacks layer_types")
        kinds = ["full_attention" if i in marked else "conv" for i in range(count)]
    inner = need(config, "intermediate_size")
    if flag(config, "block_auto_adjust_ff_dim", True):
        inner = int(float(config.get("block_ffn_dim_multiplier") or 1.0) * int(2 * inner / 3))
        multiple = int(config.get("block_multiple_of") or 256)
        inner = multiple * -(-inner // multiple)
    mlp = [Linear("w1", hidden, inner), Linear("w3", hidden, inner), Linear("w2", inner, hidden)]
    layers = []
    for kind in kinds:
        if kind == "full_attention":
            mixer, _ = attention_linears(config, replace(DENSE["mistral"], out_name="out_proj"),
                                  Sizes(hidden, 1, heads, kv, dim, 1, vocab))  # fmt: skip
            other = 2 * hidden + 2 * dim
        else:
            bias = flag(config, "conv_bias", False)
            mixer = [Linear("in_proj", hidden, 3 * hidden, bias), Linear("out_proj", hidden, hidden, bias)]
            other = 2 * hidden + hidden * int(config.get("conv_L_cache") or 3) + (hidden if bias else 0)
        kind = "attention" if kind == "full_attention" else "conv"
        layers.append(Layer(kind, tuple(mixer + mlp), other, heads=heads, kv_heads=kv, head_dim=dim))
    tied = flag(config, "tie_word_embeddings", flag(config, "tie_embedding", True))
    embedding = vocab * hidden
    return Shape("lfm2", hidden, vocab, tuple(layers), tied, embedding, 0 if tied else embedding, hidden)


def qwen3_5_shape(config: Config) -> Shape:
    """Qwen3.5: gated delta-net layers and gated attention, dense or with experts."""
    hidden, vocab, count = (need(config, k) for k in ("hidden_size", "vocab_size", "num_hidden_layers"))
    heads, kv, dim = (
        need(config, "num_attention_heads"),
        need(config, "num_key_value_heads"),
        need(config, "head_dim"),
    )
    keys = need(config, "linear_num_key_heads") * need(config, "linear_key_head_dim")
    value_heads, value_dim = need(config, "linear_num_value_heads"), need(config, "linear_value_head_dim")
    values = value_heads * value_dim
    interval = int(config.get("full_attention_interval") or 4)
    kinds = config.get("layer_types") or [
        "full_attention" if (i + 1) % interval == 0 else "linear_attention" for i in range(count)
    ]
    experts = int(config.get("num_experts") or 0) if "moe" in config["model_type"] else 0
    layers = []
    for kind in kinds:
        if kind == "full_attention":
            mixer = [
                Linear("q_proj", hidden, 2 * heads * dim),
                Linear("k_proj", hidden, kv * dim),
                Linear("v_proj", hidden, kv * dim),
                Linear("o_proj", heads * dim, hidden),
            ]
            other = 2 * hidden + 2 * dim
        else:
            mixer = [
                Linear("in_proj_qkv", hidden, 2 * keys + values),
                Linear("in_proj_z", hidden, values),
                Linear("in_proj_b", hidden, value_heads),
                Linear("in_proj_a", hidden, value_heads),
                Linear("out_proj", values, hidden),
            ]
            other = 2 * hidden + (2 * keys + values) * need(config, "linear_conv_kernel_dim")
            other += 2 * value_heads + value_dim
        grouped = active = top = width = 0
        if experts:
            width, top = need(config, "moe_intermediate_size"), need(config, "num_experts_per_tok")
            grouped, active = experts * 3 * hidden * width, top * 3 * hidden * width
            mlp = mlp_linears(config, DENSE["mistral"], hidden, need(config, "shared_expert_intermediate_size"))
            mlp.append(Linear("shared_expert_gate", hidden, 1))
            other += experts * hidden
        else:
            mlp = mlp_linears(config, DENSE["mistral"], hidden, need(config, "intermediate_size"))
        name = "attention" if kind == "full_attention" else "linear_attention"
        sizes = (heads, kv, dim) if name == "attention" else (value_heads, value_heads, value_dim)
        layers.append(Layer(name, tuple(mixer + mlp), other, grouped, active, *sizes, None, False, width, top))
    tied = flag(config, "tie_word_embeddings", False)
    embedding = vocab * hidden
    return Shape(config["model_type"], hidden, vocab, tuple(layers), tied, embedding, 0 if tied else embedding, hidden)


def gemma4_shape(config: Config) -> Shape:
    """Gemma 4: wide and local attention, keys and values shared by late layers, embeddings per layer."""
    hidden, vocab, count = (need(config, k) for k in ("hidden_size", "vocab_size", "num_hidden_layers"))
    heads, kv, dim = (
        need(config, "num_attention_heads"),
        need(config, "num_key_value_heads"),
        need(config, "head_dim"),
    )
    wide = int(config.get("global_head_dim") or dim)
    wide_kv = int(config.get("num_global_key_value_heads") or kv)
    kinds = config.get("layer_types") or [
        "full_attention" if (i + 1) % 6 == 0 else "sliding_attention" for i in range(count)
    ]
    shared = int(config.get("num_kv_shared_layers") or 0)
    per_layer = int(config.get("hidden_size_per_layer_input") or 0)
    inner = need(config, "intermediate_size")
    layers = []
    for index, kind in enumerate(kinds):
        full = kind == "full_attention"
        reused = shared > 0 and index >= count - shared
        same = full and flag(config, "attention_k_eq_v", False)
        d, k = (wide, wide_kv if same else kv) if full else (dim, kv)
        linears = [Linear("q_proj", hidden, heads * d), Linear("o_proj", heads * d, hidden)]
        other = 4 * hidden + d
        if not reused:
            linears.append(Linear("k_proj", hidden, k * d))
            other += d
            if not same:
                linears.append(Linear("v_proj", hidden, k * d))
        width = 2 * inner if reused and flag(config, "use_double_wide_mlp", False) else inner
        linears += mlp_linears(config, DENSE["mistral"], hidden, width)
        grouped = active = top = expert_inner = 0
        if flag(config, "enable_moe_block", False):
            experts, top = need(config, "num_experts"), need(config, "top_k_experts")
            expert_inner = need(config, "moe_intermediate_size")
            one = 3 * hidden * expert_inner
            grouped, active = experts * one, top * one
            linears.append(Linear("proj", hidden, experts))
            other += 4 * hidden + experts
        if per_layer:
            linears += [
                Linear("per_layer_input_gate", hidden, per_layer),
                Linear("per_layer_projection", per_layer, hidden),
            ]
            other += hidden
        window = None if full else config.get("sliding_window")
        layers.append(
            Layer("attention", tuple(linears), other, grouped, active, heads, k, d, window, False, expert_inner, top)
        )
    extra = hidden
    embedding = vocab * hidden
    if per_layer:
        embedding += int(config.get("vocab_size_per_layer_input") or vocab) * count * per_layer
        extra += hidden * count * per_layer + per_layer
    tied = flag(config, "tie_word_embeddings", True)
    return Shape(
        "gemma4", hidden, vocab, tuple(layers), tied, embedding, 0 if tied else vocab * hidden, extra, soft_capped=True
    )
