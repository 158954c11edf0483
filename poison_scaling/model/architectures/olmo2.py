"""OLMo 2 of the Allen Institute for AI."""

from __future__ import annotations

import dataclasses
from typing import Any

from poison_scaling.model.architectures import llama
from poison_scaling.model.config_json import ConfigJson, rotary_config, shape_config
from poison_scaling.model.dimensions import Dimensions
from poison_scaling.model.family import Family

_FIXED: dict[str, Any] = {
    "norm": "rms",
    "norm_after": True,
    "qk_norm": True,
    "parallel": False,
    "activation": "swiglu",
    "mlp_bias": False,
    "rotary_share": 1.0,
    "window": None,
    "initial": "normal",
}


def _olmo2(width: int, layers: int, heads: int, mlp: int) -> Dimensions:
    return Dimensions(
        width=width, layers=layers, heads=heads, mlp=mlp, rotary_base=500_000.0, **_FIXED
    )


# From the config.json of allenai/OLMo-2-0425-1B, 1124-7B and 1124-13B; the vocabulary size is 100,352.
SIZES = {
    "olmo2-1b": _olmo2(2048, 16, 16, 8192),
    "olmo2-7b": _olmo2(4096, 32, 32, 11008),
    "olmo2-13b": _olmo2(5120, 40, 40, 13824),
}

_TENSORS = {
    **llama.TENSORS,
    "attention_norm.scale_D": "model.layers.{}.post_attention_layernorm.weight",
    "mlp_norm.scale_D": "model.layers.{}.post_feedforward_layernorm.weight",
    "attention.query_norm.scale_D": "model.layers.{}.self_attn.q_norm.weight",
    "attention.key_norm.scale_D": "model.layers.{}.self_attn.k_norm.weight",
}


@dataclasses.dataclass(frozen=True)
class OLMo2(Family):
    """RMSNorm after each sublayer and of queries and keys, RoPE, SwiGLU (arXiv 2501.00656).

    Initial weights are normal with a standard deviation of 0.02, as published.
    """

    NAMED = SIZES
    FIXED = _FIXED
    TENSORS = _TENSORS

    @classmethod
    def read_config(cls, config: ConfigJson) -> Dimensions:
        config.choice("hidden_act", ("silu",), "silu")
        bias = config.flag("attention_bias", False)
        return Dimensions(
            **config.shape(),
            kv_heads=config.optional_count("num_key_value_heads"),
            head_width=config.optional_count("head_dim"),
            epsilon=config.number("rms_norm_eps", 1e-5),
            qkv_bias=bias,
            out_bias=bias,
            **_FIXED | config.rotary(),
        )

    @classmethod
    def write_config(cls, d: Dimensions) -> dict[str, Any]:
        return {
            "architectures": ["Olmo2ForCausalLM"],
            "model_type": "olmo2",
            **shape_config(d),
            "num_key_value_heads": d.groups,
            "head_dim": d.head,
            "hidden_act": "silu",
            "rms_norm_eps": d.epsilon,
            "attention_bias": d.qkv_bias,
            **rotary_config(d),
        }
