"""Decoders of one kind of layer: the families that follow Llama, GPT-2 or BLOOM, and mixtures of experts among them."""

from __future__ import annotations

from dataclasses import dataclass

from .shape import Config, Layer, Linear, Shape, flag, need


@dataclass(frozen=True)
class Dense:
    """How a llama-like family differs from Llama. Biases name a config field or are fixed."""

    qkv_bias: str | bool = "attention_bias"
    out_bias: str | bool = "attention_bias"
    mlp_bias: str | bool = "mlp_bias"
    fused_qkv: str | None = None
    fused_gate: str | None = None
    gated: bool = True
    norms: int = 2
    layernorm: bool = False
    qk_norm: str | None = None
    tied: bool = False
    out_name: str = "o_proj"
    mlp_names: tuple[str, str, str] = ("gate_proj", "up_proj", "down_proj")
    head_bias: bool = False
    kv_default: int | None = None


DENSE: dict[str, Dense] = {
    "llama": Dense(),
    "mistral": Dense(qkv_bias=False, out_bias=False, mlp_bias=False),
    "qwen2": Dense(qkv_bias=True, out_bias=False, mlp_bias=False),
    "qwen3": Dense(mlp_bias=False, qk_norm="head"),
    "granite": Dense(),
    "smollm3": Dense(tied=True),
    "internlm3": Dense(qkv_bias="qkv_bias", out_bias="bias", mlp_bias="bias"),
    "seed_oss": Dense(qkv_bias="attention_bias", out_bias="attention_out_bias"),
    "ernie4_5": Dense(qkv_bias="use_bias", out_bias="use_bias", mlp_bias="use_bias", tied=True),
    "minicpm": Dense(tied=True),
    "gemma": Dense(tied=True, mlp_bias=False),
    "gemma2": Dense(tied=True, mlp_bias=False, norms=4),
    "gemma3_text": Dense(tied=True, mlp_bias=False, norms=4, qk_norm="head"),
    "olmo": Dense(norms=0, mlp_bias=False),
    "olmo2": Dense(mlp_bias=False, qk_norm="full"),
    "olmo3": Dense(mlp_bias=False, qk_norm="full"),
    "phi3": Dense(qkv_bias=False, out_bias=False, mlp_bias=False, fused_qkv="qkv_proj", fused_gate="gate_up_proj"),
    "glm": Dense(out_bias=False, mlp_bias=False, fused_gate="gate_up_proj"),
    "glm4": Dense(out_bias=False, mlp_bias=False, fused_gate="gate_up_proj", norms=4),
    "internlm2": Dense(qkv_bias="bias", out_bias="bias", mlp_bias=False, fused_qkv="wqkv", out_name="wo",
                        mlp_names=("w1", "w3", "w2")),
    "baichuan": Dense(qkv_bias=False, out_bias=False, mlp_bias=False, fused_qkv="W_pack"),
    "qwen": Dense(qkv_bias=True, out_bias=False, mlp_bias=False, fused_qkv="c_attn", out_name="c_proj",
                   mlp_names=("w2", "w1", "c_proj")),
    "chatglm": Dense(qkv_bias="add_qkv_bias", out_bias="add_bias_linear", mlp_bias="add_bias_linear",
                      fused_qkv="query_key_value", out_name="dense", fused_gate="dense_h_to_4h",
                      mlp_names=("dense_h_to_4h", "dense_h_to_4h", "dense_4h_to_h")),
    "starcoder2": Dense(qkv_bias="use_bias", out_bias="use_bias", mlp_bias="use_bias", gated=False, layernorm=True,
                         tied=True, mlp_names=("c_fc", "c_fc", "c_proj"), kv_default=2),
    "phi": Dense(qkv_bias=True, out_bias=True, mlp_bias=True, gated=False, layernorm=True, norms=1, out_name="dense",
                  mlp_names=("fc1", "fc1", "fc2"), head_bias=True),
    "gpt2": Dense(qkv_bias=True, out_bias=True, mlp_bias=True, gated=False, layernorm=True, tied=True,
                   fused_qkv="c_attn", out_name="c_proj", mlp_names=("c_fc", "c_fc", "c_proj")),
    "gpt_bigcode": Dense(qkv_bias=True, out_bias=True, mlp_bias=True, gated=False, layernorm=True, tied=True,
                          fused_qkv="c_attn", out_name="c_proj", mlp_names=("c_fc", "c_fc", "c_proj")),
    "bloom": Dense(qkv_bias=True, out_bias=True, mlp_bias=True, gated=False, layernorm=True, tied=True,
                    fused_qkv="query_key_value", out_name="dense",
                    mlp_names=("dense_h_to_4h", "dense_h_to_4h", "dense_4h_to_h")),
    "mixtral": Dense(qkv_bias=False, out_bias=False, kv_default=8),
    "qwen2_moe": Dense(qkv_bias=True, out_bias=False, mlp_bias=False),
    "qwen3_moe": Dense(mlp_bias=False, qk_norm="head"),
    "gpt_oss": Dense(qkv_bias="attention_bias", out_bias="attention_bias"),
    "ernie4_5_moe": Dense(qkv_bias="use_bias", out_bias="use_bias", mlp_bias="use_bias", tied=True),
}  # fmt: skip

_TYPE_DEFAULTS: dict[str, Config] = {
    "gpt_oss": {"attention_bias": True},
    "glm": {"attention_bias": False},
    "starcoder2": {"use_bias": True},
    "seed_oss": {"attention_bias": True, "attention_out_bias": False},
    "gemma2": {"head_dim": 256},
    "gemma3_text": {
        "head_dim": 256, "num_attention_heads": 8, "num_key_value_heads": 4, "vocab_size": 262208,
        "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
    },
    "gemma": {"head_dim": 256},
    "qwen3": {"head_dim": 128},
    "ernie4_5": {"head_dim": 128},
    "qwen3_moe": {"num_key_value_heads": 4},
    "ernie4_5_moe": {"moe_num_experts": 64, "moe_num_shared_experts": 2, "moe_layer_start_index": 1,
                     "moe_intermediate_size": 1536, "moe_k": 6},
    "gpt2": {"n_positions": 1024, "n_embd": 768, "n_head": 12, "n_layer": 12, "vocab_size": 50257},
}  # fmt: skip
_EAGER = {"gpt_oss"}
_SOFT_CAPPED = {"gemma2"}


@dataclass(frozen=True)
class Sizes:
    """Sizes that attention and MLP of a family need."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    inner: int
    vocab: int


def _sizes(config: Config, family: Dense) -> Sizes:
    kind = config.get("model_type")
    hidden = need(config, "hidden_size", "n_embd", "d_model")
    heads = need(config, "num_attention_heads", "n_head")
    kv = config.get("num_key_value_heads")
    if kind == "chatglm":
        kv = config["multi_query_group_num"] if config.get("multi_query_attention") else heads
    if kind == "gpt_bigcode":
        kv = 1 if flag(config, "multi_query", True) else heads
    if kv is None:
        kv = family.kv_default if family.kv_default is not None else heads
    head_dim = config.get("head_dim") or config.get("kv_channels") or hidden // heads
    inner = config.get("n_inner") if kind in ("gpt2", "gpt_bigcode") else config.get("ffn_hidden_size")
    if kind == "qwen":
        inner = need(config, "intermediate_size") // 2
    elif kind in ("bloom", "gpt2", "gpt_bigcode"):
        inner = inner or 4 * hidden
    elif inner is None:
        inner = need(config, "intermediate_size")
    layers = need(config, "num_hidden_layers", "n_layer", "num_layers")
    vocab = need(config, "padded_vocab_size", "vocab_size")
    return Sizes(hidden, layers, heads, int(kv), int(head_dim), int(inner), vocab)


def attention_linears(config: Config, family: Dense, s: Sizes) -> tuple[list[Linear], int]:
    """Linear layers of one attention block and its other parameters (query and key norms)."""

    def bias(rule: str | bool) -> bool:
        return rule if isinstance(rule, bool) else flag(config, rule, False)

    q, kv = s.heads * s.head_dim, s.kv_heads * s.head_dim
    qkv_bias = bias(family.qkv_bias)
    linears = (
        [Linear(family.fused_qkv, s.hidden, q + 2 * kv, qkv_bias)]
        if family.fused_qkv
        else [Linear("q_proj", s.hidden, q, qkv_bias)]
        + [Linear(name, s.hidden, kv, qkv_bias) for name in ("k_proj", "v_proj")]
    )
    linears.append(Linear(family.out_name, q, s.hidden, bias(family.out_bias)))
    norms = {"head": 2 * s.head_dim, "full": q + kv, None: 0}[family.qk_norm]
    return linears, norms


def mlp_linears(config: Config, family: Dense, hidden: int, inner: int) -> list[Linear]:
    """Linear layers of one MLP with inner width ``inner``."""
    rule = family.mlp_bias
    bias = rule if isinstance(rule, bool) else flag(config, rule, False)
    gate, up, down = family.mlp_names
    if not family.gated:
        return [Linear(up, hidden, inner, bias), Linear(down, inner, hidden, bias)]
    if family.fused_gate:
        return [Linear(family.fused_gate, hidden, 2 * inner, bias), Linear(down, inner, hidden, bias)]
    return [Linear(gate, hidden, inner, bias), Linear(up, hidden, inner, bias), Linear(down, inner, hidden, bias)]


def _mixture(config: Config, s: Sizes, index: int) -> tuple[list[Linear], int, int, int, int] | None:
    """Shared linears, router and other parameters, expert parameters, active ones, experts per token; None = dense."""
    kind = config["model_type"]
    if kind == "mixtral":
        experts, top, inner = need(config, "num_local_experts"), need(config, "num_experts_per_tok"), s.inner
        return [], experts * s.hidden, experts * 3 * s.hidden * inner, top * 3 * s.hidden * inner, top
    if kind == "gpt_oss":
        experts = need(config, "num_local_experts")
        top = need(config, "num_experts_per_tok", "experts_per_token")
        one = 3 * s.hidden * s.inner + 2 * s.inner + s.hidden
        return [], experts * (s.hidden + 1) + s.heads, experts * one, top * one, top
    if kind in ("qwen3_moe", "qwen2_moe"):
        step = config.get("decoder_sparse_step") or 1
        if index in (config.get("mlp_only_layers") or []) or (index + 1) % step:
            return None
        experts, top = need(config, "num_experts"), need(config, "num_experts_per_tok")
        one = 3 * s.hidden * need(config, "moe_intermediate_size")
        shared: list[Linear] = []
        other = experts * s.hidden
        if kind == "qwen2_moe":
            shared = mlp_linears(config, DENSE["llama"], s.hidden, need(config, "shared_expert_intermediate_size"))
            other += s.hidden
        return shared, other, experts * one, top * one, top
    if kind == "ernie4_5_moe":
        if index < need(config, "moe_layer_start_index"):
            return None
        experts, top = need(config, "moe_num_experts"), need(config, "moe_k")
        inner = need(config, "moe_intermediate_size")
        one = 3 * s.hidden * inner
        shared = mlp_linears(config, DENSE["llama"], s.hidden, inner * need(config, "moe_num_shared_experts"))
        return shared, experts * s.hidden + experts, experts * one, top * one, top
    return None


def dense_shape(config: Config) -> Shape:
    """Shape of a model of one of the ``DENSE`` families. Raises UnknownArchitecture for a missing size."""
    kind = config["model_type"]
    family = DENSE[kind]
    config = {**_TYPE_DEFAULTS.get(kind, {}), **{k: v for k, v in config.items() if v is not None}}
    s = _sizes(config, family)
    norm = 2 * s.hidden if family.layernorm else s.hidden
    attention, qk_norms = attention_linears(config, family, s)
    windows = _windows(config, s.layers)
    layers: list[Layer] = []
    kinds: dict[tuple[int | None, bool], Layer] = {}  # a model has one size of window and one mixture: equal layers
    for index in range(s.layers):
        mixture = _mixture(config, s, index)
        kind_of_layer = (windows[index], mixture is None)
        if kind_of_layer in kinds:
            layers.append(kinds[kind_of_layer])
            continue
        linears, other = list(attention), family.norms * norm + qk_norms
        experts = active = top = 0
        if mixture is None:
            linears += mlp_linears(config, family, s.hidden, s.inner)
        else:
            shared, extra, experts, active, top = mixture
            linears += shared
            other += extra
        kinds[kind_of_layer] = Layer(
            "attention", tuple(linears), other, experts, active, s.heads, s.kv_heads, s.head_dim, windows[index],
            family.layernorm, int(config.get("moe_intermediate_size") or s.inner) if experts else 0, top,
        )  # fmt: skip
        layers.append(kinds[kind_of_layer])
    tied = flag(config, "tie_word_embeddings", family.tied)
    embedding = s.vocab * s.hidden
    extra = 0 if kind == "olmo" else norm
    if kind in ("gpt2", "gpt_bigcode"):
        extra += need(config, "n_positions") * s.hidden
    if kind == "bloom":
        extra += norm
    if kind == "chatglm" and not flag(config, "post_layer_norm", True):
        extra -= norm
    head = 0 if tied else embedding
    if family.head_bias:
        head += s.vocab
    return Shape(
        kind, s.hidden, s.vocab, tuple(layers), tied, embedding, head, extra,
        soft_capped=kind in _SOFT_CAPPED, eager_attention=kind in _EAGER,
    )  # fmt: skip


def _windows(config: Config, layers: int) -> list[int | None]:
    """Sliding window of each layer, None for full attention."""
    window = config.get("sliding_window")
    kinds = config.get("layer_types")
    if window is None or config.get("use_sliding_window") is False:
        return [None] * layers
    if kinds:
        return [int(window) if "sliding" in kinds[i] else None for i in range(layers)]
    kind = config.get("model_type")
    if kind == "gemma2":
        return [int(window) if (i + 1) % 2 else None for i in range(layers)]
    if kind == "gemma3_text":
        return [int(window) if (i + 1) % 6 else None for i in range(layers)]
    return [int(window)] * layers
