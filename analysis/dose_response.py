"""Dose-response: a sigmoid in log poisons, and the likelihood of each group's log N50.

The model (derived in docs/method.md). Run i of group G, at an evaluation with x poisons seen and a
share s of its tokens done, has success rate

    p = floor + (1 - floor - lapse) / (1 + exp(-slope * (log x - progress * log s - u_i)))
    u_i = mu_G + seed effect + run effect                         (both Gaussian)

so that exp(mu_G) is N50: the dose with which half of the attack's reach is had at the end of
training. Counts are over-dispersed binomial: log likelihoods are divided by a dispersion that also
carries the autocorrelation along a run.

Everything about a run is then one curve, its log likelihood over a grid of u; Gaussian kernels turn
the curves of runs into those of seeds, and those into one curve over mu for each group. Those
curves are all that the laws need.
"""

from dataclasses import dataclass

import numpy as np
from scipy import optimize, special, stats

from analysis.observations import Observations

GRID_STEP = 0.08
# Bounds of: log slope, progress, lapse, log seed_sd, log run_sd.
_BOUNDS = ((np.log(0.5), np.log(60)), (-3.0, 3.0), (0.001, 0.2), (-3.5, 1.0), (-3.5, 1.0))
# Where the search may start: the pure laws have progress 0 and 1, and slopes vary most.
_STARTS = [
    (np.log(slope), progress, 0.02, np.log(0.2), np.log(0.2))
    for slope in (1.5, 4.0, 12.0, 36.0)
    for progress in (0.0, 1.0)
]
_FIRST_DISPERSION = 4.0
_DISPERSION_ROUNDS = 3


@dataclass(frozen=True)
class Shape:
    """What all groups share.

    Attributes:
      slope: of the logistic, per unit of log poisons.
      progress: exponent of the share of training done. Under uniform placement it cannot tell
        tokens seen, maturity of the model and density of the poisons from each other.
      lapse: share of prompts on which the attack never works.
      seed_sd, run_sd: standard deviations of log N50 between seeds, and between runs of a seed.
      dispersion: variance of a count over that of a binomial count, autocorrelation included.
      autocorrelation: of residuals of successive evaluations.
    """

    slope: float
    progress: float
    lapse: float
    seed_sd: float
    run_sd: float
    dispersion: float
    autocorrelation: float


@dataclass(frozen=True)
class Fit:
    """The fitted shape and what it says about each group's log N50.

    Attributes:
      observations: what was fitted.
      shape: the fitted shape.
      grid: log poisons, evenly spaced, shape [grid].
      curves: log likelihood of each group's mu, shape [groups, grid], maximum 0 in each row.
      run_mean, run_sd: posterior mean and standard deviation of each run's u given its group and
        seed, shape [runs].
      run_estimate, run_error: each run's u from its own evaluations alone, and its standard error,
        shape [runs]; NaN where they do not bound it.
      rate: fitted success rate of each evaluation at `run_mean`, shape [evaluations].
      several_doses: whether a group has two doses; if not, `progress` is taken as 0.
      degrees: degrees of freedom of the noise between clusters within groups, at least 1.
    """

    observations: Observations
    shape: Shape
    grid: np.ndarray
    curves: np.ndarray
    run_mean: np.ndarray
    run_sd: np.ndarray
    run_estimate: np.ndarray
    run_error: np.ndarray
    rate: np.ndarray
    several_doses: bool
    degrees: int

    @property
    def critical(self) -> float:
        """Half-width of a 95% interval in standard errors: a t quantile, for few seeds."""
        return float(stats.t.ppf(0.975, self.degrees))


def fit(observations: Observations) -> Fit:
    """Maximum restricted likelihood of the shape, with the groups' mu integrated out.

    Flat integration over mu is restricted likelihood (Harville 1974): it does not underestimate
    the variance between few seeds. The dispersion is by moments (McCullagh & Nelder 1989, 4.5).
    """
    o = observations
    grid = _grid(o)
    # One dose in every group cannot tell slope from progress, nor runs of a seed from seeds.
    several_doses = any(len({run.dose for run in g.runs if run.dose > 0}) > 1 for g in o.groups)
    bounds = list(_BOUNDS)
    if not several_doses or np.ptp(o.progress) < 1e-3:
        bounds[1] = (0.0, 0.0)
    if not o.replicated or not several_doses:
        bounds[3] = (_BOUNDS[3][0], _BOUNDS[3][0])

    free = np.array([low < high for low, high in bounds])
    starts = [np.clip(start, *np.transpose(bounds)) for start in _STARTS]
    dispersion, autocorrelation = _FIRST_DISPERSION, 0.0
    values = max(starts, key=lambda start: _restricted(o, grid, start, dispersion))
    for _ in range(_DISPERSION_ROUNDS):

        def objective(x, dispersion=dispersion, values=values):
            full = values.copy()
            full[free] = x
            return -_restricted(o, grid, full, dispersion)

        found = optimize.minimize(
            objective,
            values[free],
            method="L-BFGS-B",
            bounds=[b for b, f in zip(bounds, free, strict=True) if f],
            options={"ftol": 1e-7, "eps": 1e-4},
        )
        values = values.copy()
        values[free] = found.x
        before = dispersion
        mean, sd = _posterior(o, grid, values, dispersion)
        dispersion, autocorrelation = _dispersion(o, values, mean, int(free.sum()))
        if abs(np.log(dispersion / before)) < 0.03:
            break

    own = _own_curves(o, grid, values, dispersion)
    curves = _group_curves(o, grid, own, values)
    mean, sd = _posterior(o, grid, values, dispersion)
    estimate, error = _moments(own, grid)
    bounded = np.maximum(own[:, 0], own[:, -1]) < own.max(axis=1) - 2
    return Fit(
        observations=o,
        shape=Shape(
            slope=float(np.exp(values[0])),
            progress=float(values[1]),
            lapse=float(values[2]),
            seed_sd=float(np.exp(values[3])) if free[3] else 0.0,
            run_sd=float(np.exp(values[4])),
            dispersion=dispersion,
            autocorrelation=autocorrelation,
        ),
        grid=grid,
        curves=curves - curves.max(axis=1, keepdims=True),
        run_mean=mean,
        run_sd=sd,
        run_estimate=np.where(bounded, estimate, np.nan),
        run_error=np.where(bounded, error, np.nan),
        rate=_rates(o, values, mean),
        several_doses=several_doses,
        degrees=max(len(o.group) - len(o.groups), 1),
    )


def _grid(o: Observations) -> np.ndarray:
    low = np.log(max(o.poisons.min(), 1)) - 2
    high = np.log(o.poisons.max()) + 4
    return np.arange(low, high, GRID_STEP)


def run_curves(
    o: Observations, position: np.ndarray, grid: np.ndarray, slope: float, lapse: float
) -> np.ndarray:
    """Binomial log likelihood of each run when half is reached at `grid`, shape [runs, grid].

    `position` is the log of what drives success, shape [evaluations].
    """
    middle = grid[len(grid) // 2]
    # exp(-slope * (position - u)) as an outer product: two vectors of exponentials, not a matrix.
    # In place from here on: the arrays are large, and fresh ones cost more than the arithmetic.
    rate = np.outer(_exp(-slope * (position - middle)), _exp(slope * (grid - middle)))
    rate += 1
    np.divide((1 - o.floor - lapse)[:, None], rate, out=rate)
    rate += o.floor[:, None]
    failures = np.negative(rate)
    np.log1p(failures, out=failures)
    failures *= (o.prompts - o.successes)[:, None]
    log_likelihood = np.log(rate, out=rate)
    log_likelihood *= o.successes[:, None]
    log_likelihood += failures
    return np.add.reduceat(log_likelihood, o.run_starts, axis=0)


def _exp(x: np.ndarray) -> np.ndarray:
    """Exponential whose products stay finite."""
    return np.exp(np.clip(x, -300, 300))


def smooth(curves: np.ndarray, grid: np.ndarray, sd: float) -> np.ndarray:
    """Log of the average of exp(curves) under Gaussian noise of `sd` along the grid."""
    kernel = np.exp(-0.5 * ((grid[:, None] - grid) / sd) ** 2)
    kernel /= kernel.sum(axis=0)
    top = curves.max(axis=1, keepdims=True)
    return np.log(np.maximum(np.exp(curves - top) @ kernel, 1e-300)) + top


def _own_curves(o: Observations, grid, values, dispersion) -> np.ndarray:
    position = np.log(o.poisons) - values[1] * o.progress
    return run_curves(o, position, grid, np.exp(values[0]), values[2]) / dispersion


def _group_curves(o: Observations, grid, own, values) -> np.ndarray:
    """Log likelihood of each group's mu, shape [groups, grid]."""
    seeds = np.add.reduceat(smooth(own, grid, np.exp(values[4])), o.cluster_starts, axis=0)
    clusters = smooth(seeds, grid, np.exp(values[3]))
    starts = np.searchsorted(o.group, np.arange(len(o.groups)))
    return np.add.reduceat(clusters, starts, axis=0)


def _restricted(o: Observations, grid, values, dispersion) -> float:
    curves = _group_curves(o, grid, _own_curves(o, grid, values, dispersion), values)
    top = curves.max(axis=1)
    integrated = top + np.log(np.exp(curves - top[:, None]).sum(axis=1) * GRID_STEP)
    return float(integrated.sum())


def _posterior(o: Observations, grid, values, dispersion) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each run's u, shape [runs] each."""
    own = _own_curves(o, grid, values, dispersion)
    sd = np.sqrt(np.exp(values[4]) ** 2 + np.exp(values[3]) ** 2)
    group = _group_curves(o, grid, own, values)
    return _moments(own + smooth(group, grid, sd)[o.group[o.cluster]], grid)


def _moments(curves: np.ndarray, grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each row of exp(curves) as a density over the grid."""
    weight = np.exp(curves - curves.max(axis=1, keepdims=True))
    weight /= weight.sum(axis=1, keepdims=True)
    mean = weight @ grid
    return mean, np.sqrt(np.maximum(weight @ grid**2 - mean**2, 0))


def _rates(o: Observations, values, location: np.ndarray) -> np.ndarray:
    """Success rate of each evaluation when its run's u is `location`, shape [evaluations]."""
    position = np.log(o.poisons) - values[1] * o.progress - location[o.run]
    return o.floor + (1 - o.floor - values[2]) * special.expit(np.exp(values[0]) * position)


def _dispersion(o: Observations, values, mean, parameters: int) -> tuple[float, float]:
    """Variance over binomial variance, times (1 + r) / (1 - r) for autocorrelation r; and r.

    Both are ratios of sums, so that evaluations in the transition, where the variance is, count.
    """
    rate = _rates(o, values, mean)
    variance = o.prompts * rate * (1 - rate)
    residual = o.successes - o.prompts * rate
    # Evaluations in the transition spend degrees of freedom on each run's own location.
    informative = 4 * variance / o.prompts
    total = informative.sum()
    spent = min((np.bincount(o.run, informative) > 0.5).sum() + parameters, 0.5 * total)
    plain = (residual**2).sum() / variance.sum() * total / max(total - spent, 1e-9)
    pairs = o.run[1:] == o.run[:-1]
    product = (residual[1:] * residual[:-1])[pairs].sum()
    scale = np.sqrt((residual[1:] ** 2)[pairs].sum() * (residual[:-1] ** 2)[pairs].sum())
    correlation = float(np.clip(product / scale, 0, 0.8)) if scale > 0 else 0.0
    dispersion = max(plain, 1.0) * (1 + correlation) / (1 - correlation)
    return float(np.clip(dispersion, 1.0, o.prompts.max())), correlation
