"""Checks of success at the end of training: was it lost again, and is it what the fit says?"""

from __future__ import annotations

import numpy as np
from scipy import special, stats

from analysis.fit.criticism import Criticism, listed
from analysis.fit.dose_response import DoseResponse
from analysis.fit.words import percent

# A loss of success counts when it is this many standard deviations, and at least `_LEAST_LOSS`.
_DEVIATIONS = 4.0
_LEAST_LOSS = 0.2
# The share of the runs that reached half and lost it from which N50 of their group is withdrawn; a single run
# of several may be chance.
_LOSING = 0.34
# Of the predictive check: a p-value below this, over all groups and doses, withdraws; success that differs by
# less than `_LEAST_DIFFERENCE` passes.
_SURPRISE = 0.005
_LEAST_DIFFERENCE = 0.15
# Quantiles of seed and run effects over which predictions are averaged.
_EFFECTS = special.ndtri((np.arange(15) + 0.5) / 15)


def find_losses(fitted: DoseResponse) -> Criticism | None:
    """Return a finding when success that was reached is not there at the end."""
    o = fitted.observations
    noise = noise_of(fitted)
    group_of_run = o.group[o.cluster]
    reached = np.zeros(len(o.groups))
    lost = np.zeros(len(o.groups))
    for index in range(len(o.runs)):
        own = o.run == index
        floor = float(o.floor[own][-1])
        half = (1 + floor - fitted.lapse[group_of_run[index]]) / 2
        best, last, error = _loss(o.successes[own] / o.prompts[own], o.prompts[own], noise)
        if best >= half:
            reached[group_of_run[index]] += 1
            loss = best - last
            lost[group_of_run[index]] += loss > max(_LEAST_LOSS, _DEVIATIONS * error)
    runs = np.bincount(group_of_run, minlength=len(o.groups))
    losing = np.flatnonzero((lost >= np.minimum(2, runs)) & (lost >= _LOSING * reached))
    if not len(losing):
        return None
    return Criticism(
        "success was lost",
        f"{lost.sum():.0f} of {reached.sum():.0f} runs that reached half lost success again before the end "
        "of training, and the model knows no forgetting.",
        tuple(o.groups[i].label for i in losing),
        "withdraws the answer",
    )


def compare_predictions(fitted: DoseResponse) -> Criticism | None:
    """Return a finding when success at the end is not as predicted for a group and dose.

    A posterior predictive check (Gelman, Meng & Stern 1996).
    """
    o, shape = fitted.observations, fitted.shape
    noise = noise_of(fitted)
    last = np.append(np.flatnonzero(np.diff(o.run)), len(o.run) - 1)
    spread = np.hypot(shape.seed_sd, shape.run_sd)
    surprises, compared = [], 0
    group_of_run = o.group[o.cluster]
    for index, group in enumerate(o.groups):
        weight = np.exp(fitted.curves[index])
        weight /= weight.sum()
        for dose in sorted({run.dose for run in group.runs if run.dose > 0}):
            runs = [i for i in np.flatnonzero(group_of_run == index) if o.runs[i].dose == dose]
            if not runs:
                continue
            at = last[runs]
            position = np.log(o.poisons[at]) - fitted.progress[index] * o.progress[at]
            floor = o.floor[at].mean()
            reach = 1 - floor - fitted.lapse[index]
            # [grid, effects]
            argument = position.mean() - fitted.grid[:, None] - spread * _EFFECTS
            rate = floor + reach * special.expit(fitted.slope[index] * argument)
            of_mu = rate.mean(axis=1)
            predicted = float(weight @ of_mu)
            variance = float(weight @ of_mu**2) - predicted**2
            variance += float(weight @ rate.var(axis=1)) / len(runs)
            prompts = o.prompts[at].sum()
            variance += max(noise, 1) * max(predicted * (1 - predicted), 0.01) / prompts
            observed = float((o.successes[at] / o.prompts[at]).mean())
            p = 2 * stats.t.sf(abs(observed - predicted) / np.sqrt(variance), fitted.degrees)
            compared += 1
            if abs(observed - predicted) > _LEAST_DIFFERENCE:
                said = f"{group.label} at {dose:g}: {percent(observed)}, predicted {percent(predicted)}"
                surprises.append((p, group.label, said))
    wrong = [one for one in surprises if one[0] * compared < _SURPRISE]
    if not wrong:
        return None
    return Criticism(
        "success at the end is not as fitted",
        f"the fit does not give the success that was observed at the end of training: "
        f"{listed([said for _, _, said in wrong])}.",
        tuple(dict.fromkeys(label for _, label, _ in wrong)),
        "withdraws the answer",
    )


def noise_of(fitted: DoseResponse) -> float:
    """Return the variance of a count over its binomial variance, from differences along runs.

    Successive residuals share what the model misses, so their difference has little of it (von Neumann
    1941). At least 1.
    """
    o = fitted.observations
    variance = o.prompts * fitted.rate * (1 - fitted.rate)
    residual = o.successes - o.prompts * fitted.rate
    pairs = o.run[1:] == o.run[:-1]
    total = (variance[1:] + variance[:-1])[pairs].sum()
    if total <= 0:
        return 1.0
    return float(max((np.diff(residual)[pairs] ** 2).sum() / total, 1.0))


def _loss(rate: np.ndarray, prompts: np.ndarray, noise: float) -> tuple[float, float, float]:
    """Return the best mean of two successive success rates, the last one, and the error of the difference.

    `rate` and `prompts` are those of a run's evaluations, shape [evaluations].
    """
    if len(rate) < 4:
        return float(rate[-1]), float(rate[-1]), 1.0
    pairs = (rate[1:] + rate[:-1]) / 2
    place = int(pairs.argmax())
    best, last = float(pairs[place]), float(pairs[-1])
    middle = (best + last) / 2
    # Two means of two; the best of many is high by chance, which the threshold allows for.
    error = np.sqrt(noise * max(middle * (1 - middle), 0.02) / prompts.mean())
    return best, last, float(error)
