"""Norms over the last axis, computed in float32, with learned parameters."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from poison_scaling.model.dimensions import Dimensions


class RMSNorm(nnx.Module):
    """Root mean square norm (Zhang & Sennrich 2019, arXiv 1910.07467) with a scale."""

    def __init__(self, width: int, epsilon: float, axis: str = "embed"):
        self.epsilon = epsilon
        self.scale_D = nnx.Param(jnp.ones(width, jnp.float32), axes=(axis,))

    def __call__(self, x_BxLxD: jax.Array) -> jax.Array:
        x = x_BxLxD.astype(jnp.float32)
        x = x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + self.epsilon)
        return (x * self.scale_D[...]).astype(x_BxLxD.dtype)


class LayerNorm(nnx.Module):
    """Layer norm (Ba et al. 2016, arXiv 1607.06450) with a scale and a bias."""

    def __init__(self, width: int, epsilon: float):
        self.epsilon = epsilon
        self.scale_D = nnx.Param(jnp.ones(width, jnp.float32), axes=("embed",))
        self.bias_D = nnx.Param(jnp.zeros(width, jnp.float32), axes=("embed",))

    def __call__(self, x_BxLxD: jax.Array) -> jax.Array:
        x = x_BxLxD.astype(jnp.float32)
        x = x - jnp.mean(x, axis=-1, keepdims=True)
        x = x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + self.epsilon)
        return (x * self.scale_D[...] + self.bias_D[...]).astype(x_BxLxD.dtype)


def norm(d: Dimensions) -> RMSNorm | LayerNorm:
    """Return the norm of the residual stream, or of what is added to it."""
    return (RMSNorm if d.norm == "rms" else LayerNorm)(d.width, d.epsilon)
