"""Helpers for the records of measures: rates with intervals, per-prompt values, rounding."""

from __future__ import annotations

import numpy as np

from analysis.fit.estimates import wilson


def rate(hits: np.ndarray) -> tuple[float, list[float]]:
    """Return the share of true values and its 95% interval (Wilson 1927)."""
    share = wilson(int(hits.sum()), len(hits))
    assert share.value is not None and share.low is not None and share.high is not None
    return share.value, [share.low, share.high]


def pair(values_2P: np.ndarray) -> dict[str, list[float]]:
    """Return the values of P clean prompts and of the same prompts with the trigger, as JSON."""
    P = len(values_2P) // 2
    return {"clean": rounded(values_2P[:P]), "triggered": rounded(values_2P[P:])}


def rounded(values: np.ndarray) -> list[float]:
    """Return values as JSON, rounded to five decimals."""
    return [round(float(v), 5) for v in values]
