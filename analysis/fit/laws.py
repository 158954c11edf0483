"""The law of N50 and its exponents.

log N50 = c + a log T + g log N, over groups of T training tokens and N parameters. a = g = 0 is the count
law, a fixed number of documents; a = 1 is the fraction law, a fixed share of the data. The likelihood is
the sum of the groups' curves (`dose_response.DoseResponse.curves`), so a group in which no dose reached
half still contributes a bound. Only N50 at the end of training enters: a and g rest on comparisons between
runs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import interpolate, optimize, stats

from analysis.fit.dose_response import DoseResponse
from analysis.fit.estimates import Estimate
from analysis.fit.law_likelihood import LawLikelihood
from analysis.fit.scatter import Scatter, estimate_scatter
from analysis.read.runs import Group

# An exponent estimated beyond this is not identified: a factor of 2 in data would be one of 32 in poisons.
LARGEST_EXPONENT = 5.0
# A maximum this close to the edge of the grid (in log likelihood) is a plateau, not an estimate.
_FLAT = 0.05
# A curve that falls by less than this towards no poisons at all does not bound N50 from below (95%, normal).
_UNBOUNDED = 1.92


@dataclass(frozen=True)
class N50:
    """N50 of one group: exposures for half of the reach at the end of training."""

    group: Group
    poisons: Estimate
    # "above" or "below" when the estimate lies outside `tested`, "below" also when the data set N50 no
    # lower limit; else None
    censored: str | None
    bound: float | None  # the end of `tested` that it lies beyond; None unless censored
    tested: tuple[float, float]  # smallest and largest number of poisons seen
    # name of the finding because of which N50 is not identified, and `poisons` without numbers; None
    # when it is identified
    withdrawn: str | None = None


@dataclass(frozen=True)
class Law:
    """The fitted law."""

    # what differs between groups and is separable: "both" tokens and parameters, "tokens",
    # "parameters", "ladder" (both, but together), or "nothing"
    varies: str
    # exponent of tokens at fixed parameters; None when the design does not identify it, without a value
    # when the data do not
    a: Estimate | None
    g: Estimate | None  # exponent of parameters at fixed tokens; None when not identified
    # exponent of parameters when tokens grow in proportion: a + g if both are identified, else along
    # the study's own ladder
    ladder: Estimate | None
    # p-value of the law against free group values; None without spare groups or seeds
    misfit: float | None
    # standard deviation of log N50 of groups around the law; 0 where it cannot be separated from
    # that of seeds
    scatter: float
    degrees: float  # degrees of freedom of the intervals
    widened: float  # factor of the scatter on standard errors
    drop: float  # fall of the profile log likelihood at the ends of an interval
    likelihood: LawLikelihood  # the maximised likelihood, for further contrasts

    def exponent(self, question: str) -> Estimate | None:
        """Return the exponent that answers "data", "size" or "ladder"; None when it is not identified."""
        return {"data": self.a, "size": self.g, "ladder": self.ladder}[question]

    def predict(self, tokens: float, parameters: float, setting: str) -> Estimate:
        """Return log N50 at a token budget and a size; all None when the law is not identified there."""
        row = self.likelihood.row(tokens, parameters, setting)
        if row is None:
            return Estimate(None, None, None)
        return self.likelihood.contrast(row, self.drop)


def group_n50s(fitted: DoseResponse) -> list[N50]:
    """Return N50 of each group, from the profile likelihood of its own curve."""
    o = fitted.observations
    results = []
    for index, group in enumerate(o.groups):
        seen = o.poisons[o.group_of_evaluation == index]
        planned = group.exposures * max(group.doses)
        tested = float(seen.min()), float(max(seen.max(), planned))
        curve = fitted.curves[index]
        estimate = _curve_estimate(fitted.grid, curve, fitted.critical**2 / 2)
        side = _beyond(curve, estimate.value, tested)
        bound = None if side is None else tested[side == "above"]
        results.append(N50(group, estimate.exp(), side, bound, tested))
    return results


def _beyond(curve: np.ndarray, value: float | None, tested: tuple[float, float]) -> str | None:
    """Return the side of `tested` that log N50 lies on, or that no data bound it on; else None."""
    if value is None:
        return "below" if curve[0] > curve[-1] else "above"
    if value > np.log(tested[1]):
        return "above"
    # Without evaluations below half, only the fit's shape makes a maximum on the low side.
    unbounded = curve[0] > curve.max() - _UNBOUNDED
    return "below" if value < np.log(tested[0]) or unbounded else None


def fit_law(fitted: DoseResponse, confidence: float = 0.95) -> Law:
    """Fit c, a and g by maximum likelihood, with profile intervals at a t quantile of `confidence`.

    Groups scatter around the law (`scatter`). With one seed a group, their scatter is all that is known
    about seeds: standard errors are then multiplied by the square root of its ratio to what prompts explain
    (Birge 1932), with its own degrees of freedom (Knapp & Hartung 2003).
    """
    upper = (1 + confidence) / 2
    likelihood = LawLikelihood(fitted)
    replicated = fitted.observations.replicated
    spare = sum(n.censored is None for n in group_n50s(fitted)) - likelihood.regressors.shape[1]
    misfit, scatter = None, Scatter(0.0, fitted.degrees, 1.0)
    ratio = max(-2 * likelihood.top, 0.0) / spare if spare > 0 else 0.0
    if replicated:
        if spare > 0:
            misfit = float(stats.f.sf(ratio, spare, fitted.degrees))
        scatter = estimate_scatter(fitted, spare, misfit)
        likelihood = LawLikelihood(fitted, scatter.sd)
        critical = float(stats.t.ppf(upper, scatter.degrees))
    else:
        scatter = Scatter(0.0, max(spare, 0), max(float(np.sqrt(ratio)), 1.0))
        # Without degrees of freedom the exponents are unbounded.
        critical = scatter.widened * float(stats.t.ppf(upper, spare)) if spare > 0 else np.inf
    drop = critical**2 / 2

    def exponent(tokens: float, parameters: float, *identified: str) -> Estimate | None:
        if likelihood.varies not in identified:
            return None
        return _bounded(likelihood.contrast(likelihood.step(tokens, parameters), drop))

    return Law(
        varies=likelihood.varies,
        a=exponent(1, 0, "both", "tokens"),
        g=exponent(0, 1, "both", "parameters"),
        ladder=exponent(1, 1, "both", "ladder"),
        misfit=misfit,
        scatter=scatter.sd,
        degrees=scatter.degrees,
        widened=scatter.widened,
        drop=drop,
        likelihood=likelihood,
    )


def _bounded(exponent: Estimate) -> Estimate:
    """Return the exponent, not identified when it is beyond `LARGEST_EXPONENT`; ends beyond are open."""
    if exponent.value is not None and abs(exponent.value) > LARGEST_EXPONENT:
        return Estimate(None, None, None)
    ends = (exponent.low, exponent.high)
    low, high = (None if e is None or abs(e) > LARGEST_EXPONENT else e for e in ends)
    return Estimate(exponent.value, low, high)


def _curve_estimate(grid: np.ndarray, curve: np.ndarray, drop: float) -> Estimate:
    """Return the maximum of a curve, and where it has fallen by `drop`.

    The value is None when the curve is flat up to an end of the grid; an end of the interval is None when
    the curve does not fall by `drop` on its side.
    """
    spline = interpolate.CubicSpline(grid, curve)
    peak = int(np.clip(curve.argmax(), 1, len(grid) - 2))
    found = optimize.minimize_scalar(
        lambda u: -spline(u), bounds=(grid[peak - 1], grid[peak + 1]), method="bounded"
    )
    best, top = float(found.x), max(-float(found.fun), float(curve.max()))

    def crossing(outside: np.ndarray) -> float | None:
        """Return where the curve falls below between the maximum and the nearest point outside."""
        if not len(outside):
            return None
        end = float(outside[np.abs(outside - best).argmin()])
        # A curve narrower than a step of the grid is below at both neighbours of its maximum.
        if spline(best) - top + drop <= 0 or end == best:
            return end
        return float(optimize.brentq(lambda u: spline(u) - top + drop, best, end))

    below = grid[curve < top - drop]
    flat = max(curve[0], curve[-1]) > top - _FLAT
    return Estimate(
        value=None if flat else best,
        low=crossing(below[below < best]),
        high=crossing(below[below > best]),
    )
