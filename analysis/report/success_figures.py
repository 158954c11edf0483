"""Figures of success: by dose, along training, and against the poisons seen."""

from __future__ import annotations

import numpy as np
from scipy import optimize, special

from analysis.fit.findings import Findings, Model
from analysis.fit.observations import last_of
from analysis.fit.words import percent, shortened
from analysis.measures.axes import (
    MARKERS,
    dash_styles,
    dots,
    legend,
    log_axes,
    panels,
    rate_axis,
    size_colours,
    trajectories,
)
from analysis.measures.drawing import Drawing, six_digits
from analysis.read.runs import Run


def _curve(model: Model, label: str, log_poisons: np.ndarray, log_n50: float) -> np.ndarray:
    """Return fitted success of a group at the end of training, with its floor, shape of `log_poisons`."""
    fitted = model.dose_response
    o = fitted.observations
    index = [group.label for group in o.groups].index(label)
    floor = float(o.floor[o.group_of_evaluation == index][-1])
    reach = 1 - floor - fitted.lapse[index]
    return floor + reach * special.expit(fitted.slope[index] * (log_poisons - log_n50))


def draw_dose_response(findings: Findings, model: Model) -> Drawing:
    """Draw success at the end of training by dose, with the fit, one panel per size."""
    groups = model.dose_response.observations.groups
    colours, dashes = size_colours(groups), dash_styles(groups)
    sizes = list(dict.fromkeys(g.size for g in groups))
    figure, axes = panels(len(sizes), height=2.9)
    rows = []
    for axis, size in zip(axes, sizes, strict=True):
        for n50 in findings.n50s:
            group = n50.group
            if group.size != size:
                continue
            colour = colours[size]
            doses = np.array([run.dose for run in group.runs if run.dose > 0])
            grid = np.linspace(np.log(doses.min() / 2), np.log(doses.max() * 1.5), 80)
            estimate = n50.poisons
            if estimate.value is not None:
                curve = _curve(model, group.label, grid, np.log(estimate.value))
                axis.plot(np.exp(grid), curve, dashes[group.label], color=colour, label=group.label)
                low = estimate.low or np.exp(grid[0]) / 10
                high = estimate.high or np.exp(grid[-1]) * 10
                axis.fill_between(
                    np.exp(grid),
                    _curve(model, group.label, grid, np.log(high)),
                    _curve(model, group.label, grid, np.log(low)),
                    color=colour,
                    alpha=0.15,
                    linewidth=0,
                )
            marker = MARKERS[dashes[group.label]]
            for order, run in enumerate(run for run in group.runs if run.dose > 0):
                rate = run.success[-1]
                done = run.evaluations["tokens"][-1] >= 0.999 * run.tokens
                axis.plot(
                    run.evaluations["poisons"][-1] * 1.02 ** (order % 5 - 2),
                    rate,
                    marker,
                    color=colour,
                    markersize=4,
                    markerfacecolor=colour if done else "white",
                    alpha=0.8,
                )
                rows.append((group.label, run.name, run.dose, run.seed, int(done), round(rate, 6)))
        log_axes(axis)
        rate_axis(axis)
        axis.set_title(shortened(size))
        axis.set_xlabel("dose (poisoned documents)")
    axes[0].set_ylabel("success rate at the end of training")
    legend(figure, axes)
    known = [
        (n50.poisons.value, n50.group.label)
        for n50 in findings.n50s
        if n50.censored is None and n50.poisons.value is not None
    ]
    if known:
        (low, fewest), (high, most) = min(known), max(known)
        caption = (
            f"Half of the reach takes {low:,.0f} documents ({fewest}) to {high:,.0f} ({most})."
        )
    else:
        caption = "No group reaches half within the doses trained."
    caption += (
        " One mark per run, at its last evaluation (hollow: unfinished); lines are the fit, bands the 95% "
        "interval of N50."
    )
    header = ("group", "run", "dose", "seed", "finished", "success")
    return Drawing(
        "dose_response", "Success at the end of training, by dose", caption, figure, header, rows
    )


def draw_progress(findings: Findings) -> Drawing:
    """Draw success against the share of training done, one panel per dose."""
    groups = findings.study.groups()
    colours, dashes = size_colours(groups), dash_styles(groups)
    doses = sorted({run.dose for run in findings.study.runs})
    figure, axes = panels(len(doses))
    rows = []
    finals: dict[float, list[float]] = {}
    for axis, dose in zip(axes, doses, strict=True):
        for group in groups:
            runs = [run for run in group.runs if run.dose == dose]
            if not runs:
                continue
            points, low, mean, high = _seed_band(runs)
            colour = colours[group.size]
            axis.plot(points, mean, dashes[group.label], color=colour, label=group.label)
            axis.fill_between(points, low, high, color=colour, alpha=0.15, linewidth=0)
            finals.setdefault(dose, []).append(mean[-1])
            rows += [
                (group.label, dose, *map(six_digits, values))
                for values in zip(points, low, mean, high, strict=True)
            ]
        rate_axis(axis)
        axis.set_title("control" if dose == 0 else f"{dose:g} documents")
        axis.set_xlabel("share of training done")
    axes[0].set_ylabel("success rate")
    legend(figure, axes)
    reached = "; ".join(
        f"{dose:g} documents: {percent(min(values))} to {percent(max(values))}"
        for dose, values in finals.items()
    )
    caption = (
        f"Success rate at the end of training, over sizes and budgets (means over seeds): {reached}. Lines "
        "are means over seeds, bands their range."
    )
    header = ("group", "dose", "share_of_training", "lowest", "mean", "highest")
    return Drawing(
        "progress", "Success against training progress, by dose", caption, figure, header, rows
    )


def draw_poisons_seen(findings: Findings) -> Drawing:
    """Draw success against the poisons seen, one panel per size."""
    figure, axes, rows, caption = trajectories(findings.study, lambda run: run.success)
    for axis in axes:
        rate_axis(axis)
    axes[0].set_ylabel("success rate")
    caption += "."
    if findings.model is not None:
        poisons = findings.model.variables[0]
        caption = (
            f"Poisons seen alone explain {percent(poisons.explained)} of the variance of success at the "
            f"last evaluations, over sizes, budgets and doses. {caption}"
        )
    header = ("group", "run", "dose", "seed", "poisons_seen", "success")
    return Drawing(
        "poisons_seen", "Success against poisons seen, by size", caption, figure, header, rows
    )


def draw_collapse(model: Model) -> Drawing:
    """Draw the last evaluation of each run against the count and against the fraction."""
    o = last_of(model.dose_response.observations)
    colours = size_colours(o.groups)
    figure, axes = panels(2, height=3.2)
    explained = {v.name: v.explained for v in model.variables}
    million = o.alternatives["fraction"] * 1e6
    rate = o.successes / o.prompts
    sizes = np.array([g.size for g in o.groups])[o.group_of_evaluation]
    rows = []
    for axis, value, name, label in (
        (axes[0], o.poisons, "poisons", "poisons seen"),
        (axes[1], million, "fraction", "poisons seen per million clean tokens"),
    ):
        dots(axis, value, rate, sizes, colours, markersize=2.6, alpha=0.55, markeredgewidth=0)
        order = np.argsort(value, kind="stable")
        fitted = optimize.isotonic_regression(rate[order], weights=o.prompts[order]).x
        axis.plot(value[order], fitted, color="black", linewidth=1.4, label="best rising curve")
        log_axes(axis)
        rate_axis(axis)
        axis.set_xlabel(label)
        axis.set_title(
            f"{'count' if name == 'poisons' else 'fraction'}: {percent(explained[name])}"
        )
    axes[0].set_ylabel("success rate")
    legend(figure, axes)
    for i in range(len(o.run)):
        rows.append((o.runs[o.run[i]].name, *map(six_digits, (o.poisons[i], million[i], rate[i]))))
    count, fraction = explained["poisons"], explained["fraction"]
    better = "the count" if count > fraction else "the fraction"
    caption = (
        "The last evaluation of each poisoned run. One rising curve of the count explains "
        f"{percent(count)} of the variance of success, one of the fraction {percent(fraction)}: runs "
        f"collapse better on {better}."
    )
    header = ("run", "poisons_seen", "poisons_per_million_clean_tokens", "success")
    return Drawing("collapse", "Do the runs collapse?", caption, figure, header, rows)


def _seed_band(runs: list[Run]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return shares of training that all runs reach, and lowest, mean and highest success there."""
    shares = [run.evaluations["tokens"] / run.tokens for run in runs]
    points = np.unique(np.concatenate(shares).round(4))
    points = points[points <= min(seen[-1] for seen in shares) + 1e-4]
    rates = [np.interp(points, seen, run.success) for run, seen in zip(runs, shares, strict=True)]
    return points, np.min(rates, axis=0), np.mean(rates, axis=0), np.max(rates, axis=0)
