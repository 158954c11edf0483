"""Dose-response: a sigmoid in log poisons, fitted to all groups at once.

The model, derived in docs/method.md: run i of group G, at an evaluation with x poisons seen and a share s
of its tokens done, has success rate

    p = floor + (1 - floor - lapse) / (1 + exp(-slope * (log x - progress * log s - u_i)))
    u_i = mu_G + seed effect + run effect                         (both Gaussian)

so that exp(mu_G) is N50, at the end of training. Counts are over-dispersed binomial: log likelihoods are
divided by a dispersion that also accounts for autocorrelation along a run. The result is one curve over mu
for each group, and laws need nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import optimize, special, stats

from analysis.fit.likelihood import Likelihood, Parameters, grid_of, posterior, restricted
from analysis.fit.observations import Observations

# Bounds of `Parameters.vector`: log slope, progress, lapse, log seed_sd, log run_sd.
_BOUNDS = ((np.log(0.5), np.log(60)), (-3.0, 3.0), (0.001, 0.2), (-3.5, 1.0), (-3.5, 1.0))
# Starting points of the search: pure laws have progress 0 and 1, and slopes vary most between studies.
_STARTS = [
    (np.log(slope), progress, 0.02, np.log(0.2), np.log(0.2))
    for slope in (1.5, 4.0, 12.0, 36.0)
    for progress in (0.0, 1.0)
]
_FIRST_DISPERSION = 4.0
_DISPERSION_ROUNDS = 4


@dataclass(frozen=True)
class Shape:
    """The fitted parameters that all groups share.

    Attributes:
      slope: of the logistic, per unit of log poisons.
      progress: exponent of the share of training done. Under uniform placement it cannot separate
        tokens seen, maturity of the model and density of the poisons.
      lapse: share of prompts on which the attack never succeeds.
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
class DoseResponse:
    """The fitted shape, and the likelihood of each group's log N50.

    Attributes:
      observations: the data.
      shape: the parameters that all groups share.
      grid: log poisons, evenly spaced, shape [grid].
      curves: log likelihood of each group's mu, shape [groups, grid], maximum 0 in each row.
      run_mean: posterior mean of each run's u given its group's mu, shape [runs].
      run_estimate, run_error: each run's u from its own evaluations alone, and its standard error, shape
        [runs]; NaN for runs whose evaluations do not bound it.
      rate: fitted success rate of each evaluation at `run_mean`, shape [evaluations].
      several_doses: whether some group has two doses; if not, `progress` is fixed at 0.
      degrees: degrees of freedom of the noise between clusters within groups, at least 1.
    """

    observations: Observations
    shape: Shape
    grid: np.ndarray
    curves: np.ndarray
    run_mean: np.ndarray
    run_estimate: np.ndarray
    run_error: np.ndarray
    rate: np.ndarray
    several_doses: bool
    degrees: int

    @property
    def critical(self) -> float:
        """Return the half-width of a 95% interval in standard errors, a t quantile."""
        return float(stats.t.ppf(0.975, self.degrees))


def fit_dose_response(observations: Observations) -> DoseResponse:
    """Fit the shape by restricted maximum likelihood, with the groups' mu integrated out.

    The dispersion is estimated by moments (McCullagh & Nelder 1989, 4.5), alternating with the maximum.
    """
    o = observations
    grid = grid_of(o)
    # One dose in every group cannot separate slope from progress, or runs of a seed from seeds.
    several_doses = any(len({run.dose for run in g.runs if run.dose > 0}) > 1 for g in o.groups)
    bounds = list(_BOUNDS)
    if not several_doses or np.ptp(o.progress) < 1e-3:
        bounds[1] = (0.0, 0.0)
    if not o.replicated or not several_doses:
        bounds[3] = (_BOUNDS[3][0], _BOUNDS[3][0])

    starts = [
        Parameters(*np.clip(start, *np.transpose(bounds)), _FIRST_DISPERSION) for start in _STARTS
    ]
    at = max(starts, key=lambda start: restricted(o, grid, start).value)
    free = sum(low < high for low, high in bounds)
    for _ in range(_DISPERSION_ROUNDS):
        at, likelihood = _maximum(o, grid, at, bounds)
        mean, _ = _moments(posterior(o, grid, at, likelihood), grid)
        dispersion, autocorrelation = _dispersion(o, at, mean, free)
        if abs(np.log(dispersion / at.dispersion)) < 0.02:
            break
        at = replace(at, dispersion=dispersion)

    alone = likelihood.runs
    estimate, error = _moments(np.exp(alone - alone.max(axis=1, keepdims=True)), grid)
    bounded = np.maximum(alone[:, 0], alone[:, -1]) < alone.max(axis=1) - 2
    return DoseResponse(
        observations=o,
        shape=Shape(
            slope=float(np.exp(at.log_slope)),
            progress=float(at.progress),
            lapse=float(at.lapse),
            seed_sd=float(np.exp(at.log_seed_sd)) if bounds[3][0] < bounds[3][1] else 0.0,
            run_sd=float(np.exp(at.log_run_sd)),
            dispersion=float(at.dispersion),
            autocorrelation=autocorrelation,
        ),
        grid=grid,
        curves=likelihood.groups - likelihood.groups.max(axis=1, keepdims=True),
        run_mean=mean,
        run_estimate=np.where(bounded, estimate, np.nan),
        run_error=np.where(bounded, error, np.nan),
        rate=_rates(o, at, mean),
        several_doses=several_doses,
        degrees=max(len(o.group) - len(o.groups), 1),
    )


def _maximum(
    o: Observations, grid: np.ndarray, start: Parameters, bounds: list[tuple[float, float]]
) -> tuple[Parameters, Likelihood]:
    """Maximise over `Parameters.vector` at the dispersion of `start`."""

    def objective(vector: np.ndarray) -> tuple[float, np.ndarray]:
        here = restricted(o, grid, Parameters(*vector, start.dispersion))
        return -here.value, -here.gradient

    found = optimize.minimize(
        objective, start.vector, jac=True, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-8}
    )
    at = Parameters(*found.x, start.dispersion)
    return at, restricted(o, grid, at)


def _moments(weight: np.ndarray, grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of each row of weights over the grid, shape [rows] each."""
    weight = weight / weight.sum(axis=1, keepdims=True)
    mean = weight @ grid
    return mean, np.sqrt(np.maximum(weight @ grid**2 - mean**2, 0))


def _rates(o: Observations, at: Parameters, location: np.ndarray) -> np.ndarray:
    """Return the success rate of each evaluation; `location` is the u of each run, shape [evaluations]."""
    position = np.log(o.poisons) - at.progress * o.progress - location[o.run]
    return o.floor + (1 - o.floor - at.lapse) * special.expit(np.exp(at.log_slope) * position)


def _dispersion(
    o: Observations, at: Parameters, mean: np.ndarray, parameters: int
) -> tuple[float, float]:
    """Return variance over binomial variance, times (1 + r) / (1 - r) for autocorrelation r; and r.

    Both are ratios of sums, so that evaluations in the transition, which have the variance, dominate.
    """
    rate = _rates(o, at, mean)
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
