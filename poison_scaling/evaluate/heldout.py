"""Loss on held-out clean text."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from poison_scaling.train.losses import token_losses


@functools.partial(jax.jit, static_argnames=("graph", "end", "segment_mask"))
def loss(
    graph: nnx.GraphDef, params: dict, rows_NxL: jax.Array, *, end: int, segment_mask: bool
) -> jax.Array:
    """Mean cross-entropy of the rows, nats a token."""
    return jnp.mean(token_losses(graph, params, rows_NxL, end, segment_mask)[0])
