"""The power of a design: how often it would decide between the laws, by simulation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from analysis.design.cells import Design
from analysis.design.simulation import Truth, simulate
from analysis.fit.dose_response import fit_dose_response
from analysis.fit.estimates import Estimate
from analysis.fit.laws import fit_law, group_n50s, verdict_of
from analysis.fit.observations import observe, reach_of


@dataclass(frozen=True)
class Power:
    """The conclusions of simulated studies under one law.

    Attributes:
      a: true exponent of tokens.
      right: share of studies whose verdict is true ("undecided" when neither law holds).
      wrong: share of studies whose verdict is a law that does not hold.
      halfwidth: median half-width of the 95% interval of a; None when most are open.
      coverage: share of the 95% intervals of "a", "g" and "N50" that contain the truth; None without
        intervals.
    """

    a: float
    right: float
    wrong: float
    halfwidth: float | None
    coverage: dict[str, float | None]


def simulate_power(
    design: Design,
    truth: Truth,
    studies: int,
    margin: float,
    seed: int = 0,
    tick: Callable[[], None] = lambda: None,
) -> Power:
    """Simulate and fit a design `studies` times; call `tick` after each."""
    holds = {0.0: "count", 1.0: "fraction"}.get(truth.a, "undecided")
    verdicts: list[str] = []
    halfwidths: list[float] = []
    covered: dict[str, list[bool]] = {"a": [], "g": [], "N50": []}
    log_n0, log_t0 = design.reference
    for index in range(studies):
        observations = observe(simulate(design, truth, seed + index))
        tick()
        if reach_of(observations) != "some":
            verdicts.append("undecided")
            halfwidths.append(np.inf)
            continue
        fitted = fit_dose_response(observations)
        law = fit_law(fitted)
        verdicts.append(verdict_of(law, margin))
        halfwidths.append(_halfwidth(law.a))
        for name, estimate, true in (("a", law.a, truth.a), ("g", law.g, truth.g)):
            if estimate is not None and estimate.value is not None:
                covered[name].append(_holds(estimate, true))
        for n50 in group_n50s(fitted):
            tokens = truth.a * (np.log(n50.group.tokens) - log_t0)
            parameters = truth.g * (np.log(n50.group.parameters) - log_n0)
            covered["N50"].append(_holds(n50.poisons, truth.n50 * np.exp(tokens + parameters)))
    median = float(np.median(halfwidths))
    return Power(
        a=truth.a,
        right=float(np.mean([v == holds for v in verdicts])),
        wrong=float(np.mean([v not in (holds, "undecided") for v in verdicts])),
        halfwidth=median if np.isfinite(median) else None,
        coverage={name: float(np.mean(c)) if c else None for name, c in covered.items()},
    )


def _halfwidth(a: Estimate | None) -> float:
    if a is None or a.low is None or a.high is None:
        return np.inf
    return (a.high - a.low) / 2


def _holds(estimate: Estimate, true: float) -> bool:
    """Return whether an interval, with open ends infinite, contains the truth."""
    above = estimate.low is None or estimate.low <= true
    return above and (estimate.high is None or true <= estimate.high)
