"""Checks of the data and of the fit's parameters: what is not identified, and what breaks an assumption."""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy import stats

from analysis.fit.criticism import Criticism, listed
from analysis.fit.dose_response import DoseResponse
from analysis.fit.observations import Observations, last_of
from analysis.fit.words import percent
from analysis.read.terms import terms_of


def check_data(fitted: DoseResponse, misfit: float | None) -> tuple[Criticism | None, ...]:
    """Return the finding of every check, None where it found nothing.

    `misfit` is the p-value of the law against free groups; None where there is none.
    """
    return (
        _means(fitted.observations),
        _copies(fitted.observations),
        _one_dose(fitted),
        _saturation(fitted, "below"),
        _saturation(fitted, "above"),
        _bounds(fitted),
        _uneven(fitted),
        _outliers(fitted),
        _scatter(fitted, misfit),
    )


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
        f"runs are copies of others, evaluation by evaluation: {listed(copies)}; seeds that are copies "
        "do not show how seeds differ.",
        (),
        "withdraws the answer",
    )


def _one_dose(fitted: DoseResponse) -> Criticism | None:
    """Check that doses separate poisons seen from the share of training done."""
    if fitted.several_doses:
        return None
    terms = terms_of(fitted.observations.runs)
    last = last_of(fitted.observations)
    rate, own = last.successes / last.prompts, last.group_of_evaluation
    final = [f"{percent(rate[own == i].mean())} ({g.label})" for i, g in enumerate(last.groups)]
    return Criticism(
        "one dose",
        f"every group has one dose, so the effect of {terms.poisons} seen cannot be told from that of the "
        "share of training done; what another dose would do is not identified. Mean success at the end is "
        f"{listed(final, most=12)}.",
        tuple(group.label for group in fitted.observations.groups),
        "withdraws the answer",
    )


def _saturation(fitted: DoseResponse, side: Literal["below", "above"]) -> Criticism | None:
    """Report groups whose evaluations are all on one side of half."""
    flat = fitted.saturated_below if side == "below" else fitted.saturated_above
    if not flat.any():
        return None
    labels = tuple(g.label for g, one in zip(fitted.observations.groups, flat, strict=True) if one)
    half = terms_of(fitted.observations.runs).half
    if side == "below":
        said = f"hardly any evaluation is below half, so {half} has an upper limit only"
    else:
        said = f"hardly any evaluation is above half, so {half} rests on the assumed slope"
    return Criticism(f"saturated {side}", f"{said}: {listed(labels)}.", labels, "note")


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
    half = terms_of(o.runs).half
    return Criticism(
        "noise differs between groups",
        f"{half} of runs varies more in some groups than in others (standard deviation of log {half} "
        f"{min(sds):.2f} to {max(sds):.2f}, p = {p:.2g}), and the intervals assume one noise for all.",
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
        f"{terms_of(o.runs).half} of these runs is far from that of their group: {listed(names)}.",
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
