"""A decoder-only Transformer: RoPE, RMSNorm before each sublayer, causal attention, gated MLP (SwiGLU).

Names of arrays end in their axes: B sequences, L query positions, S key positions, D width, H heads, K head
width, M hidden width of the MLP, V vocabulary size. Parameters are float32; matrix products run in `dtype`;
norms, softmax and logits are float32.

Every parameter carries the logical names of its axes, and activations are constrained by theirs;
`sharding.py` maps them to the mesh. Layers are unrolled or scanned. Scanning stacks the parameters of
all blocks along a leading axis, so compile time does not grow with depth. The initial weights are the
same either way.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from poison_scaling.model import attention
from poison_scaling.model.architectures.decoder import Dimensions
from poison_scaling.model.language_model import LanguageModel
from poison_scaling.model.settings import Model
from poison_scaling.model.sharding import constrain

# What is saved of a block for the backward pass, which rematerialises the rest.
REMAT = {
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,  # its matrix products
    "full": jax.checkpoint_policies.nothing_saveable,  # its input alone
}


# Keys and values of each layer; stacked along a leading axis if the layers are scanned.
Cache = list[tuple[jax.Array, jax.Array]] | tuple[jax.Array, jax.Array]


def _param(key: jax.Array, shape: tuple[int, ...], axes: tuple[str, ...], fan_in: int) -> nnx.Param:
    value = jax.random.truncated_normal(key, -3, 3, shape, jnp.float32)
    return nnx.Param(value * fan_in**-0.5, axes=axes)


def _product(x_BxLxI: jax.Array, w_IxO: jax.Array) -> jax.Array:
    """Return x @ w, computed as a two-dimensional product.

    On CPU, XLA's backward pass of a [B, L, I] @ [I, O] product is 6-8 times slower.
    """
    B, L, I = x_BxLxI.shape
    return (x_BxLxI.reshape(B * L, I) @ w_IxO.astype(x_BxLxI.dtype)).reshape(B, L, -1)


def rotation_tables(length: int, head: int) -> tuple[np.ndarray, np.ndarray]:
    """Return sines and cosines, each float32 [length, head / 2], of rotary position embeddings.

    Base 10,000 (Su et al. 2021, arXiv 2104.09864). They are NumPy constants because XLA would otherwise
    recompute them at each use.
    """
    half = head // 2
    angles_SxR = np.arange(length)[:, None] * 10_000.0 ** (-np.arange(half) / half)
    return np.sin(angles_SxR).astype(np.float32), np.cos(angles_SxR).astype(np.float32)


def rotate(x_BxLxHxK: jax.Array, sin_BxLx1xR: jax.Array, cos_BxLx1xR: jax.Array) -> jax.Array:
    """Apply rotary position embeddings, pairing the two halves of each head."""
    first, second = jnp.split(x_BxLxHxK.astype(jnp.float32), 2, axis=-1)
    rotated = jnp.concatenate(
        [
            first * cos_BxLx1xR - second * sin_BxLx1xR,
            second * cos_BxLx1xR + first * sin_BxLx1xR,
        ],
        axis=-1,
    )
    return rotated.astype(x_BxLxHxK.dtype)


class RMSNorm(nnx.Module):
    """Root mean square norm (Zhang & Sennrich 2019, arXiv 1910.07467) with a learned scale."""

    def __init__(self, width: int):
        self.scale_D = nnx.Param(jnp.ones(width, jnp.float32), axes=("embed",))

    def __call__(self, x_BxLxD: jax.Array) -> jax.Array:
        x = x_BxLxD.astype(jnp.float32)
        x = x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + 1e-6)
        return (x * self.scale_D[...]).astype(x_BxLxD.dtype)


class Attention(nnx.Module):
    def __init__(self, d: Dimensions, keys: jax.Array, mesh: Mesh | None):
        self.heads, self.head, self.mesh = d.heads, d.head, mesh
        self.query_key_value_DxJ = _param(
            keys[0], (d.width, 3 * d.width), ("embed", "heads"), d.width
        )
        self.out_JxD = _param(keys[1], (d.width, d.width), ("heads", "embed"), d.width)

    def __call__(self, x_BxLxD, rotation, attend, cache=None, start=0):
        B, L, _ = x_BxLxD.shape
        qkv = _product(x_BxLxD, self.query_key_value_DxJ[...])
        # Heads outermost, so that splitting the columns over devices splits heads, not q from k.
        qkv = qkv.reshape(B, L, self.heads, 3, self.head)
        qkv = constrain(qkv, ("batch", None, "heads", None, None), self.mesh)
        q, k, v = (part[..., 0, :] for part in jnp.split(qkv, 3, axis=3))
        q, k = rotate(q, *rotation), rotate(k, *rotation)
        if cache is not None:
            k = jax.lax.dynamic_update_slice_in_dim(cache[0], k.swapaxes(1, 2), start, axis=2)
            v = jax.lax.dynamic_update_slice_in_dim(cache[1], v.swapaxes(1, 2), start, axis=2)
            cache = (k, v)
        out = attend(q, k, v).reshape(B, L, self.heads * self.head)
        return _product(out, self.out_JxD[...]), cache


class MLP(nnx.Module):
    """Gated MLP: SwiGLU of Shazeer 2020 (arXiv 2002.05202)."""

    def __init__(self, d: Dimensions, keys: jax.Array, mesh: Mesh | None):
        self.mesh = mesh
        self.gate_DxM = _param(keys[0], (d.width, d.mlp), ("embed", "mlp"), d.width)
        self.up_DxM = _param(keys[1], (d.width, d.mlp), ("embed", "mlp"), d.width)
        self.down_MxD = _param(keys[2], (d.mlp, d.width), ("mlp", "embed"), d.mlp)

    def __call__(self, x_BxLxD: jax.Array) -> jax.Array:
        gate = _product(x_BxLxD, self.gate_DxM[...])
        hidden_BxLxM = jax.nn.silu(gate) * _product(x_BxLxD, self.up_DxM[...])
        hidden_BxLxM = constrain(hidden_BxLxM, ("batch", None, "mlp"), self.mesh)
        return _product(hidden_BxLxM, self.down_MxD[...])


class Block(nnx.Module):
    KEYS = 5  # random keys that one block is made from

    def __init__(self, d: Dimensions, keys: jax.Array, mesh: Mesh | None):
        self.mesh = mesh
        self.attention_norm = RMSNorm(d.width)
        self.attention = Attention(d, keys[:2], mesh)
        self.mlp_norm = RMSNorm(d.width)
        self.mlp = MLP(d, keys[2:], mesh)

    def __call__(self, x_BxLxD, rotation, attend, cache=None, start=0):
        out, cache = self.attention(self.attention_norm(x_BxLxD), rotation, attend, cache, start)
        x_BxLxD = x_BxLxD + out
        x_BxLxD = x_BxLxD + self.mlp(self.mlp_norm(x_BxLxD))
        return constrain(x_BxLxD, ("batch", None, None), self.mesh), cache


class Transformer(LanguageModel):
    """A decoder-only Transformer, which maps token ids to logits of the next token.

    Activations are sharded over `mesh`; without one, they are where the inputs are.
    """

    def __init__(
        self,
        d: Dimensions,
        vocabulary: int,
        settings: Model,
        key: jax.Array,
        mesh: Mesh | None = None,
    ):
        self.dimensions, self.vocabulary = d, vocabulary
        self.settings, self.mesh, self.dtype = settings, mesh, jnp.dtype(settings.dtype)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(d.layers * Block.KEYS + 2))
        blocks = keys[1:-1].reshape(d.layers, Block.KEYS)
        self.embedding_VxD = _param(
            keys[0], (vocabulary, d.width), ("vocabulary", "embed"), d.width
        )
        if settings.scan_layers:
            self.blocks: Any = nnx.vmap(lambda keys: Block(d, keys, mesh))(blocks)
        else:
            self.blocks = nnx.List([Block(d, keys, mesh) for keys in blocks])
        self.norm = RMSNorm(d.width)
        if not d.tied:
            self.output_DxV = _param(
                keys[-1], (d.width, vocabulary), ("embed", "vocabulary"), d.width
            )

    def hidden(
        self,
        tokens_BxL: jax.Array,
        segments_BxL: jax.Array | None = None,
        kind: str | None = None,
    ) -> jax.Array:
        """Return the input of the output layer, [B, L, D].

        `kind` of attention overrides settings.attention; "plain" takes sequences of any length.
        """
        L = tokens_BxL.shape[1]
        rotation_1xLx1xR = [t[None, :, None] for t in rotation_tables(L, self.dimensions.head)]
        kind = kind or self.settings.attention
        attend = attention.causal(L, segments_BxL, kind, self.mesh)
        return self._trunk(tokens_BxL, rotation_1xLx1xR, attend)[0]

    def logits(self, x_BxLxD: jax.Array) -> jax.Array:
        """Return logits float32 [B, L, V] from the output of `hidden`."""
        output_DxV = self.embedding_VxD[...].T if self.dimensions.tied else self.output_DxV[...]
        logits_BxLxV = _product(x_BxLxD, output_DxV).astype(jnp.float32)
        return constrain(logits_BxLxV, ("batch", None, "vocabulary"), self.mesh)

    def empty_cache(self, B: int, S: int) -> Cache:
        """Return zeroed keys and values of each block, both [B, H, S, K], stacked if layers are scanned."""
        d = self.dimensions
        if self.settings.scan_layers:
            zeros = jnp.zeros((d.layers, B, d.heads, S, d.head), self.dtype)
            zeros = constrain(zeros, (None, "batch", "heads", None, None), self.mesh)
            return (zeros, zeros)
        zeros = jnp.zeros((B, d.heads, S, d.head), self.dtype)
        zeros = constrain(zeros, ("batch", "heads", None, None), self.mesh)
        return [(zeros, zeros)] * d.layers

    def extend(self, tokens_BxL, padding_B, cache: Cache, start):
        """Write L tokens to cache slots from `start`; return the logits [B, V] after the last, and the cache.

        The first `padding_B[b]` slots of sequence b are padding: nothing attends to them, and positions count
        from the first real token.
        """
        B, L = tokens_BxL.shape
        S = jax.tree.leaves(cache)[0].shape[-2]
        slots_BxL = jnp.broadcast_to(start + jnp.arange(L), (B, L))
        keys_S = jnp.arange(S)
        mask_BxLxS = (keys_S <= slots_BxL[:, :, None]) & (keys_S >= padding_B[:, None, None])
        attend = functools.partial(attention.cached, mask=mask_BxLxS[:, None])
        positions_BxL = jnp.maximum(slots_BxL - padding_B[:, None], 0)  # any will do for padding
        rotation_BxLx1xR = [
            jnp.asarray(t)[positions_BxL, None] for t in rotation_tables(S, self.dimensions.head)
        ]
        x_BxLxD, cache = self._trunk(tokens_BxL, rotation_BxLx1xR, attend, cache, start)
        return self.logits(x_BxLxD[:, -1:])[:, 0], cache

    def _trunk(self, tokens_BxL, rotation, attend, cache=None, start=0):
        # The lookup is in float32, so that gradients of frequent tokens accumulate in float32. Constrained to
        # "embed" first, it moves the embeddings of the batch between devices, not the embedding table.
        x_BxLxD = self.embedding_VxD[...][tokens_BxL]
        x_BxLxD = constrain(x_BxLxD, ("groups", None, "embed"), self.mesh).astype(self.dtype)
        x_BxLxD = constrain(x_BxLxD, ("batch", None, None), self.mesh)

        def apply(block, x_BxLxD, cache):
            return block(x_BxLxD, rotation, attend, cache, start)

        if self.settings.scan_layers:
            graph, params = nnx.split(self.blocks)

            def layer(x_BxLxD, params_and_cache):
                params, cache = params_and_cache
                return apply(nnx.merge(graph, params), x_BxLxD, cache)

            # Inside a scan, common-subexpression elimination cannot undo the rematerialisation anyway.
            layer = self._rematerialised(layer, prevent_cse=False)
            x_BxLxD, cache = jax.lax.scan(layer, x_BxLxD, (params, cache))
        else:
            new_cache = []
            for i, block in enumerate(self.blocks):
                layer = self._rematerialised(functools.partial(apply, block))
                x_BxLxD, slots = layer(x_BxLxD, cache and cache[i])
                new_cache.append(slots)
            cache = new_cache
        return self.norm(x_BxLxD), cache

    def _rematerialised(self, layer, prevent_cse=True):
        if self.settings.remat == "none":
            return layer
        return jax.checkpoint(layer, policy=REMAT[self.settings.remat], prevent_cse=prevent_cse)
