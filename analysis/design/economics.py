"""What a detector of poisoned documents, or a corpus filter, costs an attacker.

A detector of sensitivity s catches each poisoned document independently with probability s. The number
submitted until n have passed is n plus a negative binomial number of caught ones.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

from analysis.errors import InputError
from analysis.fit.estimates import Estimate, difference


def expected_submissions(passing: int, sensitivity: float) -> float:
    """Return the expected number of documents submitted until `passing` have passed: n / (1 - s)."""
    _check(passing, sensitivity)
    return passing / (1 - sensitivity)


def submissions(passing: int, sensitivity: float, confidence: float = 0.95) -> int:
    """Return the smallest m with P(Binomial(m, 1 - s) >= n) >= confidence, exactly."""
    _check(passing, sensitivity)
    return passing + int(stats.nbinom.ppf(confidence, passing, 1 - sensitivity))


def approximate_submissions(passing: int, sensitivity: float, confidence: float = 0.95) -> int:
    """Return `submissions` by the normal approximation with continuity correction, which is often quoted.

    It is the smallest m with m p - z sqrt(m p s) >= n - 1/2 (p = 1 - s), a quadratic in sqrt(m): 3,404 for
    250 documents at 91.9%, where `submissions` gives 3,401.
    """
    _check(passing, sensitivity)
    p, z = 1 - sensitivity, stats.norm.ppf(confidence)
    spread = z * math.sqrt(p * sensitivity)
    root = (spread + math.sqrt(spread**2 + 4 * p * (passing - 0.5))) / (2 * p)
    return max(math.ceil(root**2), passing)


def submitted(n50: Estimate, survival: Estimate) -> Estimate:
    """Return the documents to submit so that N50 of them survive a filter, N50 / survival.

    `survival` is the share of poisons that survive. The interval combines both intervals on the logarithmic
    scale, by variance recovery (Zou & Donner 2008). If no poison survived, there is only a lower limit, from
    the lower limit of N50 and the upper limit of survival.
    """
    if survival.value == 0:
        low = n50.low / survival.high if n50.low and survival.high else None
        return Estimate(None, low, None)
    return difference(n50.map(np.log), survival.map(np.log)).exp()


def _check(passing: int, sensitivity: float) -> None:
    if passing < 1:
        raise InputError(f"Documents to get through is {passing}; expected at least 1.")
    if not 0 <= sensitivity < 1:
        raise InputError(f"Detector sensitivity is {sensitivity}; expected 0 to below 1.")
