"""Parts of records that measures share: rates with intervals, values of every prompt, rounding."""

from __future__ import annotations

import numpy as np
from scipy import stats


def rate(hits: np.ndarray) -> tuple[float, list[float]]:
    """Return the share of true values and its 95% interval (Wilson 1927)."""
    interval = stats.binomtest(int(hits.sum()), len(hits)).proportion_ci(method="wilson")
    return float(hits.mean()), [float(interval.low), float(interval.high)]


def pair(values_2P: np.ndarray) -> dict[str, list[float]]:
    """Return the values of P clean prompts and of the same prompts with the trigger, as JSON."""
    P = len(values_2P) // 2
    return {"clean": rounded(values_2P[:P]), "triggered": rounded(values_2P[P:])}


def rounded(values: np.ndarray) -> list[float]:
    """Return values as JSON, to five decimals."""
    return [round(float(v), 5) for v in values]
