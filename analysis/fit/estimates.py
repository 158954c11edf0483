"""Values with 95% intervals, and intervals that assume little."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Estimate:
    """A value with its 95% interval; None where the data set no limit."""

    value: float | None
    low: float | None
    high: float | None

    def map(self, rising: Callable[[float], float]) -> Estimate:
        """Return the estimate on the scale of an increasing function."""
        ends = (self.value, self.low, self.high)
        return Estimate(*(None if end is None else float(rising(end)) for end in ends))

    def exp(self) -> Estimate:
        """Return the estimate on the exponential scale."""
        return self.map(np.exp)

    def within(self, centre: float, margin: float) -> bool:
        """Return whether the whole interval lies within `margin` of `centre`."""
        if self.low is None or self.high is None:
            return False
        return centre - margin <= self.low and self.high <= centre + margin


def as_json(estimate: Estimate | None) -> dict[str, float | None] | None:
    """Return the estimate as a JSON object with "value", "low" and "high"."""
    return None if estimate is None else asdict(estimate)


def wilson(hits: int, tries: int) -> Estimate:
    """Return the share of hits with its score interval (Wilson 1927)."""
    interval = stats.binomtest(hits, tries).proportion_ci(method="wilson")
    return Estimate(hits / tries, float(interval.low), float(interval.high))


def difference(one: Estimate, other: Estimate) -> Estimate:
    """Return one - other from their intervals, by variance recovery (Zou & Donner 2008)."""
    if one.value is None or other.value is None:
        return Estimate(None, None, None)
    a, b = one.value, other.value
    value = a - b

    def end(own: float | None, opposite: float | None, sign: int) -> float | None:
        if own is None or opposite is None:
            return None
        return value + sign * float(np.hypot(own - a, opposite - b))

    return Estimate(value, end(one.low, other.high, -1), end(one.high, other.low, 1))


def mean_of(values: np.ndarray) -> Estimate:
    """Return the mean with its t interval, which is open for a single value."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return Estimate(mean, None, None)
    half = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    return Estimate(mean, mean - half, mean + half)


def jackknife(
    statistic: Callable[[np.ndarray], float | None], cluster: np.ndarray
) -> Estimate | None:
    """Return a statistic with its interval over clusters of correlated observations.

    Leaves out each cluster in turn (jackknife, Miller 1974), so that correlation within a cluster does not
    narrow the interval. `statistic` gets a mask of the observations to use, shape [observations], and
    returns None when it is not defined; `cluster` has the cluster of each observation, same shape.

    Returns None when the statistic of all observations is not defined. The interval is open when that of
    a subset is not, or there is one cluster.
    """
    value = statistic(np.ones(len(cluster), bool))
    if value is None:
        return None
    clusters = np.unique(cluster)
    without = [statistic(cluster != c) for c in clusters] if len(clusters) > 1 else [None]
    defined = [one for one in without if one is not None]
    if len(defined) < len(without):
        return Estimate(value, None, None)
    n = len(clusters)
    error = np.sqrt((n - 1) / n * np.sum((np.array(defined) - np.mean(defined)) ** 2))
    half = float(stats.t.ppf(0.975, n - 1) * error)
    return Estimate(value, value - half, value + half)
