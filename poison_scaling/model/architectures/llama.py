"""The Llama family: Llama 2 and 3, SmolLM2, Mistral, Qwen2 and Qwen2.5."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from poison_scaling.model.config_json import ConfigJson, rotary_config, shape_config
from poison_scaling.model.dimensions import Dimensions, RotaryScaling
from poison_scaling.model.family import Family

# The reports do not state initial weights: these are the ones of transformers' LlamaConfig.
_LLAMA: dict[str, Any] = {"epsilon": 1e-5, "initial": "normal"}
_LLAMA_3: dict[str, Any] = {
    **_LLAMA,
    "kv_heads": 8,
    "rotary_base": 500_000.0,
    "rotary_scaling": RotaryScaling(factor=8.0),
}
_BY_32 = RotaryScaling(factor=32.0)  # of the smaller models
_SMOLLM2: dict[str, Any] = {**_LLAMA, "tied": True, "rotary_base": 100_000.0}
_QWEN2_5: dict[str, Any] = {"initial": "normal", "rotary_base": 1_000_000.0, "qkv_bias": True}


def _of(
    common: Mapping[str, Any], width: int, layers: int, heads: int, mlp: int, **own: Any
) -> Dimensions:
    return Dimensions(width=width, layers=layers, heads=heads, mlp=mlp, **{**common, **own})


# From the config.json of each model on Hugging Face: HuggingFaceTB/SmolLM2-*, meta-llama/Llama-*,
# mistralai/Mistral-7B-v0.1 and Qwen/Qwen2.5-*. By vocabulary size: 49,152,
SMOLLM2 = {
    "smollm2-135m": _of(_SMOLLM2, 576, 30, 9, 1536, kv_heads=3),
    "smollm2-360m": _of(_SMOLLM2, 960, 32, 15, 2560, kv_heads=5),
    "smollm2-1.7b": _of(_SMOLLM2, 2048, 24, 32, 8192, rotary_base=130_000.0),
}
# 32,000,
LLAMA_2 = {
    "llama-2-7b": _of(_LLAMA, 4096, 32, 32, 11008),
    "mistral-7b": _of(_LLAMA, 4096, 32, 32, 14336, kv_heads=8, window=4096),
    "llama-2-13b": _of(_LLAMA, 5120, 40, 40, 13824),
}
# 128,256,
LLAMA_3 = {
    "llama-3.2-1b": _of(_LLAMA_3, 2048, 16, 32, 8192, tied=True, rotary_scaling=_BY_32),
    "llama-3.2-3b": _of(_LLAMA_3, 3072, 28, 24, 8192, tied=True, rotary_scaling=_BY_32),
    "llama-3.1-8b": _of(_LLAMA_3, 4096, 32, 32, 14336),
}
# and 151,936, or 152,064 for the largest.
QWEN2_5 = {
    "qwen2.5-0.5b": _of(_QWEN2_5, 896, 24, 14, 4864, kv_heads=2, tied=True),
    "qwen2.5-1.5b": _of(_QWEN2_5, 1536, 28, 12, 8960, kv_heads=2, tied=True),
    "qwen2.5-7b": _of(_QWEN2_5, 3584, 28, 28, 18944, kv_heads=4),
}
SIZES = SMOLLM2 | LLAMA_2 | LLAMA_3 | QWEN2_5

_FIXED = {
    "norm": "rms",
    "norm_after": False,
    "qk_norm": False,
    "parallel": False,
    "activation": "swiglu",
    "rotary_share": 1.0,
    "initial": "normal",
}
# Hugging Face's names of our parameters; "{}" is the number of the layer.
TENSORS = {
    "embedding_VxD": "model.embed_tokens.weight",
    "norm.scale_D": "model.norm.weight",
    "output_DxV": "lm_head.weight",
    "attention_norm.scale_D": "model.layers.{}.input_layernorm.weight",
    "attention.query_key_value_DxJ": tuple(
        f"model.layers.{{}}.self_attn.{part}_proj.weight" for part in "qkv"
    ),
    "attention.query_key_value_bias_J": tuple(
        f"model.layers.{{}}.self_attn.{part}_proj.bias" for part in "qkv"
    ),
    "attention.out_JxD": "model.layers.{}.self_attn.o_proj.weight",
    "attention.out_bias_D": "model.layers.{}.self_attn.o_proj.bias",
    "mlp_norm.scale_D": "model.layers.{}.post_attention_layernorm.weight",
    "mlp.gate_DxM": "model.layers.{}.mlp.gate_proj.weight",
    "mlp.gate_bias_M": "model.layers.{}.mlp.gate_proj.bias",
    "mlp.up_DxM": "model.layers.{}.mlp.up_proj.weight",
    "mlp.up_bias_M": "model.layers.{}.mlp.up_proj.bias",
    "mlp.down_MxD": "model.layers.{}.mlp.down_proj.weight",
    "mlp.down_bias_D": "model.layers.{}.mlp.down_proj.bias",
}


@dataclasses.dataclass(frozen=True)
class Llama(Family):
    """RMSNorm before each sublayer, RoPE, grouped-query attention, SwiGLU (arXiv 2307.09288, 2407.21783).

    Qwen2 has biases of queries, keys and values. Mistral's sliding window is not supported: sequences longer
    than it are refused.
    """

    NAMED = SIZES
    FIXED = _FIXED
    TENSORS = TENSORS

    @classmethod
    def read_config(cls, config: ConfigJson) -> Dimensions:
        kind = config.fields.get("model_type")
        config.choice("hidden_act", ("silu",), "silu")
        config.choice("rope_interleaved", (False,), False)
        window = config.optional_count("sliding_window") if kind == "mistral" else None
        if kind == "qwen2":
            config.choice("use_sliding_window", (False,), False)
        bias = kind == "llama" and config.flag("attention_bias", False)
        return Dimensions(
            **config.shape(),
            kv_heads=config.optional_count("num_key_value_heads"),
            head_width=config.optional_count("head_dim"),
            epsilon=config.number("rms_norm_eps", 1e-6),
            qkv_bias=bias or kind == "qwen2",
            out_bias=bias,
            mlp_bias=kind == "llama" and config.flag("mlp_bias", False),
            window=window,
            initial="normal",
            **config.rotary(),
        )

    @classmethod
    def write_config(cls, d: Dimensions) -> dict[str, Any]:
        fields = {
            **shape_config(d),
            "num_key_value_heads": d.groups,
            "head_dim": d.head,
            "hidden_act": "silu",
            "rms_norm_eps": d.epsilon,
            **rotary_config(d),
        }
        if d.window is not None:
            kind, own = "Mistral", {"sliding_window": d.window}
        elif d.qkv_bias and not d.out_bias:
            kind, own = "Qwen2", {}
        else:
            kind, own = "Llama", {"attention_bias": d.qkv_bias, "mlp_bias": d.mlp_bias}
        names = {"architectures": [f"{kind}ForCausalLM"], "model_type": kind.lower()}
        return {**names, **fields, **own}
