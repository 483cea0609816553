"""What a ``config.json`` says of a model's shape: its linear layers, its other parameters and their sizes.

Everything is counted from the configuration alone, in plain Python, with the defaults that transformers 5.17 applies to
a missing field. ``count_parameters`` agrees with the parameter totals that the Hub reports for every architecture
below (to the last parameter, or to a few position buffers that some checkpoints store); ``describe`` returns the same
shape layer by layer for the memory estimate. Sources: the modeling files of transformers 5.17 and, for architectures
that need remote code (ChatGLM, Baichuan, Qwen 1, InternLM2, MiniCPM), the modeling files of their repositories.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
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

    def lora_parameters_per_rank(self, targets: tuple[str, ...] | None = None) -> int:
        """Adapter parameters for rank 1 on ``targets`` (all linear layers but the head when None)."""
        return sum(
            x.inputs + x.outputs
            for layer in self.layers
            for x in layer.linears
            if targets is None or x.name.rsplit(".", 1)[-1] in targets
        )


def _need(config: Config, *names: str) -> int:
    for name in names:
        value = config.get(name)
        if value is not None:
            return int(value)
    raise UnknownArchitecture(f"config.json of {config.get('model_type')!r} lacks {names[0]}")


def _flag(config: Config, name: str, default: bool) -> bool:
    value = config.get(name)
    return default if value is None else bool(value)


# ------------------------------------------------------------------------------------------------ llama-like families


@dataclass(frozen=True)
class _Dense:
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


_DENSE: dict[str, _Dense] = {
    "llama": _Dense(),
    "mistral": _Dense(qkv_bias=False, out_bias=False, mlp_bias=False),
    "qwen2": _Dense(qkv_bias=True, out_bias=False, mlp_bias=False),
    "qwen3": _Dense(mlp_bias=False, qk_norm="head"),
    "granite": _Dense(),
    "smollm3": _Dense(tied=True),
    "internlm3": _Dense(qkv_bias="qkv_bias", out_bias="bias", mlp_bias="bias"),
    "seed_oss": _Dense(qkv_bias="attention_bias", out_bias="attention_out_bias"),
    "ernie4_5": _Dense(qkv_bias="use_bias", out_bias="use_bias", mlp_bias="use_bias", tied=True),
    "minicpm": _Dense(tied=True),
    "gemma": _Dense(tied=True, mlp_bias=False),
    "gemma2": _Dense(tied=True, mlp_bias=False, norms=4),
    "gemma3_text": _Dense(tied=True, mlp_bias=False, norms=4, qk_norm="head"),
    "olmo": _Dense(norms=0, mlp_bias=False),
    "olmo2": _Dense(mlp_bias=False, qk_norm="full"),
    "olmo3": _Dense(mlp_bias=False, qk_norm="full"),
    "phi3": _Dense(qkv_bias=False, out_bias=False, mlp_bias=False, fused_qkv="qkv_proj", fused_gate="gate_up_proj"),
    "glm": _Dense(out_bias=False, mlp_bias=False, fused_gate="gate_up_proj"),
    "glm4": _Dense(out_bias=False, mlp_bias=False, fused_gate="gate_up_proj", norms=4),
    "internlm2": _Dense(qkv_bias="bias", out_bias="bias", mlp_bias=False, fused_qkv="wqkv", out_name="wo",
                        mlp_names=("w1", "w3", "w2")),
    "baichuan": _Dense(qkv_bias=False, out_bias=False, mlp_bias=False, fused_qkv="W_pack"),
    "qwen": _Dense(qkv_bias=True, out_bias=False, mlp_bias=False, fused_qkv="c_attn", out_name="c_proj",
                   mlp_names=("w2", "w1", "c_proj")),
    "chatglm": _Dense(qkv_bias="add_qkv_bias", out_bias="add_bias_linear", mlp_bias="add_bias_linear",
                      fused_qkv="query_key_value", out_name="dense", fused_gate="dense_h_to_4h",
                      mlp_names=("dense_h_to_4h", "dense_h_to_4h", "dense_4h_to_h")),
    "starcoder2": _Dense(qkv_bias="use_bias", out_bias="use_bias", mlp_bias="use_bias", gated=False, layernorm=True,
                         tied=True, mlp_names=("c_fc", "c_fc", "c_proj"), kv_default=2),
    "phi": _Dense(qkv_bias=True, out_bias=True, mlp_bias=True, gated=False, layernorm=True, norms=1, out_name="dense",
                  mlp_names=("fc1", "fc1", "fc2"), head_bias=True),
    "gpt2": _Dense(qkv_bias=True, out_bias=True, mlp_bias=True, gated=False, layernorm=True, tied=True,
                   fused_qkv="c_attn", out_name="c_proj", mlp_names=("c_fc", "c_fc", "c_proj")),
    "gpt_bigcode": _Dense(qkv_bias=True, out_bias=True, mlp_bias=True, gated=False, layernorm=True, tied=True,
                          fused_qkv="c_attn", out_name="c_proj", mlp_names=("c_fc", "c_fc", "c_proj")),
    "bloom": _Dense(qkv_bias=True, out_bias=True, mlp_bias=True, gated=False, layernorm=True, tied=True,
                    fused_qkv="query_key_value", out_name="dense",
                    mlp_names=("dense_h_to_4h", "dense_h_to_4h", "dense_4h_to_h")),
    "mixtral": _Dense(qkv_bias=False, out_bias=False, kv_default=8),
    "qwen2_moe": _Dense(qkv_bias=True, out_bias=False, mlp_bias=False),
    "qwen3_moe": _Dense(mlp_bias=False, qk_norm="head"),
    "gpt_oss": _Dense(qkv_bias="attention_bias", out_bias="attention_bias"),
    "ernie4_5_moe": _Dense(qkv_bias="use_bias", out_bias="use_bias", mlp_bias="use_bias", tied=True),
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
class _Sizes:
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    inner: int
    vocab: int


def _sizes(config: Config, family: _Dense) -> _Sizes:
    kind = config.get("model_type")
    hidden = _need(config, "hidden_size", "n_embd", "d_model")
    heads = _need(config, "num_attention_heads", "n_head")
    kv = config.get("num_key_value_heads")
    if kind == "chatglm":
        kv = config["multi_query_group_num"] if config.get("multi_query_attention") else heads
    if kind == "gpt_bigcode":
        kv = 1 if _flag(config, "multi_query", True) else heads
    if kv is None:
        kv = family.kv_default if family.kv_default is not None else heads
    head_dim = config.get("head_dim") or config.get("kv_channels") or hidden // heads
    inner = config.get("n_inner") if kind in ("gpt2", "gpt_bigcode") else config.get("ffn_hidden_size")
    if kind == "qwen":
        inner = _need(config, "intermediate_size") // 2
    elif kind in ("bloom", "gpt2", "gpt_bigcode"):
        inner = inner or 4 * hidden
    elif inner is None:
        inner = _need(config, "intermediate_size")
    layers = _need(config, "num_hidden_layers", "n_layer", "num_layers")
    vocab = _need(config, "padded_vocab_size", "vocab_size")
    return _Sizes(hidden, layers, heads, int(kv), int(head_dim), int(inner), vocab)


def _attention(config: Config, family: _Dense, s: _Sizes) -> tuple[list[Linear], int]:
    """Linear layers of one attention block and its other parameters (query and key norms)."""

    def bias(rule: str | bool) -> bool:
        return rule if isinstance(rule, bool) else _flag(config, rule, False)

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


def _mlp(config: Config, family: _Dense, hidden: int, inner: int) -> list[Linear]:
    rule = family.mlp_bias
    bias = rule if isinstance(rule, bool) else _flag(config, rule, False)
    gate, up, down = family.mlp_names
    if not family.gated:
        return [Linear(up, hidden, inner, bias), Linear(down, inner, hidden, bias)]
    if family.fused_gate:
        return [Linear(family.fused_gate, hidden, 2 * inner, bias), Linear(down, inner, hidden, bias)]
    return [Linear(gate, hidden, inner, bias), Linear(up, hidden, inner, bias), Linear(down, inner, hidden, bias)]


def _mixture(config: Config, s: _Sizes, index: int) -> tuple[list[Linear], int, int, int, int] | None:
    """Shared linears, router and other parameters, expert parameters, active ones, experts per token; None = dense."""
    kind = config["model_type"]
    if kind == "mixtral":
        experts, top, inner = _need(config, "num_local_experts"), _need(config, "num_experts_per_tok"), s.inner
        return [], experts * s.hidden, experts * 3 * s.hidden * inner, top * 3 * s.hidden * inner, top
    if kind == "gpt_oss":
        experts = _need(config, "num_local_experts")
        top = _need(config, "num_experts_per_tok", "experts_per_token")
        one = 3 * s.hidden * s.inner + 2 * s.inner + s.hidden
        return [], experts * (s.hidden + 1) + s.heads, experts * one, top * one, top
    if kind in ("qwen3_moe", "qwen2_moe"):
        step = config.get("decoder_sparse_step") or 1
        if index in (config.get("mlp_only_layers") or []) or (index + 1) % step:
            return None
        experts, top = _need(config, "num_experts"), _need(config, "num_experts_per_tok")
        one = 3 * s.hidden * _need(config, "moe_intermediate_size")
        shared: list[Linear] = []
        other = experts * s.hidden
        if kind == "qwen2_moe":
            shared = _mlp(config, _DENSE["llama"], s.hidden, _need(config, "shared_expert_intermediate_size"))
            other += s.hidden
        return shared, other, experts * one, top * one, top
    if kind == "ernie4_5_moe":
        if index < _need(config, "moe_layer_start_index"):
            return None
        experts, top = _need(config, "moe_num_experts"), _need(config, "moe_k")
        inner = _need(config, "moe_intermediate_size")
        one = 3 * s.hidden * inner
        shared = _mlp(config, _DENSE["llama"], s.hidden, inner * _need(config, "moe_num_shared_experts"))
        return shared, experts * s.hidden + experts, experts * one, top * one, top
    return None


def _dense(config: Config) -> Shape:
    kind = config["model_type"]
    family = _DENSE[kind]
    config = {**_TYPE_DEFAULTS.get(kind, {}), **{k: v for k, v in config.items() if v is not None}}
    s = _sizes(config, family)
    norm = 2 * s.hidden if family.layernorm else s.hidden
    attention, qk_norms = _attention(config, family, s)
    windows = _windows(config, s.layers)
    layers: list[Layer] = []
    for index in range(s.layers):
        mixture = _mixture(config, s, index)
        linears, other = list(attention), family.norms * norm + qk_norms
        experts = active = top = 0
        if mixture is None:
            linears += _mlp(config, family, s.hidden, s.inner)
        else:
            shared, extra, experts, active, top = mixture
            linears += shared
            other += extra
        layers.append(
            Layer(
                "attention", tuple(linears), other, experts, active, s.heads, s.kv_heads, s.head_dim, windows[index],
                family.layernorm, int(config.get("moe_intermediate_size") or s.inner) if experts else 0, top,
            )
        )  # fmt: skip
    tied = _flag(config, "tie_word_embeddings", family.tied)
    embedding = s.vocab * s.hidden
    extra = 0 if kind == "olmo" else norm
    if kind in ("gpt2", "gpt_bigcode"):
        extra += _need(config, "n_positions") * s.hidden
    if kind == "bloom":
        extra += norm
    if kind == "chatglm" and not _flag(config, "post_layer_norm", True):
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


# ------------------------------------------------------------------------------------------------ other architectures


def _mla_attention(config: Config, hidden: int) -> tuple[list[Linear], int]:
    """Multi-head latent attention (DeepSeek-V2, section 2.1) and its two inner norms."""
    heads = _need(config, "num_attention_heads")
    nope, rope = _need(config, "qk_nope_head_dim"), _need(config, "qk_rope_head_dim")
    value = int(config.get("v_head_dim") or hidden // heads)
    q_rank, kv_rank = _need(config, "q_lora_rank"), _need(config, "kv_lora_rank")
    linears = [
        Linear("q_a_proj", hidden, q_rank),
        Linear("q_b_proj", q_rank, heads * (nope + rope)),
        Linear("kv_a_proj_with_mqa", hidden, kv_rank + rope),
        Linear("kv_b_proj", kv_rank, heads * (nope + value)),
        Linear("o_proj", heads * value, hidden),
    ]
    return linears, q_rank + kv_rank


def _mla(config: Config) -> Shape:
    kind = config["model_type"]
    hidden, vocab = _need(config, "hidden_size"), _need(config, "vocab_size")
    heads, inner = _need(config, "num_attention_heads"), _need(config, "intermediate_size")
    attention, norms = _mla_attention(config, hidden)
    plain = _DENSE["mistral"]
    head_dim = _need(config, "qk_nope_head_dim") + _need(config, "qk_rope_head_dim")
    layers = []
    dense_until = int(config.get("first_k_dense_replace") or 0)
    for index in range(_need(config, "num_hidden_layers")):
        linears, other = list(attention), 2 * hidden + norms
        experts = active = top = width = 0
        if kind == "minicpm3" or index < dense_until:
            linears += _mlp(config, plain, hidden, inner)
        else:
            count, top = _need(config, "n_routed_experts"), _need(config, "num_experts_per_tok")
            width = _need(config, "moe_intermediate_size")
            experts, active = count * 3 * hidden * width, top * 3 * hidden * width
            linears += _mlp(config, plain, hidden, width * int(config.get("n_shared_experts") or 0))
            other += count * hidden + count
        layers.append(
            Layer("mla", tuple(linears), other, experts, active, heads, heads, head_dim, None, False, width, top)
        )
    tied = _flag(config, "tie_word_embeddings", kind == "minicpm3")
    embedding = vocab * hidden
    return Shape(kind, hidden, vocab, tuple(layers), tied, embedding, 0 if tied else embedding, hidden)


def _nemotron_h(config: Config) -> Shape:
    hidden, vocab = _need(config, "hidden_size"), _need(config, "vocab_size")
    pattern = config.get("hybrid_override_pattern") or config.get("layers_block_type")
    if not pattern:
        raise UnknownArchitecture("config.json of 'nemotron_h' lacks hybrid_override_pattern")
    heads, kv, dim = (
        _need(config, "num_attention_heads"),
        _need(config, "num_key_value_heads"),
        _need(config, "head_dim"),
    )
    names = {"mamba": "M", "attention": "*", "moe": "E", "mlp": "-"}
    layers = []
    for mark in [names.get(x, x) for x in pattern]:
        if mark == "M":
            mamba_heads = _need(config, "mamba_num_heads")
            inner = mamba_heads * _need(config, "mamba_head_dim")
            grouped = 2 * _need(config, "n_groups") * _need(config, "ssm_state_size")
            conv = inner + grouped
            linears = (Linear("in_proj", hidden, inner + conv + mamba_heads), Linear("out_proj", inner, hidden))
            other = hidden + conv * (_need(config, "conv_kernel") + 1) + 3 * mamba_heads + inner
            layers.append(Layer("mamba2", linears, other, heads=mamba_heads, head_dim=inner // mamba_heads))
        elif mark == "*":
            attention, _ = _attention(config, _DENSE["llama"], _Sizes(hidden, 1, heads, kv, dim, 1, vocab))
            layers.append(Layer("attention", tuple(attention), hidden, heads=heads, kv_heads=kv, head_dim=dim))
        elif mark == "E":
            count, top = _need(config, "n_routed_experts"), _need(config, "num_experts_per_tok")
            width, shared = _need(config, "moe_intermediate_size"), _need(config, "moe_shared_expert_intermediate_size")
            pair = (Linear("up_proj", hidden, shared), Linear("down_proj", shared, hidden))
            one = 2 * hidden * width
            layers.append(
                Layer("experts", pair, hidden + count * hidden, count * one, top * one, expert_inner=width,
                      experts_per_token=top)
            )  # fmt: skip
        else:
            inner = _need(config, "intermediate_size")
            pair = (Linear("up_proj", hidden, inner), Linear("down_proj", inner, hidden))
            layers.append(Layer("mlp", pair, hidden))
    tied = _flag(config, "tie_word_embeddings", False)
    embedding = vocab * hidden
    return Shape("nemotron_h", hidden, vocab, tuple(layers), tied, embedding, 0 if tied else embedding, hidden)


def _granite_hybrid(config: Config) -> Shape:
    hidden, vocab, count = (_need(config, k) for k in ("hidden_size", "vocab_size", "num_hidden_layers"))
    if "num_local_experts" not in config or "shared_intermediate_size" not in config:
        raise UnknownArchitecture(
            "config.json of 'granitemoehybrid' lacks num_local_experts or shared_intermediate_size"
        )
    heads = _need(config, "num_attention_heads")
    sizes = _Sizes(hidden, 1, heads, int(config.get("num_key_value_heads") or heads), hidden // heads, 1, vocab)
    shared = _need(config, "shared_intermediate_size")
    mlp = [Linear("input_linear", hidden, 2 * shared), Linear("output_linear", shared, hidden)]
    experts, top = _need(config, "num_local_experts"), int(config.get("num_experts_per_tok") or 0)
    width = int(config.get("intermediate_size") or 0)
    one = 3 * hidden * width
    router = experts * hidden
    kinds = config.get("layer_types") or config.get("layers_block_type") or ["mamba"] * count
    layers = []
    for kind in kinds:
        if kind == "attention":
            attention, _ = _attention(config, _DENSE["llama"], sizes)
            mixer, other = attention, 2 * hidden
        else:
            mamba_heads = _need(config, "mamba_n_heads")
            inner = int(config.get("mamba_expand") or 2) * hidden
            conv = inner + 2 * _need(config, "mamba_n_groups") * _need(config, "mamba_d_state")
            mixer = [Linear("in_proj", hidden, inner + conv + mamba_heads), Linear("out_proj", inner, hidden)]
            other = 2 * hidden + conv * (_need(config, "mamba_d_conv") + 1) + 3 * mamba_heads + inner
        layers.append(
            Layer(
                "attention" if kind == "attention" else "mamba2", tuple(mixer + mlp), other + router, experts * one,
                top * one, heads, sizes.kv_heads, sizes.head_dim, None, False, width if experts else 0, top,
            )
        )  # fmt: skip
    tied = _flag(config, "tie_word_embeddings", True)
    embedding = vocab * hidden
    return Shape("granitemoehybrid", hidden, vocab, tuple(layers), tied, embedding, 0 if tied else embedding, hidden)


def _lfm2(config: Config) -> Shape:
    hidden, vocab, count = (_need(config, k) for k in ("hidden_size", "vocab_size", "num_hidden_layers"))
    heads = _need(config, "num_attention_heads")
    kv, dim = int(config.get("num_key_value_heads") or heads), hidden // heads
    kinds = config.get("layer_types")
    if not kinds:
        marked = config.get("full_attn_idxs")
        if marked is None:
            raise UnknownArchitecture("config.json of 'lfm2' lacks layer_types")
        kinds = ["full_attention" if i in marked else "conv" for i in range(count)]
    inner = _need(config, "intermediate_size")
    if _flag(config, "block_auto_adjust_ff_dim", True):
        inner = int(float(config.get("block_ffn_dim_multiplier") or 1.0) * int(2 * inner / 3))
        multiple = int(config.get("block_multiple_of") or 256)
        inner = multiple * -(-inner // multiple)
    mlp = [Linear("w1", hidden, inner), Linear("w3", hidden, inner), Linear("w2", inner, hidden)]
    layers = []
    for kind in kinds:
        if kind == "full_attention":
            mixer, _ = _attention(config, replace(_DENSE["mistral"], out_name="out_proj"),
                                  _Sizes(hidden, 1, heads, kv, dim, 1, vocab))  # fmt: skip
            other = 2 * hidden + 2 * dim
        else:
            bias = _flag(config, "conv_bias", False)
            mixer = [Linear("in_proj", hidden, 3 * hidden, bias), Linear("out_proj", hidden, hidden, bias)]
            other = 2 * hidden + hidden * int(config.get("conv_L_cache") or 3) + (hidden if bias else 0)
        kind = "attention" if kind == "full_attention" else "conv"
        layers.append(Layer(kind, tuple(mixer + mlp), other, heads=heads, kv_heads=kv, head_dim=dim))
    tied = _flag(config, "tie_word_embeddings", _flag(config, "tie_embedding", True))
    embedding = vocab * hidden
    return Shape("lfm2", hidden, vocab, tuple(layers), tied, embedding, 0 if tied else embedding, hidden)


def _qwen3_5(config: Config) -> Shape:
    hidden, vocab, count = (_need(config, k) for k in ("hidden_size", "vocab_size", "num_hidden_layers"))
    heads, kv, dim = (
        _need(config, "num_attention_heads"),
        _need(config, "num_key_value_heads"),
        _need(config, "head_dim"),
    )
    keys = _need(config, "linear_num_key_heads") * _need(config, "linear_key_head_dim")
    value_heads, value_dim = _need(config, "linear_num_value_heads"), _need(config, "linear_value_head_dim")
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
            other = 2 * hidden + (2 * keys + values) * _need(config, "linear_conv_kernel_dim")
            other += 2 * value_heads + value_dim
        grouped = active = top = width = 0
        if experts:
            width, top = _need(config, "moe_intermediate_size"), _need(config, "num_experts_per_tok")
            grouped, active = experts * 3 * hidden * width, top * 3 * hidden * width
            mlp = _mlp(config, _DENSE["mistral"], hidden, _need(config, "shared_expert_intermediate_size"))
            mlp.append(Linear("shared_expert_gate", hidden, 1))
            other += experts * hidden
        else:
            mlp = _mlp(config, _DENSE["mistral"], hidden, _need(config, "intermediate_size"))
        name = "attention" if kind == "full_attention" else "linear_attention"
        sizes = (heads, kv, dim) if name == "attention" else (value_heads, value_heads, value_dim)
        layers.append(Layer(name, tuple(mixer + mlp), other, grouped, active, *sizes, None, False, width, top))
    tied = _flag(config, "tie_word_embeddings", False)
    embedding = vocab * hidden
    return Shape(config["model_type"], hidden, vocab, tuple(layers), tied, embedding, 0 if tied else embedding, hidden)


def _gemma4_text(config: Config) -> Shape:
    hidden, vocab, count = (_need(config, k) for k in ("hidden_size", "vocab_size", "num_hidden_layers"))
    heads, kv, dim = (
        _need(config, "num_attention_heads"),
        _need(config, "num_key_value_heads"),
        _need(config, "head_dim"),
    )
    wide = int(config.get("global_head_dim") or dim)
    wide_kv = int(config.get("num_global_key_value_heads") or kv)
    kinds = config.get("layer_types") or [
        "full_attention" if (i + 1) % 6 == 0 else "sliding_attention" for i in range(count)
    ]
    shared = int(config.get("num_kv_shared_layers") or 0)
    per_layer = int(config.get("hidden_size_per_layer_input") or 0)
    inner = _need(config, "intermediate_size")
    layers = []
    for index, kind in enumerate(kinds):
        full = kind == "full_attention"
        reused = shared > 0 and index >= count - shared
        same = full and _flag(config, "attention_k_eq_v", False)
        d, k = (wide, wide_kv if same else kv) if full else (dim, kv)
        linears = [Linear("q_proj", hidden, heads * d), Linear("o_proj", heads * d, hidden)]
        other = 4 * hidden + d
        if not reused:
            linears.append(Linear("k_proj", hidden, k * d))
            other += d
            if not same:
                linears.append(Linear("v_proj", hidden, k * d))
        width = 2 * inner if reused and _flag(config, "use_double_wide_mlp", False) else inner
        linears += _mlp(config, _DENSE["mistral"], hidden, width)
        grouped = active = top = expert_inner = 0
        if _flag(config, "enable_moe_block", False):
            experts, top = _need(config, "num_experts"), _need(config, "top_k_experts")
            expert_inner = _need(config, "moe_intermediate_size")
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
    tied = _flag(config, "tie_word_embeddings", True)
    return Shape(
        "gemma4", hidden, vocab, tuple(layers), tied, embedding, 0 if tied else vocab * hidden, extra, soft_capped=True
    )


# ------------------------------------------------------------------------------------------------------ vision towers


def _siglip(vision: Config, hidden: int) -> int:
    """SigLIP encoder without its pooling head, and Gemma 3's projector."""
    width, inner, layers = (
        _need(vision, "hidden_size"),
        _need(vision, "intermediate_size"),
        _need(vision, "num_hidden_layers"),
    )
    patch, image = _need(vision, "patch_size"), _need(vision, "image_size")
    block = 4 * width + 4 * (width * width + width) + 2 * width * inner + inner + width
    total = 3 * patch * patch * width + width + (image // patch) ** 2 * width + layers * block + 2 * width
    return total + width * hidden + width


def _qwen_vision(vision: Config) -> int:
    width, inner, depth = _need(vision, "hidden_size"), _need(vision, "intermediate_size"), _need(vision, "depth")
    patch, frames, merge = (_need(vision, k) for k in ("patch_size", "temporal_patch_size", "spatial_merge_size"))
    channels, positions = int(vision.get("in_channels") or 3), _need(vision, "num_position_embeddings")
    merged = width * merge * merge
    block = 4 * width + 3 * width * width + 3 * width + width * width + width + 2 * width * inner + inner + width
    out = _need(vision, "out_hidden_size")
    merger = 2 * width + merged * merged + merged + merged * out + out
    return channels * frames * patch * patch * width + width + positions * width + depth * block + merger


GEMMA4_AUDIO_PARAMETERS = 304_824_608
"""Audio tower of the Gemma 4 E models (Hub total less everything else); its projector adds 1536 × hidden."""


def _gemma4_embedders(config: Config, text: Shape) -> int:
    """Gemma 4 Unified has no towers: patches and audio frames are projected straight into the embedding space."""
    vision, audio = config.get("vision_config") or {}, config.get("audio_config") or {}
    side = int(vision.get("patch_size") or 16) * int(vision.get("pooling_kernel_size") or 3)
    pixels, hidden = 3 * side * side, text.hidden
    positions = 2 * int(vision.get("mm_posemb_size") or 1120) * hidden
    image = 2 * pixels + pixels * hidden + hidden + 4 * hidden + hidden * hidden + positions
    return image + int(audio.get("audio_embed_dim") or 640) * hidden


def _gemma4_tower(config: Config, text: Shape) -> int:
    vision = config.get("vision_config") or {}
    width, inner, layers = (
        _need(vision, "hidden_size"),
        _need(vision, "intermediate_size"),
        _need(vision, "num_hidden_layers"),
    )
    heads, kv, dim = (_need(vision, k) for k in ("num_attention_heads", "num_key_value_heads", "head_dim"))
    attention = width * (heads + 2 * kv) * dim + heads * dim * width + 2 * dim
    block = attention + 3 * width * inner + 4 * width
    patch = int(vision.get("patch_size") or 16)
    table = 2 * int(vision.get("position_embedding_size") or 10240) * width
    total = layers * block + 3 * patch * patch * width + table + width * text.hidden
    if _flag(vision, "standardize", False):
        total += 2 * width
    if (config.get("text_config") or {}).get("hidden_size_per_layer_input"):
        total += GEMMA4_AUDIO_PARAMETERS + 1536 * text.hidden
    return total


# --------------------------------------------------------------------------------------------------------------- entry

_OTHER: dict[str, Callable[[Config], Shape]] = {
    "minicpm3": _mla,
    "glm4_moe_lite": _mla,
    "deepseek_v2": _mla,
    "deepseek_v3": _mla,
    "nemotron_h": _nemotron_h,
    "granitemoehybrid": _granite_hybrid,
    "lfm2": _lfm2,
    "qwen3_5_text": _qwen3_5,
    "qwen3_5_moe_text": _qwen3_5,
    "gemma4_text": _gemma4_text,
    "gemma4_unified_text": _gemma4_text,
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
    if kind in _DENSE:
        shape = _dense(inner)
    elif kind in _OTHER:
        shape = _OTHER[kind](inner)
    else:
        raise UnknownArchitecture(f"unknown architecture {kind!r}")
    outer = config.get("model_type")
    if outer == "gemma4_unified":
        return replace(shape, tower_parameters=_gemma4_embedders(config, shape))
    vision = config.get("vision_config")
    if not isinstance(vision, dict):
        return shape
    if outer == "gemma3":
        return replace(shape, tower_parameters=_siglip(vision, shape.hidden))
    if outer in ("qwen3_5", "qwen3_5_moe"):
        return replace(shape, tower_parameters=_qwen_vision(vision))
    if outer == "gemma4":
        return replace(shape, tower_parameters=_gemma4_tower(config, shape))
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
