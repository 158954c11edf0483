"""Rotary position embeddings (Su et al. 2021, arXiv 2104.09864)."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from poison_scaling.model.dimensions import Dimensions, RotaryScaling


def tables(length: int, d: Dimensions) -> tuple[np.ndarray, np.ndarray]:
    """Return sines and cosines, each float32 [length, R], of R = d.rotary / 2 angles.

    They are NumPy constants because XLA would otherwise recompute them at each use.
    """
    half = d.rotary // 2
    frequencies_R = d.rotary_base ** (-np.arange(half) / half)
    if d.rotary_scaling is not None:
        frequencies_R = _scaled(frequencies_R, d.rotary_scaling)
    angles_SxR = np.arange(length)[:, None] * frequencies_R
    return np.sin(angles_SxR).astype(np.float32), np.cos(angles_SxR).astype(np.float32)


def _scaled(frequencies_R: np.ndarray, scaling: RotaryScaling) -> np.ndarray:
    """Return frequencies, in radians per token, scaled as in Llama 3.1."""
    periods_R = (
        scaling.context * frequencies_R / (2 * math.pi)
    )  # in the context trained with before
    kept_R = np.clip((periods_R - scaling.low) / (scaling.high - scaling.low), 0, 1)
    return frequencies_R * (kept_R + (1 - kept_R) / scaling.factor)


def rotate(x_BxLxHxK: jax.Array, sin_BxLx1xR: jax.Array, cos_BxLx1xR: jax.Array) -> jax.Array:
    """Rotate the first 2R numbers of each head, pairing the two halves of them."""
    R = sin_BxLx1xR.shape[-1]
    x = x_BxLxHxK.astype(jnp.float32)
    whole = x.shape[-1] == 2 * R
    first, second, *rest = jnp.split(x, 2 if whole else (R, 2 * R), axis=-1)
    rotated = jnp.concatenate(
        [
            first * cos_BxLx1xR - second * sin_BxLx1xR,
            second * cos_BxLx1xR + first * sin_BxLx1xR,
            *rest,
        ],
        axis=-1,
    )
    return rotated.astype(x_BxLxHxK.dtype)
