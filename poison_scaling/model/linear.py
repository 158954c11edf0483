"""Weights, their initial values, and products with them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from poison_scaling.model.dimensions import Dimensions


def weights(
    d: Dimensions,
    key: jax.Array,
    shape: tuple[int, ...],
    axes: tuple[str, ...],
    inputs: int,
    residual: bool = False,
) -> nnx.Param:
    """Return weights with initial values as `d.initial` says.

    `inputs` is the number of them that an output sums over; `residual` is whether outputs are added to the
    residual stream.
    """
    if d.initial == "fan_in":
        value = jax.random.truncated_normal(key, -3, 3, shape, jnp.float32) * inputs**-0.5
    else:
        std = 0.02
        if d.initial == "small":
            std = 2 / (d.layers * d.width**0.5) if residual else (2 / (5 * d.width)) ** 0.5
        value = jax.random.normal(key, shape, jnp.float32) * std
    return nnx.Param(value, axes=axes)


def bias(width: int, axis: str) -> nnx.Param:
    return nnx.Param(jnp.zeros(width, jnp.float32), axes=(axis,))


def product(
    x_BxLxI: jax.Array, w_IxO: nnx.Param | jax.Array, bias_O: nnx.Param | None = None
) -> jax.Array:
    """Return x @ w + bias in the data type of x, computed as a two-dimensional product.

    On CPU, XLA's backward pass of a [B, L, I] @ [I, O] product is 6-8 times slower.
    """
    B, L, I = x_BxLxI.shape
    y_NxO = x_BxLxI.reshape(B * L, I) @ w_IxO[...].astype(x_BxLxI.dtype)
    if bias_O is not None:
        y_NxO = y_NxO + bias_O[...].astype(x_BxLxI.dtype)
    return y_NxO.reshape(B, L, -1)
