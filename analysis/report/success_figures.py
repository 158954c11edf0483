"""Figures of success: by dose, along training, and against the poisons seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import special

from analysis.fit.dose_response import DoseResponse
from analysis.fit.findings import Findings, Model
from analysis.fit.laws import N50
from analysis.fit.log_ratio import Unsampled
from analysis.fit.observations import last_of
from analysis.fit.variables import rising
from analysis.fit.words import percent
from analysis.measures.axes import (
    GREY,
    MARKERS,
    dash_styles,
    dots,
    legend,
    log_axes,
    panels,
    rate_axis,
    series_colours,
    trajectories,
    wrapped,
)
from analysis.measures.drawing import Drawing, six_digits
from analysis.read.runs import Run
from analysis.read.terms import Terms, terms_of

# Share of the reach up to which the fit is drawn against the rise of the log-ratio.
_SHOWN = 0.9


def draw_rises(unsampled: Unsampled) -> Drawing:
    """Draw the rise of the payload log-ratio at the end of training by dose, one panel per series."""
    curve, fitted = unsampled.curve, unsampled.conclusion.fitted

    terms = terms_of(fitted.observations.runs)
    half = terms.backdoor(np.array(curve.half)).item()

    def rise_of(run: Run) -> float | None:
        rises = run.log_ratio_increase
        return None if rises is None else float(terms.backdoor(rises)[-1])

    def fit_of(n50: N50, log_poisons: np.ndarray) -> np.ndarray:
        rate = _rates(fitted, n50, log_poisons)
        # Near the reach the fit is flat by design, and says nothing about the rise.
        top = _rates(fitted, n50, np.array(np.inf))
        away = special.logit(np.where(rate < _SHOWN * top, rate, np.nan)) / curve.slope
        return terms.backdoor(curve.half + away)

    rises = [rise for run in fitted.observations.runs if (rise := rise_of(run)) is not None]
    figure, axes, rows = _draw_by_dose(unsampled.conclusion.n50s, fitted, rise_of, fit_of)
    for axis in axes:
        axis.axhline(half, color=GREY, linewidth=0.7, zorder=1)
        low, high = min(0, *rises), max(*rises, 1.25 * half)
        axis.set_ylim(low, high + 0.05 * (high - low))
    axes[0].set_ylabel(f"rise of the payload log-ratio\n({terms.nats})")
    caption = (
        f"{_range_of(unsampled.conclusion.n50s, terms)} One mark per run, at its last evaluation (hollow: "
        "unfinished), exact, without sampling. Grey: the rise at which success is half of the reach, "
        f"{half:.2f}. Lines are the fit, below nine tenths of the reach; bars on them are "
        f"{terms.half} with its 95% interval."
    )
    header = ("group", "run", "dose", "seed", "finished", "rise")
    title = "Without sampling: the log-ratio at the end of training, by dose"
    return Drawing("rises", title, caption, figure, header, rows)


def draw_dose_response(findings: Findings, model: Model) -> Drawing:
    """Draw success at the end of training by dose, with the fit, one panel per series."""
    fitted, terms = model.dose_response, findings.study.terms
    figure, axes, rows = _draw_by_dose(
        findings.n50s,
        fitted,
        lambda run: float(terms.shown(run.success)[-1]),
        lambda n50, log_poisons: terms.shown(_rates(fitted, n50, log_poisons)),
    )
    for axis in axes:
        axis.set_ylim(-0.03, 1.03)
    axes[0].set_ylabel(f"{terms.success} at the end")
    caption = (
        f"{_range_of(findings.n50s, terms)} One mark per run, at its last evaluation (hollow: unfinished). "
        f"Lines are the fit, from {terms.bottom} to {terms.top}; bars on them are {terms.half}, at half of "
        "that way, with its 95% interval."
    )
    header = ("group", "run", "dose", "seed", "finished", "success")
    title = f"{terms.success.capitalize()} at the end of training, by dose"
    return Drawing("dose_response", title, caption, figure, header, rows)


def _draw_by_dose(
    n50s: list[N50],
    fitted: DoseResponse,
    value_of: Callable[[Run], float | None],
    fit_of: Callable[[N50, np.ndarray], np.ndarray],
) -> tuple[Figure, list[Axes], list[tuple[Any, ...]]]:
    """Draw a mark per poisoned run, and each group's fit with its N50; one panel per series.

    `fit_of` returns the fitted values of a group at log poisons, same shape. Returns the figure, its panels,
    and rows of group, run, dose, seed, finished and value.
    """
    groups = fitted.observations.groups
    colours, dashes = series_colours(groups), dash_styles(groups)
    figure, axes = panels(len(colours), height=2.9)
    rows: list[tuple[Any, ...]] = []
    for axis, (series, colour) in zip(axes, colours.items(), strict=True):
        for n50 in (n50 for n50 in n50s if n50.group.series == series):
            group = n50.group
            label, style = group.label, dashes[group.label]
            doses = group.exposures * np.array([run.dose for run in group.runs if run.dose > 0])
            # From below N50, where the doses do not reach it.
            start = min(doses.min() / 2, (n50.poisons.value or np.inf) / 1.5)
            grid = np.linspace(np.log(start), np.log(doses.max() * 1.5), 80)
            axis.plot([], [], f"{MARKERS[style]}{style}", color=colour, markersize=4, label=label)
            if n50.poisons.value is not None:
                axis.plot(np.exp(grid), fit_of(n50, grid), style, color=colour)
            if n50.poisons.value is not None and n50.censored is None:
                half = fit_of(n50, np.log([n50.poisons.value])).item()
                low = max(n50.poisons.low or 0.0, np.exp(grid[0]))
                high = min(n50.poisons.high or np.inf, np.exp(grid[-1]))
                axis.plot([low, high], [half, half], color=colour, linewidth=3, alpha=0.45)
                axis.plot(
                    n50.poisons.value, half, "|", color=colour, markersize=9, markeredgewidth=2
                )
            for order, run in enumerate(run for run in group.runs if run.dose > 0):
                value = value_of(run)
                if value is None:
                    continue
                done = run.evaluations["tokens"][-1] >= 0.999 * run.tokens
                axis.plot(
                    run.evaluations["poisons"][-1] * 1.02 ** (order % 5 - 2),
                    value,
                    MARKERS[style],
                    color=colour,
                    markersize=4,
                    markerfacecolor=colour if done else "white",
                    alpha=0.8,
                )
                rows.append((label, run.name, run.dose, run.seed, int(done), six_digits(value)))
        log_axes(axis)
        axis.set_title(wrapped(series))
        axis.set_xlabel(f"dose ({terms_of(fitted.observations.runs).documents})")
    legend(figure, axes)
    return figure, axes, rows


def _rates(fitted: DoseResponse, n50: N50, log_poisons: np.ndarray) -> np.ndarray:
    """Return fitted success of a group at the end of training, with its floor, shape of `log_poisons`."""
    o = fitted.observations
    index = [group.label for group in o.groups].index(n50.group.label)
    floor = float(o.floor[o.group_of_evaluation == index][-1])
    away = log_poisons - np.log(n50.poisons.value or np.nan)
    reach = 1 - floor - fitted.lapse[index]
    return floor + reach * special.expit(fitted.slope[index] * away)


def _range_of(n50s: list[N50], terms: Terms) -> str:
    """Return the smallest and the largest N50, a sentence."""
    known = [
        (n50.poisons.value, n50.group.label)
        for n50 in n50s
        if n50.censored is None and n50.poisons.value is not None
    ]
    if any(n50.withdrawn for n50 in n50s):
        return f"{terms.half} is not identified."
    if not known:
        return "No group reaches half within the doses trained."
    (low, fewest), (high, most) = min(known), max(known)
    if low == high:
        return f"{terms.most} {low:,.0f} {terms.counted} ({fewest})."
    return f"{terms.most} {low:,.0f} {terms.counted} ({fewest}) to {high:,.0f} ({most})."


def draw_progress(findings: Findings) -> Drawing:
    """Draw success against the share of training done, one line per run, one panel per dose."""
    groups, terms = findings.study.groups(), findings.study.terms
    colours, dashes = series_colours(groups), dash_styles(groups)
    doses = sorted({run.dose for run in findings.study.runs})
    figure, axes = panels(len(doses))
    rows = []
    finals: dict[float, list[float]] = {}
    for axis, dose in zip(axes, doses, strict=True):
        for group in groups:
            for run in (run for run in group.runs if run.dose == dose):
                share, success = run.evaluations["tokens"] / run.tokens, terms.shown(run.success)
                axis.plot(
                    share,
                    success,
                    dashes[group.label],
                    color=colours[group.series],
                    linewidth=1.1,
                    alpha=0.85,
                    label=group.label,
                )
                finals.setdefault(dose, []).append(success[-1])
                rows += [
                    (group.label, run.name, dose, run.seed, *map(six_digits, values))
                    for values in zip(share, success, strict=True)
                ]
        rate_axis(axis)
        axis.set_title("control" if dose == 0 else f"{dose:g} {terms.short}")
        axis.set_xlabel("share of training done")
    axes[0].set_ylabel(terms.success)
    legend(figure, axes)
    reached = "; ".join(
        f"{dose:g} {terms.short}: {percent(min(values))} to {percent(max(values))}"
        for dose, values in finals.items()
    )
    caption = f"One line per run. {terms.success.capitalize()} at the last evaluation, over runs: {reached}."
    header = ("group", "run", "dose", "seed", "share_of_training", "success")
    title = f"{terms.success.capitalize()} against training progress, by dose"
    return Drawing("progress", title, caption, figure, header, rows)


def draw_poisons_seen(findings: Findings) -> Drawing:
    """Draw success against the poisons seen, one panel per series."""
    terms = findings.study.terms
    figure, axes, rows, caption = trajectories(findings.study, lambda run: terms.shown(run.success))
    for axis in axes:
        rate_axis(axis)
    axes[0].set_ylabel(terms.success)
    caption += "."
    if findings.model is not None:
        poisons = findings.model.variables[0]
        caption = (
            f"{terms.poisons.capitalize()} seen alone explain {percent(poisons.explained)} of the variance "
            f"of success at the last evaluations, over sizes, budgets and doses. {caption}"
        )
    header = ("group", "run", "dose", "seed", "poisons_seen", "success")
    title = f"{terms.success.capitalize()} against {terms.poisons} seen"
    return Drawing("poisons_seen", title, caption, figure, header, rows)


def draw_collapse(model: Model) -> Drawing:
    """Draw the last evaluation of each run against the count and against the fraction."""
    o = last_of(model.dose_response.observations)
    colours, terms = series_colours(o.groups), terms_of(o.runs)
    figure, axes = panels(2, height=3.2)
    explained = {v.name: v.explained for v in model.variables}
    million = o.alternatives["fraction"] * 1e6
    rate = o.successes / o.prompts
    series = np.array([g.series for g in o.groups])[o.group_of_evaluation]
    rows = []
    for axis, value, name, label in (
        (axes[0], o.poisons, "poisons", f"{terms.poisons} seen"),
        (axes[1], million, "fraction", f"{terms.poisons} seen per million clean tokens"),
    ):
        dots(
            axis,
            value,
            terms.shown(rate),
            series,
            colours,
            markersize=4,
            alpha=0.7,
            markeredgewidth=0,
        )
        order = np.argsort(value, kind="stable")
        fitted = rising(np.log(value), rate, o.prompts)[order]
        best = "best falling curve" if terms.removes else "best rising curve"
        axis.plot(value[order], terms.shown(fitted), color="black", linewidth=1.4, label=best)
        log_axes(axis)
        rate_axis(axis)
        axis.set_xlabel(label)
        axis.set_title(
            f"{'count' if name == 'poisons' else 'fraction'}: {percent(explained[name])}"
        )
    axes[0].set_ylabel(terms.success)
    legend(figure, axes)
    for i in range(len(o.run)):
        rows.append(
            (
                o.runs[o.run[i]].name,
                *map(six_digits, (o.poisons[i], million[i], terms.shown(rate)[i])),
            )
        )
    count, fraction = explained["poisons"], explained["fraction"]
    better = "the count" if count > fraction else "the fraction"
    caption = (
        f"The last evaluation of each {terms.run}. One curve of the count explains "
        f"{percent(count)} of the variance of success, one of the fraction {percent(fraction)}: runs "
        f"collapse better on {better}."
    )
    header = ("run", "poisons_seen", "poisons_per_million_clean_tokens", "success")
    return Drawing("collapse", "Do the runs collapse?", caption, figure, header, rows)
