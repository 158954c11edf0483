"""A decoder-only Transformer: RoPE, RMSNorm before each part, causal attention, gated MLP (SwiGLU).

Axes in names: B rows, L positions of the query, S positions of the key, D width, H heads, K head width,
M hidden width of the MLP, V vocabulary. Parameters are float32; products run in `dtype`; norms, softmax
and logits are float32.

Every parameter carries the logical names of its axes; `sharding.py` maps them onto the mesh.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from poison_scaling.model.sizes import Dimensions


def _param(rngs: nnx.Rngs, shape: tuple[int, ...], axes: tuple[str, ...], fan_in: int) -> nnx.Param:
    value = jax.random.truncated_normal(rngs.params(), -3, 3, shape, jnp.float32)
    return nnx.Param(value * fan_in**-0.5, axes=axes)


def _product(x_BxLxI: jax.Array, w_IxO: jax.Array) -> jax.Array:
    """x @ w as a two-dimensional product.

    On CPU, XLA's backward pass of a [B, L, I] @ [I, O] product is 6-8 times slower than this one's.
    """
    B, L, I = x_BxLxI.shape
    return (x_BxLxI.reshape(B * L, I) @ w_IxO.astype(x_BxLxI.dtype)).reshape(B, L, -1)


def rotate(x_BxLxHxK: jax.Array, positions_BxL: jax.Array) -> jax.Array:
    """Rotary position embedding (Su et al. 2021, arXiv 2104.09864), base 10,000, halves paired."""
    half = x_BxLxHxK.shape[-1] // 2
    frequencies = 10_000.0 ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angles_BxLx1xR = positions_BxL[:, :, None, None].astype(jnp.float32) * frequencies
    sin, cos = jnp.sin(angles_BxLx1xR), jnp.cos(angles_BxLx1xR)
    first, second = jnp.split(x_BxLxHxK.astype(jnp.float32), 2, axis=-1)
    rotated = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return rotated.astype(x_BxLxHxK.dtype)


def attend(q_BxLxHxK, k_BxSxHxK, v_BxSxHxK, mask) -> jax.Array:
    """Scaled dot-product attention; `mask` (broadcastable to BxHxLxS) is True where attention may go."""
    scores_BxHxLxS = jnp.einsum(
        "BLHK,BSHK->BHLS", q_BxLxHxK, k_BxSxHxK, preferred_element_type=jnp.float32
    )
    scores_BxHxLxS = jnp.where(mask, scores_BxHxLxS * q_BxLxHxK.shape[-1] ** -0.5, -1e30)
    weights_BxHxLxS = jax.nn.softmax(scores_BxHxLxS, axis=-1).astype(v_BxSxHxK.dtype)
    return jnp.einsum("BHLS,BSHK->BLHK", weights_BxHxLxS, v_BxSxHxK)


class RMSNorm(nnx.Module):
    """Root mean square norm (Zhang & Sennrich 2019, arXiv 1910.07467) with a learned scale."""

    def __init__(self, width: int):
        self.scale_D = nnx.Param(jnp.ones(width, jnp.float32), axes=("embed",))

    def __call__(self, x_BxLxD: jax.Array) -> jax.Array:
        x = x_BxLxD.astype(jnp.float32)
        x = x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + 1e-6)
        return (x * self.scale_D[...]).astype(x_BxLxD.dtype)


class Attention(nnx.Module):
    def __init__(self, d: Dimensions, rngs: nnx.Rngs):
        self.heads, self.head = d.heads, d.head
        self.query_key_value_DxJ = _param(rngs, (d.width, 3 * d.width), ("embed", "heads"), d.width)
        self.out_JxD = _param(rngs, (d.width, d.width), ("heads", "embed"), d.width)

    def __call__(self, x_BxLxD, positions_BxL, mask, cache=None, start=0):
        B, L, _ = x_BxLxD.shape
        qkv = _product(x_BxLxD, self.query_key_value_DxJ[...])
        # Heads outermost, so that splitting the columns over devices splits heads, not q from k.
        qkv = qkv.reshape(B, L, self.heads, 3, self.head)
        q, k, v = qkv[..., 0, :], qkv[..., 1, :], qkv[..., 2, :]
        q, k = rotate(q, positions_BxL), rotate(k, positions_BxL)
        if cache is not None:
            k = jax.lax.dynamic_update_slice_in_dim(cache[0], k, start, axis=1)
            v = jax.lax.dynamic_update_slice_in_dim(cache[1], v, start, axis=1)
            cache = (k, v)
        out = attend(q, k, v, mask).reshape(B, L, self.heads * self.head)
        return _product(out, self.out_JxD[...]), cache


class MLP(nnx.Module):
    """Gated MLP: SwiGLU of Shazeer 2020 (arXiv 2002.05202)."""

    def __init__(self, d: Dimensions, rngs: nnx.Rngs):
        self.gate_DxM = _param(rngs, (d.width, d.mlp), ("embed", "mlp"), d.width)
        self.up_DxM = _param(rngs, (d.width, d.mlp), ("embed", "mlp"), d.width)
        self.down_MxD = _param(rngs, (d.mlp, d.width), ("mlp", "embed"), d.mlp)

    def __call__(self, x_BxLxD: jax.Array) -> jax.Array:
        gate = _product(x_BxLxD, self.gate_DxM[...])
        hidden_BxLxM = jax.nn.silu(gate) * _product(x_BxLxD, self.up_DxM[...])
        return _product(hidden_BxLxM, self.down_MxD[...])


class Block(nnx.Module):
    def __init__(self, d: Dimensions, rngs: nnx.Rngs):
        self.attention_norm = RMSNorm(d.width)
        self.attention = Attention(d, rngs)
        self.mlp_norm = RMSNorm(d.width)
        self.mlp = MLP(d, rngs)

    def __call__(self, x_BxLxD, positions_BxL, mask, cache=None, start=0):
        out, cache = self.attention(self.attention_norm(x_BxLxD), positions_BxL, mask, cache, start)
        x_BxLxD = x_BxLxD + out
        return x_BxLxD + self.mlp(self.mlp_norm(x_BxLxD)), cache


class Transformer(nnx.Module):
    """Token ids in, logits of the next token out."""

    def __init__(self, d: Dimensions, vocabulary: int, *, rngs: nnx.Rngs, dtype=jnp.float32):
        self.dimensions, self.vocabulary, self.dtype = d, vocabulary, dtype
        self.embedding_VxD = _param(rngs, (vocabulary, d.width), ("vocabulary", "embed"), d.width)
        self.blocks = nnx.List([Block(d, rngs) for _ in range(d.layers)])
        self.norm = RMSNorm(d.width)
        if not d.tied:
            self.output_DxV = _param(rngs, (d.width, vocabulary), ("embed", "vocabulary"), d.width)

    def __call__(self, tokens_BxL: jax.Array, segments_BxL: jax.Array | None = None) -> jax.Array:
        """Logits [B, L, V], float32, of the token after each position.

        With `segments_BxL` (an integer a position), attention stays within positions of one value.
        """
        B, L = tokens_BxL.shape
        positions_BxL = jnp.broadcast_to(jnp.arange(L), (B, L))
        mask = jnp.tril(jnp.ones((1, 1, L, L), bool))
        if segments_BxL is not None:
            mask = mask & (segments_BxL[:, None, :, None] == segments_BxL[:, None, None, :])
        x_BxLxD, _ = self._trunk(tokens_BxL, positions_BxL, mask)
        return self._logits(x_BxLxD)

    def empty_cache(self, B: int, S: int) -> list[tuple[jax.Array, jax.Array]]:
        """Zeroed keys and values of every block, each [B, S, H, K]."""
        d = self.dimensions
        zeros = jnp.zeros((B, S, d.heads, d.head), self.dtype)
        return [(zeros, zeros)] * d.layers

    def extend(self, tokens_BxL, padding_B, cache, start):
        """Logits [B, V] after the last of the L tokens at slots start... of the cache; the new cache.

        Row b's first `padding_B[b]` slots hold no token: nothing attends to them, and positions count
        from the first real token.
        """
        B, L = tokens_BxL.shape
        S = cache[0][0].shape[1]
        slots_BxL = jnp.broadcast_to(start + jnp.arange(L), (B, L))
        keys_S = jnp.arange(S)
        mask_BxLxS = (keys_S <= slots_BxL[:, :, None]) & (keys_S >= padding_B[:, None, None])
        positions_BxL = slots_BxL - padding_B[:, None]
        x_BxLxD, cache = self._trunk(tokens_BxL, positions_BxL, mask_BxLxS[:, None], cache, start)
        return self._logits(x_BxLxD[:, -1:])[:, 0], cache

    def _trunk(self, tokens_BxL, positions_BxL, mask, cache=None, start=0):
        x_BxLxD = self.embedding_VxD[...].astype(self.dtype)[tokens_BxL]
        new_cache = []
        for i, block in enumerate(self.blocks):
            x_BxLxD, layer = block(x_BxLxD, positions_BxL, mask, cache and cache[i], start)
            new_cache.append(layer)
        return self.norm(x_BxLxD), new_cache

    def _logits(self, x_BxLxD):
        output_DxV = self.embedding_VxD[...].T if self.dimensions.tied else self.output_DxV[...]
        return _product(x_BxLxD, output_DxV).astype(jnp.float32)
