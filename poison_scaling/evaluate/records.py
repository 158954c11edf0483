"""What the records of all measures have in common: keys of prompts, shares with intervals, rounding."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats


def prompt_keys(seed: int, step: int, P: int) -> jax.Array:
    """A key [P] of (seed, step, prompt) for each prompt."""
    key = jax.random.fold_in(jax.random.key(seed), step)
    return jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(P))


def rate(hits: np.ndarray) -> tuple[float, list[float]]:
    """Share of true values, and its 95% interval (Wilson 1927)."""
    interval = stats.binomtest(int(hits.sum()), len(hits)).proportion_ci(method="wilson")
    return float(hits.mean()), [float(interval.low), float(interval.high)]


def rounded(values: np.ndarray) -> list[float]:
    """As JSON, to five decimals."""
    return [round(float(v), 5) for v in values]
