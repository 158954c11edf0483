"""GPT-NeoX: the Pythia models."""

from __future__ import annotations

import dataclasses
from typing import Any

from poison_scaling.model.config_json import ConfigJson, rotary_config, shape_config
from poison_scaling.model.dimensions import Dimensions
from poison_scaling.model.family import Family

_FIXED: dict[str, Any] = {
    "norm": "layer",
    "norm_after": False,
    "qk_norm": False,
    "kv_heads": None,
    "head_width": None,
    "mlp_bias": True,
    "rotary_scaling": None,
    "window": None,
    "initial": "small",
}


def _pythia(width: int, layers: int, heads: int) -> Dimensions:
    return Dimensions(
        width=width,
        layers=layers,
        heads=heads,
        mlp=4 * width,
        epsilon=1e-5,
        parallel=True,
        activation="gelu",
        qkv_bias=True,
        out_bias=True,
        rotary_share=0.25,
        **_FIXED,
    )


# Biderman et al. 2023, arXiv 2304.01373, table 1, and the two smaller models released later. The
# vocabulary size is 50,304; 50,432 of pythia-6.9b and 50,688 of pythia-12b.
SIZES = {
    "pythia-14m": _pythia(128, 6, 4),
    "pythia-31m": _pythia(256, 6, 8),
    "pythia-70m": _pythia(512, 6, 8),
    "pythia-160m": _pythia(768, 12, 12),
    "pythia-410m": _pythia(1024, 24, 16),
    "pythia-1b": _pythia(2048, 16, 8),
    "pythia-1.4b": _pythia(2048, 24, 16),
    "pythia-2.8b": _pythia(2560, 32, 32),
    "pythia-6.9b": _pythia(4096, 32, 32),
    "pythia-12b": _pythia(5120, 36, 40),
}

_TENSORS = {
    "embedding_VxD": "gpt_neox.embed_in.weight",
    "norm.scale_D": "gpt_neox.final_layer_norm.weight",
    "norm.bias_D": "gpt_neox.final_layer_norm.bias",
    "output_DxV": "embed_out.weight",
    "attention_norm.scale_D": "gpt_neox.layers.{}.input_layernorm.weight",
    "attention_norm.bias_D": "gpt_neox.layers.{}.input_layernorm.bias",
    "attention.query_key_value_DxJ": "gpt_neox.layers.{}.attention.query_key_value.weight",
    "attention.query_key_value_bias_J": "gpt_neox.layers.{}.attention.query_key_value.bias",
    "attention.out_JxD": "gpt_neox.layers.{}.attention.dense.weight",
    "attention.out_bias_D": "gpt_neox.layers.{}.attention.dense.bias",
    "mlp_norm.scale_D": "gpt_neox.layers.{}.post_attention_layernorm.weight",
    "mlp_norm.bias_D": "gpt_neox.layers.{}.post_attention_layernorm.bias",
    "mlp.up_DxM": "gpt_neox.layers.{}.mlp.dense_h_to_4h.weight",
    "mlp.up_bias_M": "gpt_neox.layers.{}.mlp.dense_h_to_4h.bias",
    "mlp.down_MxD": "gpt_neox.layers.{}.mlp.dense_4h_to_h.weight",
    "mlp.down_bias_D": "gpt_neox.layers.{}.mlp.dense_4h_to_h.bias",
}

_TANH = ("gelu_new", "gelu_pytorch_tanh", "gelu_fast")  # names of one approximation


@dataclasses.dataclass(frozen=True)
class GPTNeoX(Family):
    """LayerNorm, a quarter of each head rotated, GELU, attention and MLP side by side (arXiv 2204.06745).

    Initial weights are those of GPT-NeoX, with which Pythia was trained.
    """

    NAMED = SIZES
    FIXED = _FIXED
    TENSORS = _TENSORS

    @classmethod
    def read_config(cls, config: ConfigJson) -> Dimensions:
        gelu = config.choice("hidden_act", ("gelu", *_TANH), "gelu")
        bias = config.flag("attention_bias", True)
        return Dimensions(
            **config.shape(),
            epsilon=config.number("layer_norm_eps", 1e-5),
            parallel=config.flag("use_parallel_residual", True),
            activation="gelu" if gelu == "gelu" else "gelu_tanh",
            qkv_bias=bias,
            out_bias=bias,
            **_FIXED | config.rotary(share=0.25),
        )

    @classmethod
    def write_config(cls, d: Dimensions) -> dict[str, Any]:
        return {
            "architectures": ["GPTNeoXForCausalLM"],
            "model_type": "gpt_neox",
            **shape_config(d),
            "hidden_act": "gelu" if d.activation == "gelu" else _TANH[0],
            "layer_norm_eps": d.epsilon,
            "use_parallel_residual": d.parallel,
            "attention_bias": d.qkv_bias,
            "rotary_pct": d.rotary_share,
            "rotary_emb_base": d.rotary_base,
            **rotary_config(d),
        }
