"""Half-lives of falling levels, without assuming a shape.

Forgetting is seldom exponential: it is fast first and slow later. The half-life is where the best falling
curve through the levels (isotonic regression, Barlow et al. 1972) reaches half of its start. Between two
evaluations the curve is taken as exponential.
"""

from __future__ import annotations

import numpy as np
from scipy import optimize

_DRAWS = 400  # of the bootstrap


def falling(level: np.ndarray) -> np.ndarray:
    """Return the best falling curve through the levels, same shape."""
    return optimize.isotonic_regression(level, increasing=False).x


def find_half_life(tokens: np.ndarray, level: np.ndarray) -> float | None:
    """Return where the best falling curve reaches half of its start; None if it does not.

    `tokens` ascend from 0, shape [evaluations]; the first `level`, same shape, is positive.
    """
    curve = falling(level)
    half = curve[0] / 2
    below = np.flatnonzero(curve <= half)
    if not len(below):
        return None
    i = below[0]
    high, low = curve[i - 1], curve[i]
    if low > 0:
        share = np.log(high / half) / np.log(high / low)
    else:
        share = (high - half) / (high - low)
    return float(tokens[i - 1] + share * (tokens[i] - tokens[i - 1]))


def bootstrap(tokens: np.ndarray, level: np.ndarray) -> tuple[float, float | None]:
    """Return the 95% interval of one half-life, with residuals resampled (Efron 1979).

    The upper end is None when it is not reached; the lower end is then at most the tokens watched.
    """
    rng = np.random.default_rng(0)  # the same report each time
    curve = falling(level)
    resampled = curve + rng.choice(level - curve, (_DRAWS, len(level)))
    lives = [find_half_life(tokens, one) if one[0] > 0 else None for one in resampled]
    reached = np.array([np.inf if life is None else life for life in lives])
    low, high = np.quantile(reached, (0.025, 0.975), method="closest_observation")
    return (
        float(low) if np.isfinite(low) else float(tokens[-1]),
        float(high) if np.isfinite(high) else None,
    )
