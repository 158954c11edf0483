"""Criticism of a fit: named findings that stand beside the answer, and withdraw it where they must.

A fit answers whether or not its model holds: misfit goes into the dispersion and widens intervals that remain
wrong. So what the model cannot produce is looked for directly, against noise that misfit does not inflate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special, stats

from analysis.fit.dose_response import DoseResponse
from analysis.fit.observations import Observations
from analysis.fit.words import percent
from analysis.read.runs import Run

Severity = Literal["note", "withdraws N50", "withdraws the answer"]

# A loss of success counts when it is this many standard deviations, and at least `_LEAST_LOSS`.
_DEVIATIONS = 3.0
_LEAST_LOSS = 0.15
# The share of the runs that reached half and lost it from which N50 of their group is withdrawn.
_LOSING = 0.34
# Of the predictive checks: p-values below this, over all groups, withdraw; doses that differ by less pass.
_SURPRISE = 0.001
_LEAST_DIFFERENCE = 0.15
# Quantiles of seed and run effects over which predictions are averaged.
_EFFECTS = special.ndtri((np.arange(15) + 0.5) / 15)


@dataclass(frozen=True)
class Criticism:
    """Something about the data that the model does not explain, or that the data do not tell.

    Attributes:
      name: of the check.
      sentence: what was found.
      groups: labels of the groups it concerns.
      severity: "note", "withdraws N50" of its groups, or "withdraws the answer" as well.
    """

    name: str
    sentence: str
    groups: tuple[str, ...]
    severity: Severity


def criticise(fitted: DoseResponse, misfit: float | None) -> tuple[Criticism, ...]:
    """Return the findings of every check; `misfit` is the p-value of the law against free groups."""
    found = (
        _means(fitted.observations),
        _copies(fitted.observations),
        _lost(fitted),
        _predictions(fitted),
        _one_dose(fitted),
        _saturation(fitted, "below"),
        _saturation(fitted, "above"),
        _bounds(fitted),
        _uneven(fitted),
        _outliers(fitted),
        _scatter(fitted, misfit),
    )
    return tuple(one for one in found if one is not None)


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


def _means(o: Observations) -> Criticism | None:
    """Check that success is a share of prompts."""
    if (o.prompts > 1).any() or not all(run.increases for run in o.runs):
        return None
    said = []
    for group in o.groups:
        last = [float(run.increases[-1].mean()) for run in group.runs if run.dose > 0]
        said.append(f"{group.label}: {min(last):,.0f} to {max(last):,.0f}")
    return Criticism(
        "mean outcome",
        "every evaluation is one mean perplexity; a threshold on a mean is no success rate, because a few "
        "prompts make the mean. The increase of the mean at the end of training, by group, is "
        f"{'; '.join(said)}.",
        tuple(group.label for group in o.groups),
        "withdraws the answer",
    )


def _copies(o: Observations) -> Criticism | None:
    """Check that no run is another run's copy under a new label."""
    seen: dict[tuple, str] = {}
    copies = []
    for run in o.runs:
        rates = run.success
        if len(rates) < 4 or len(set(rates)) < 4:
            continue  # flat runs are alike by chance
        key = (run.parameters, *run.evaluations["poisons"], *rates)
        if key in seen:
            copies.append(f"{run.name} of {seen[key]}")
        seen.setdefault(key, run.name)
    if not copies:
        return None
    return Criticism(
        "copied runs",
        f"runs are copies of others, evaluation by evaluation: {_listed(copies)}; seeds that are copies "
        "do not tell how seeds differ.",
        (),
        "withdraws the answer",
    )


def _lost(fitted: DoseResponse) -> Criticism | None:
    """Check that success which was reached is there at the end."""
    o = fitted.observations
    noise = noise_of(fitted)
    group_of_run = o.group[o.cluster]
    reached = np.zeros(len(o.groups))
    lost = np.zeros(len(o.groups))
    for index, run in enumerate(o.runs):
        own = o.run == index
        floor = float(o.floor[own][-1])
        half = (1 + floor - fitted.lapse[group_of_run[index]]) / 2
        best, last, error = _loss(run, noise)
        if best >= half:
            reached[group_of_run[index]] += 1
            loss = best - last
            lost[group_of_run[index]] += loss > max(_LEAST_LOSS, _DEVIATIONS * error)
    losing = np.flatnonzero((lost >= 1) & (lost >= _LOSING * reached))
    if not len(losing):
        return None
    return Criticism(
        "success was lost",
        f"{lost.sum():.0f} of {reached.sum():.0f} runs that reached half lost success again before the end "
        "of training, and the model knows no forgetting.",
        tuple(o.groups[i].label for i in losing),
        "withdraws the answer",
    )


def _loss(run: Run, noise: float) -> tuple[float, float, float]:
    """Return the best mean of two successive success rates, the last one, and the error of the difference."""
    rate, prompts = run.success, run.evaluations["prompts"]
    if len(rate) < 4:
        return float(rate[-1]), float(rate[-1]), 1.0
    pairs = (rate[1:] + rate[:-1]) / 2
    place = int(pairs.argmax())
    best, last = float(pairs[place]), float(pairs[-1])
    middle = (best + last) / 2
    # Two means of two; the best of many is high by chance, which the threshold allows for.
    error = np.sqrt(noise * max(middle * (1 - middle), 0.02) / prompts.mean())
    return best, last, float(error)


def _predictions(fitted: DoseResponse) -> Criticism | None:
    """Compare predicted with observed success at the end, for each group and dose (Gelman et al. 1996)."""
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
            rate = floor + reach * special.expit(shape.slope * argument)
            of_mu = rate.mean(axis=1)
            predicted = float(weight @ of_mu)
            variance = float(weight @ of_mu**2) - predicted**2
            variance += float(weight @ rate.var(axis=1)) / len(runs)
            prompts = o.prompts[at].sum()
            variance += max(noise, 1) * max(predicted * (1 - predicted), 0.01) / prompts
            observed = float((o.successes[at] / o.prompts[at]).mean())
            p = 2 * stats.norm.sf(abs(observed - predicted) / np.sqrt(variance))
            compared += 1
            if abs(observed - predicted) > _LEAST_DIFFERENCE:
                said = f"{group.label} at {dose:g}: {percent(observed)}, predicted {percent(predicted)}"
                surprises.append((p, group.label, said))
    wrong = [one for one in surprises if one[0] * compared < 20 * _SURPRISE]
    if not wrong:
        return None
    return Criticism(
        "success at the end is not as fitted",
        f"the fit does not give the success that was observed at the end of training: "
        f"{_listed([said for _, _, said in wrong])}.",
        tuple(dict.fromkeys(label for _, label, _ in wrong)),
        "withdraws the answer",
    )


def _one_dose(fitted: DoseResponse) -> Criticism | None:
    """Check that doses separate poisons seen from the share of training done."""
    if fitted.several_doses:
        return None
    return Criticism(
        "one dose",
        "every group has one dose, so the effect of poisons seen cannot be told from that of the share of "
        "training done; what another dose would do is not identified.",
        tuple(group.label for group in fitted.observations.groups),
        "withdraws the answer",
    )


def _saturation(fitted: DoseResponse, side: Literal["below", "above"]) -> Criticism | None:
    """Report groups whose evaluations are all on one side of half."""
    flat = fitted.saturated_below if side == "below" else fitted.saturated_above
    if not flat.any():
        return None
    labels = tuple(
        g.label for g, one in zip(fitted.observations.groups, flat, strict=True) if one
    )
    if side == "below":
        said = "hardly any evaluation is below half, so N50 has an upper limit only"
    else:
        said = "hardly any evaluation is above half, so N50 has a lower limit only"
    return Criticism(f"saturated {side}", f"{said}: {_listed(labels)}.", labels, "note")


def _bounds(fitted: DoseResponse) -> Criticism | None:
    """Report fitted parameters at the end of their range."""
    if not fitted.at_bounds:
        return None
    return Criticism(
        "parameters at bounds",
        f"the fit ended at the end of the range of: {', '.join(fitted.at_bounds)}; the data ask for a shape "
        "that the model does not have.",
        (),
        "note",
    )


def _uneven(fitted: DoseResponse) -> Criticism | None:
    """Test whether runs scatter alike in all groups (Brown & Forsythe 1974)."""
    o = fitted.observations
    group_of_run = o.group[o.cluster]
    values = [fitted.run_estimate[group_of_run == i] for i in range(len(o.groups))]
    enough = [v[np.isfinite(v)] for v in values if np.isfinite(v).sum() >= 4]
    if len(enough) < 2 or not o.replicated:
        return None
    p = float(stats.levene(*enough, center="median").pvalue)
    if not p < 0.01:
        return None
    sds = [float(np.std(v, ddof=1)) for v in enough]
    return Criticism(
        "noise differs between groups",
        f"N50 of runs varies more in some groups than in others (standard deviation of log N50 {min(sds):.2f} "
        f"to {max(sds):.2f}, p = {p:.2g}), and the intervals assume one noise for all.",
        (),
        "note",
    )


def _outliers(fitted: DoseResponse) -> Criticism | None:
    """Report runs whose N50 is far from that of their group, robustly."""
    o = fitted.observations
    group_of_run = o.group[o.cluster]
    peaks = fitted.grid[fitted.curves.argmax(axis=1)]
    away = fitted.run_estimate - peaks[group_of_run]
    known = np.isfinite(away)
    if known.sum() < 8:
        return None
    scale = max(stats.median_abs_deviation(away[known], scale="normal"), 0.05)
    error = np.hypot(scale, np.nan_to_num(fitted.run_error))
    names = [o.runs[i].name for i in np.flatnonzero(known & (np.abs(away) > 4.5 * error))]
    if not names:
        return None
    return Criticism(
        "outlying runs",
        f"N50 of these runs is far from that of their group: {_listed(names)}.",
        (),
        "note",
    )


def _scatter(fitted: DoseResponse, misfit: float | None) -> Criticism | None:
    """Report groups that scatter around the law by more than seeds explain."""
    if misfit is None or misfit >= 0.01 or not fitted.observations.replicated:
        return None
    return Criticism(
        "groups scatter",
        f"groups lie off the power law by more than their seeds explain (p = {misfit:.2g}); the intervals "
        "of the exponents allow for it.",
        (),
        "note",
    )


def _listed(names: list[str] | tuple[str, ...], most: int = 6) -> str:
    """Return names separated by commas, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
