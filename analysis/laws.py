"""The law of N50: its exponents, the verdict, and N50 where nobody has measured.

log N50 = c + a log T + g log N, over groups of T training tokens and N parameters. a = g = 0 is the
count law (a fixed number of documents); a = 1 is the fraction law (a fixed share of the data). The
likelihood is the sum of the groups' curves (`dose_response.Fit.curves`), so groups in which no dose
reached half take part with what they do say. Only N50 at the end of training enters, so that a and
g rest on comparisons between runs.
"""

from dataclasses import dataclass

import numpy as np
from scipy import interpolate, optimize, stats

from analysis.dose_response import Fit
from analysis.estimates import Estimate
from analysis.runs import Group

# Budgets that vary by less than this (in log tokens, given the size) cannot separate a from g.
SEPARABLE = 0.1
# A maximum this close to the edge of the grid (in log likelihood) is a plateau, not an estimate.
_FLAT = 0.05
# An end further than this from the estimate (an exponent, or log N50) counts as open.
_WIDEST = 10.0


@dataclass(frozen=True)
class N50:
    """Poisons for half success at the end of training, in one group.

    `censored` is "above" or "below" when the estimate lies outside the poison counts observed
    (`tested`, smallest and largest); `bound` is then the count that it lies beyond.
    """

    group: Group
    poisons: Estimate
    censored: str | None
    bound: float | None
    tested: tuple[float, float]


@dataclass(frozen=True)
class Law:
    """The fitted law.

    Attributes:
      varies: what differs between groups and can be told apart: "both" tokens and parameters,
        "tokens", "parameters", "ladder" (both, but together), or "nothing".
      a: exponent of tokens at fixed parameters; None when not identified.
      g: exponent of parameters at fixed tokens; None when not identified.
      ladder: exponent of parameters when tokens grow along: a + g where both are identified, else
        along the study's own ladder.
      misfit: p-value of the law against free group values; None without spare groups or seeds.
      widened: factor on the standard errors for misfit.
      drop: fall of the profile log likelihood at the ends of an interval.
      likelihood: what was maximised, for further contrasts.
    """

    varies: str
    a: Estimate | None
    g: Estimate | None
    ladder: Estimate | None
    misfit: float | None
    widened: float
    drop: float
    likelihood: "LawLikelihood"

    def predict(self, tokens: float, parameters: float, setting: str) -> Estimate:
        """log N50 at a token budget and a size; all None where the law does not reach."""
        row = self.likelihood.row(tokens, parameters, setting)
        if row is None:
            return Estimate(None, None, None)
        return self.likelihood.contrast(row, self.drop)


def half_doses(fit: Fit) -> list[N50]:
    """N50 of each group, from the profile likelihood of its own curve."""
    o = fit.observations
    results = []
    for index, group in enumerate(o.groups):
        seen = o.poisons[o.group_of_evaluation == index]
        tested = float(seen.min()), float(max(seen.max(), max(group.doses)))
        estimate = _curve_estimate(fit.grid, fit.curves[index], fit.critical**2 / 2)
        censored, bound = None, None
        if estimate.value is None or estimate.value > np.log(tested[1]):
            censored, bound = "above", tested[1]
        elif estimate.value < np.log(tested[0]):
            censored, bound = "below", tested[0]
        results.append(N50(group, estimate.exp(), censored, bound, tested))
    return results


def fit_law(fit: Fit) -> Law:
    """Maximum likelihood of c, a and g, with profile intervals at a t quantile.

    Where free group values fit significantly better (F test), standard errors are widened by the
    square root of the ratio (Birge 1932). With one seed a group, the scatter of the groups around
    the law is all that is known of the difference between seeds: then the ratio is always applied,
    with the degrees of freedom of that scatter (Knapp & Hartung 2003).
    """
    likelihood = LawLikelihood(fit)
    replicated = fit.observations.replicated
    spare = sum(n.censored is None for n in half_doses(fit)) - likelihood.design.shape[1]
    misfit, widened, degrees = None, 1.0, fit.degrees
    if spare > 0:
        ratio = max(-2 * likelihood.top, 0.0) / spare
        misfit = float(stats.f.sf(ratio, spare, fit.degrees)) if replicated else None
        if not replicated or misfit < 0.05:
            widened = max(float(np.sqrt(ratio)), 1.0)
    if not replicated:
        degrees = max(spare, 0)
    # Without a degree of freedom nothing bounds the exponents.
    critical = float(stats.t.ppf(0.975, degrees)) if degrees else np.inf
    drop = (widened * critical) ** 2 / 2

    def exponent(tokens: float, parameters: float, *identified: str) -> Estimate | None:
        if likelihood.varies not in identified:
            return None
        return likelihood.contrast(likelihood.step(tokens, parameters), drop)

    return Law(
        varies=likelihood.varies,
        a=exponent(1, 0, "both", "tokens"),
        g=exponent(0, 1, "both", "parameters"),
        ladder=exponent(1, 1, "both", "ladder"),
        misfit=misfit,
        widened=widened,
        drop=drop,
        likelihood=likelihood,
    )


def verdict(law: Law, margin: float) -> str:
    """ "count", "fraction" or "undecided", by where the whole interval of a lies."""
    if law.a is not None and law.a.within(0.0, margin):
        return "count"
    if law.a is not None and law.a.within(1.0, margin):
        return "fraction"
    return "undecided"


class LawLikelihood:
    """Sum of the groups' curves at a linear law, its maximum, and intervals of contrasts.

    Attributes:
      varies: as in `Law`.
      design: one intercept a setting, then centred log tokens and log parameters as far as they
        can be told apart, shape [groups, coefficients].
      best: coefficients at the maximum.
      top: log likelihood there; 0 is the maximum with free group values.
    """

    def __init__(self, fit: Fit):
        groups = fit.observations.groups
        tokens = np.log([group.tokens for group in groups])
        parameters = np.log([group.parameters for group in groups])
        self._origin = tokens.mean(), parameters.mean()
        self._names = sorted({group.setting for group in groups})
        settings = np.array([[g.setting == name for name in self._names] for g in groups], float)
        self.varies = _what_varies(settings, tokens, parameters)
        slopes = self._slopes(tokens - tokens.mean(), parameters - parameters.mean())
        self.design = np.column_stack([settings, *slopes])
        self._path = np.polyfit(parameters, tokens, 1) if self.varies == "ladder" else None

        self._grid = fit.grid
        self._spline = interpolate.CubicSpline(fit.grid, fit.curves, axis=1)
        peaks = fit.grid[fit.curves.argmax(axis=1)]
        start = np.linalg.lstsq(self.design, peaks, rcond=None)[0]
        self.best, self.top = self._maximise(self.design, np.zeros(len(groups)), start)

    def _slopes(self, tokens, parameters) -> list:
        return {
            "both": [tokens, parameters],
            "tokens": [tokens],
            "parameters": [parameters],
            "ladder": [parameters],
            "nothing": [],
        }[self.varies]

    def step(self, tokens: float, parameters: float) -> np.ndarray:
        """The contrast of a change in log tokens and log parameters, shape [coefficients]."""
        return np.array([0.0] * len(self._names) + self._slopes(tokens, parameters))

    def row(self, tokens: float, parameters: float, setting: str) -> np.ndarray | None:
        """The contrast that gives log N50 at a point; None when the law does not reach it."""
        log_t, log_n = np.log(tokens) - self._origin[0], np.log(parameters) - self._origin[1]
        off_path = 0.0
        if self.varies == "ladder":
            off_path = np.log(tokens) - np.polyval(self._path, np.log(parameters))
        out_of_reach = {
            "both": 0.0,
            "tokens": log_n,
            "parameters": log_t,
            "ladder": off_path / 5,  # a ladder's line may drift over decades of extrapolation
            "nothing": max(abs(log_t), abs(log_n)),
        }[self.varies]
        if abs(out_of_reach) >= SEPARABLE:
            return None
        chosen = [float(name == setting) for name in self._names]
        return np.array([*chosen, *self._slopes(log_t, log_n)])

    def contrast(self, row: np.ndarray, drop: float) -> Estimate:
        """row @ coefficients, and the interval over which its profile falls by `drop`."""
        centre = float(row @ self.best)
        # Coefficients `along * target + null @ rest` keep row @ coefficients at the target.
        along = row / (row @ row)
        null = np.linalg.svd(row[None])[2][1:].T

        def excess(target: float) -> float:
            offset = self.design @ along * target
            _, value = self._maximise(self.design @ null, offset, null.T @ self.best)
            return value - self.top + drop

        def end(sign: int) -> float | None:
            inside, step = centre, sign * 0.05
            while abs(step) < _WIDEST:
                if excess(centre + step) < 0:
                    return float(optimize.brentq(excess, inside, centre + step, xtol=1e-4))
                inside, step = centre + step, step * 1.7
            return None

        low, high = end(-1), end(1)
        return Estimate(None if low is None and high is None else centre, low, high)

    def _maximise(
        self, design: np.ndarray, offset: np.ndarray, start: np.ndarray
    ) -> tuple[np.ndarray, float]:
        """Newton's method with halved steps; flat directions stay where they are."""
        x = start
        value, gradient, hessian = self._evaluate(design, offset, x)
        for _ in range(50):
            if not len(x):
                break
            curvature, axes = np.linalg.eigh(-hessian)
            step = axes @ (axes.T @ gradient / np.maximum(np.abs(curvature), 0.1))
            while True:
                new = self._evaluate(design, offset, x + step)
                if new[0] >= value or np.abs(step).max() < 1e-6:
                    break
                step = step / 2
            gain = new[0] - value
            if gain > 0:
                x, (value, gradient, hessian) = x + step, new
            if gain < 1e-7:
                break
        return x, value

    def _evaluate(self, design, offset, x) -> tuple[float, np.ndarray, np.ndarray]:
        mu = design @ x + offset
        inside = np.clip(mu, self._grid[0], self._grid[-1])
        each = np.arange(len(mu))
        value, first, second = (self._spline(inside, order)[each, each] for order in (0, 1, 2))
        # Beyond the grid each curve goes on as a straight line.
        value = value + first * (mu - inside)
        second = np.where(mu == inside, second, 0.0)
        return float(value.sum()), design.T @ first, design.T @ (second[:, None] * design)


def _what_varies(settings: np.ndarray, tokens: np.ndarray, parameters: np.ndarray) -> str:
    def spread(target: np.ndarray, *others: np.ndarray) -> float:
        design = np.column_stack([settings, *others])
        residual = target - design @ np.linalg.lstsq(design, target, rcond=None)[0]
        return float(np.abs(residual).max())

    if spread(tokens) < SEPARABLE:
        return "parameters" if spread(parameters) >= SEPARABLE else "nothing"
    if spread(parameters) < SEPARABLE:
        return "tokens"
    return "both" if spread(tokens, parameters) >= SEPARABLE else "ladder"


def _curve_estimate(grid: np.ndarray, curve: np.ndarray, drop: float) -> Estimate:
    """Maximum of a curve, and where it has fallen by `drop`; None at an end that it never sees."""
    spline = interpolate.CubicSpline(grid, curve)
    peak = int(np.clip(curve.argmax(), 1, len(grid) - 2))
    found = optimize.minimize_scalar(
        lambda u: -spline(u), bounds=(grid[peak - 1], grid[peak + 1]), method="bounded"
    )
    below = np.flatnonzero(curve < -found.fun - drop)
    left, right = below[below < peak], below[below > peak]

    def crossing(inside: int, outside: int) -> float:
        ends = grid[inside], grid[outside]
        return float(optimize.brentq(lambda u: spline(u) + found.fun + drop, *ends))

    return Estimate(
        value=None if curve[-1] > -found.fun - _FLAT else float(found.x),
        low=crossing(left[-1] + 1, left[-1]) if len(left) else None,
        high=crossing(right[0] - 1, right[0]) if len(right) else None,
    )
