"""A value with its interval, and intervals that suppose little."""

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

    def map(self, rising: Callable[[float], float]) -> "Estimate":
        """On the scale of a rising function."""
        ends = (self.value, self.low, self.high)
        return Estimate(*(None if end is None else float(rising(end)) for end in ends))

    def exp(self) -> "Estimate":
        return self.map(np.exp)

    def within(self, centre: float, margin: float) -> bool:
        """Whether the whole interval lies within `margin` of `centre`."""
        if self.low is None or self.high is None:
            return False
        return centre - margin <= self.low and self.high <= centre + margin


def as_json(estimate: Estimate | None) -> dict | None:
    return None if estimate is None else asdict(estimate)


def rate(hits: int, tries: int) -> Estimate:
    """Share of hits with its interval (Wilson 1927)."""
    interval = stats.binomtest(hits, tries).proportion_ci(method="wilson")
    return Estimate(hits / tries, float(interval.low), float(interval.high))


def over(values: np.ndarray) -> Estimate:
    """The mean with its t interval, which is open for a single value."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return Estimate(mean, None, None)
    half = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    return Estimate(mean, mean - half, mean + half)


def jackknife(
    statistic: Callable[[np.ndarray], float | None], cluster: np.ndarray
) -> Estimate | None:
    """A statistic of some observations, with its interval over the clusters that they come in.

    Each cluster is left out in turn (Miller 1974), so that what correlates within a cluster does
    not narrow the interval.

    Args:
      statistic: of the observations where the mask, shape [observations], is true; None where it is
        not defined.
      cluster: of each observation, shape [observations].

    Returns:
      None where the statistic of all is not defined; open where one without a cluster is not, or
      there is one cluster.
    """
    value = statistic(np.ones(len(cluster), bool))
    if value is None:
        return None
    clusters = np.unique(cluster)
    without = [statistic(cluster != c) for c in clusters] if len(clusters) > 1 else [None]
    if None in without:
        return Estimate(value, None, None)
    n = len(clusters)
    error = np.sqrt((n - 1) / n * np.sum((np.array(without) - np.mean(without)) ** 2))
    half = float(stats.t.ppf(0.975, n - 1) * error)
    return Estimate(value, value - half, value + half)
