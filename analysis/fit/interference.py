"""Interference: does what else is inserted into a run change the success of an insertion?

Runs that share size, tokens and seed, and that hold the same insertion at the same dose, may differ in what
else they hold. If insertions act independently, their success does not. The runs with the fewest other
documents are compared with the others, paired by size, tokens and seed; pairs are independent of each other,
and prompts and doses within one are not, so each pair counts once, with its mean over doses. The interval is
Student's for the mean difference of the pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from analysis.fit.estimates import Estimate
from analysis.read.runs import Run, Study


@dataclass(frozen=True)
class Comparison:
    """The success rate at the end of training beside other insertions, minus that beside fewer."""

    beside: str  # the other insertions, in words
    instead_of: str  # those of the runs that it is compared with
    pairs: int
    difference: Estimate  # mean over pairs, 95%; without ends for a single pair

    @property
    def found(self) -> bool:
        """Whether the interval excludes independence."""
        low, high = self.difference.low, self.difference.high
        return low is not None and high is not None and not low <= 0 <= high


def compare(study: Study) -> list[Comparison]:
    """Return a comparison for each set of other insertions with that of the fewest documents."""
    rates: dict[str, dict[tuple, float]] = {}
    others: dict[str, float] = {}
    for run in study.runs:
        # Without exposures there is nothing to interfere with.
        if run.finished and run.dose and len(run.success):
            words = run.settings.get("also", "")
            rates.setdefault(words, {})[_unit(run)] = float(run.success[-1])
            others[words] = max(others.get(words, 0.0), run.others)
    first, *more = sorted(rates, key=lambda words: (others[words], words)) or [""]
    found = []
    for words in more:
        pairs: dict[tuple, list[float]] = {}
        for unit, rate in rates[words].items():
            if unit in rates[first]:
                pairs.setdefault(unit[:-1], []).append(rate - rates[first][unit])
        if pairs:
            differences = np.array([np.mean(own) for own in pairs.values()])
            found.append(Comparison(words, first, len(pairs), _mean(differences)))
    return found


def _unit(run: Run) -> tuple:
    settings = tuple(sorted((k, v) for k, v in run.settings.items() if k != "also"))
    return run.parameters, run.tokens, run.seed, settings, run.dose


def _mean(differences: np.ndarray) -> Estimate:
    mean = float(differences.mean())
    if len(differences) < 2:
        return Estimate(mean, None, None)
    error = differences.std(ddof=1) / np.sqrt(len(differences))
    half = float(stats.t.ppf(0.975, len(differences) - 1) * error)
    return Estimate(mean, mean - half, mean + half)
