"""One block of a Transformer: attention and a multilayer perceptron on a residual stream.

Names of axes are those of transformer.py. J is the width of all queries, or of all queries, keys and values.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh

from poison_scaling.model.dimensions import Dimensions
from poison_scaling.model.linear import bias, product, weights
from poison_scaling.model.norms import RMSNorm, norm
from poison_scaling.model.rotary import rotate
from poison_scaling.model.sharding import constrain


class Attention(nnx.Module):
    """Causal attention with rotary position embeddings; G queries share each head of keys and values."""

    def __init__(self, d: Dimensions, keys: jax.Array, mesh: Mesh | None):
        self.heads, self.kv_heads, self.head, self.mesh = d.heads, d.groups, d.head, mesh
        J, Q = (d.heads + 2 * d.groups) * d.head, d.heads * d.head
        self.query_key_value_DxJ = weights(d, keys[0], (d.width, J), ("embed", "heads"), d.width)
        self.out_JxD = weights(d, keys[1], (Q, d.width), ("heads", "embed"), d.width, residual=True)
        self.query_key_value_bias_J = bias(J, "heads") if d.qkv_bias else None
        self.out_bias_D = bias(d.width, "embed") if d.out_bias else None
        self.query_norm = RMSNorm(Q, d.epsilon, "heads") if d.qk_norm else None
        self.key_norm = RMSNorm(d.groups * d.head, d.epsilon, "heads") if d.qk_norm else None

    def __call__(self, x_BxLxD, rotation, attend, cache=None, start=0):
        B, L, _ = x_BxLxD.shape
        G = self.heads // self.kv_heads
        qkv = product(x_BxLxD, self.query_key_value_DxJ, self.query_key_value_bias_J)
        # Heads outermost, so that splitting the columns over devices splits heads, not q from k.
        qkv = qkv.reshape(B, L, self.kv_heads, G + 2, self.head)
        qkv = constrain(qkv, ("batch", None, "heads", None, None), self.mesh)
        q, k, v = jnp.split(qkv, (G, G + 1), axis=3)
        if self.query_norm is not None and self.key_norm is not None:
            q = self.query_norm(q.reshape(B, L, -1))
            k = self.key_norm(k.reshape(B, L, -1))
        q, k, v = (part.reshape(B, L, -1, self.head) for part in (q, k, v))
        q, k = rotate(q, *rotation), rotate(k, *rotation)
        if cache is not None:
            k = jax.lax.dynamic_update_slice_in_dim(cache[0], k.swapaxes(1, 2), start, axis=2)
            v = jax.lax.dynamic_update_slice_in_dim(cache[1], v.swapaxes(1, 2), start, axis=2)
            cache = (k, v)
        out = attend(q, k, v).reshape(B, L, self.heads * self.head)
        return product(out, self.out_JxD, self.out_bias_D), cache


class MLP(nnx.Module):
    """Two layers with GELU, or SwiGLU (Shazeer 2020, arXiv 2002.05202)."""

    def __init__(self, d: Dimensions, keys: jax.Array, mesh: Mesh | None):
        self.activation, self.mesh = d.activation, mesh
        D, M = d.width, d.mlp
        gated = d.activation == "swiglu"
        self.gate_DxM = weights(d, keys[0], (D, M), ("embed", "mlp"), D) if gated else None
        self.up_DxM = weights(d, keys[1], (D, M), ("embed", "mlp"), D)
        self.down_MxD = weights(d, keys[2], (M, D), ("mlp", "embed"), M, residual=True)
        self.gate_bias_M = bias(M, "mlp") if d.mlp_bias and gated else None
        self.up_bias_M = bias(M, "mlp") if d.mlp_bias else None
        self.down_bias_D = bias(D, "embed") if d.mlp_bias else None

    def __call__(self, x_BxLxD: jax.Array) -> jax.Array:
        if self.gate_DxM is not None:
            gate = product(x_BxLxD, self.gate_DxM, self.gate_bias_M)
            hidden_BxLxM = jax.nn.silu(gate) * product(x_BxLxD, self.up_DxM, self.up_bias_M)
        else:
            up = product(x_BxLxD, self.up_DxM, self.up_bias_M)
            hidden_BxLxM = jax.nn.gelu(up, approximate=self.activation == "gelu_tanh")
        hidden_BxLxM = constrain(hidden_BxLxM, ("batch", None, "mlp"), self.mesh)
        return product(hidden_BxLxM, self.down_MxD, self.down_bias_D)


class Block(nnx.Module):
    """Attention and MLP, each with a norm before or after it, one after the other or side by side."""

    KEYS = 5  # random keys that one block is made from

    def __init__(self, d: Dimensions, keys: jax.Array, mesh: Mesh | None):
        self.norm_after, self.parallel, self.mesh = d.norm_after, d.parallel, mesh
        self.attention_norm = norm(d)
        self.attention = Attention(d, keys[:2], mesh)
        self.mlp_norm = norm(d)
        self.mlp = MLP(d, keys[2:], mesh)

    def __call__(self, x_BxLxD, rotation, attend, cache=None, start=0):
        read_BxLxD = x_BxLxD if self.norm_after else self.attention_norm(x_BxLxD)
        out_BxLxD, cache = self.attention(read_BxLxD, rotation, attend, cache, start)
        if self.parallel:
            y_BxLxD = x_BxLxD + out_BxLxD + self.mlp(self.mlp_norm(x_BxLxD))
        elif self.norm_after:
            x_BxLxD = x_BxLxD + self.attention_norm(out_BxLxD)
            y_BxLxD = x_BxLxD + self.mlp_norm(self.mlp(x_BxLxD))
        else:
            x_BxLxD = x_BxLxD + out_BxLxD
            y_BxLxD = x_BxLxD + self.mlp(self.mlp_norm(x_BxLxD))
        return constrain(y_BxLxD, ("batch", None, None), self.mesh), cache
