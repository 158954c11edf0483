"""A decoder-only Transformer; what families of them differ in is data, `Dimensions`.

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
from flax import nnx
from jax.sharding import Mesh

from poison_scaling.model import attention, rotary
from poison_scaling.model.block import Block
from poison_scaling.model.dimensions import Dimensions
from poison_scaling.model.language_model import LanguageModel
from poison_scaling.model.linear import product, weights
from poison_scaling.model.norms import norm
from poison_scaling.model.settings import Model
from poison_scaling.model.sharding import check_heads, constrain
from poison_scaling.runtime.errors import InputError

# What is saved of a block for the backward pass, which rematerialises the rest.
REMAT = {
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,  # its matrix products
    "full": jax.checkpoint_policies.nothing_saveable,  # its input alone
}


# Keys and values of each layer; stacked along a leading axis if the layers are scanned.
Cache = list[tuple[jax.Array, jax.Array]] | tuple[jax.Array, jax.Array]


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
        if d.groups < d.heads:
            check_heads(d.groups, mesh)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(d.layers * Block.KEYS + 2))
        blocks = keys[1:-1].reshape(d.layers, Block.KEYS)
        self.embedding_VxD = weights(
            d, keys[0], (vocabulary, d.width), ("vocabulary", "embed"), d.width
        )
        if settings.scan_layers:
            self.blocks: Any = nnx.vmap(lambda keys: Block(d, keys, mesh))(blocks)
        else:
            self.blocks = nnx.List([Block(d, keys, mesh) for keys in blocks])
        self.norm = norm(d)
        if not d.tied:
            self.output_DxV = weights(
                d, keys[-1], (d.width, vocabulary), ("embed", "vocabulary"), d.width
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
        self._check_length(L)
        rotation_1xLx1xR = [t[None, :, None] for t in rotary.tables(L, self.dimensions)]
        kind = kind or self.settings.attention
        attend = attention.causal(L, segments_BxL, kind, self.mesh)
        return self._trunk(tokens_BxL, rotation_1xLx1xR, attend)[0]

    def logits(self, x_BxLxD: jax.Array) -> jax.Array:
        """Return logits float32 [B, L, V] from the output of `hidden`."""
        output_DxV = self.embedding_VxD[...].T if self.dimensions.tied else self.output_DxV
        logits_BxLxV = product(x_BxLxD, output_DxV).astype(jnp.float32)
        return constrain(logits_BxLxV, ("batch", None, "vocabulary"), self.mesh)

    def empty_cache(self, B: int, S: int) -> Cache:
        """Return zeroed keys and values of each block, both [B, H, S, K], stacked if layers are scanned."""
        self._check_length(S)
        d = self.dimensions
        if self.settings.scan_layers:
            zeros = jnp.zeros((d.layers, B, d.groups, S, d.head), self.dtype)
            zeros = constrain(zeros, (None, "batch", "heads", None, None), self.mesh)
            return (zeros, zeros)
        zeros = jnp.zeros((B, d.groups, S, d.head), self.dtype)
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
            jnp.asarray(t)[positions_BxL, None] for t in rotary.tables(S, self.dimensions)
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

    def _check_length(self, length):
        window = self.dimensions.window
        if window is not None and length > window:
            raise InputError(
                f"data.seq_len={length}: the model attends to the last {window} tokens only, a sliding "
                f"window, which is not supported; choose at most {window}."
            )
