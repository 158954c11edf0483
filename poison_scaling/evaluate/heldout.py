"""Loss on held-out clean text."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from poison_scaling.model.losses import token_losses


@functools.partial(jax.jit, static_argnames=("graph", "end", "segment_mask"))
def loss(
    graph: nnx.GraphDef, params: dict, tokens_NxL: jax.Array, *, end: int, segment_mask: bool
) -> jax.Array:
    """Return the mean cross-entropy of the sequences, nats per token."""
    return jnp.mean(token_losses(graph, params, tokens_NxL, end, segment_mask)[0])
