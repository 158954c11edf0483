"""Figures of fits: mean perplexities, residuals, extrapolation."""

from __future__ import annotations

import numpy as np

from analysis.fit.findings import Findings, Model
from analysis.fit.mean_outcome import LEAST, MeanOutcome
from analysis.fit.words import documents, shortened
from analysis.measures.axes import (
    GREY,
    dose_colours,
    dots,
    legend,
    log_axes,
    panels,
    series_colours,
)
from analysis.measures.drawing import Drawing, six_digits
from analysis.read.terms import terms_of
from analysis.report.n50_figure import band, ends, point


def draw_means(means: MeanOutcome) -> Drawing:
    """Draw the rise of mean perplexity of every run against parameters."""
    doses = sorted({cell.dose for cell in means.cells})
    colours = dose_colours(doses)
    figure, axes = panels(1, height=3.4)
    axis = axes[0]
    rows = []
    for cell in means.cells:
        rises = np.maximum(cell.rises, LEAST)
        label = "controls" if cell.dose == 0 else f"{cell.dose:g} documents"
        x = np.full(len(rises), cell.parameters)
        axis.plot(x, rises, "o", color=colours[cell.dose], markersize=5, alpha=0.8, label=label)
        rows += [
            (cell.group, cell.parameters, cell.tokens, cell.dose, six_digits(r)) for r in cell.rises
        ]
    log_axes(axis, "xy")
    axis.set_xlabel("parameters")
    axis.set_ylabel("rise of mean perplexity")
    legend(figure, axes)
    caption = (
        f"{means.words} One mark per run, at its last evaluation; no rise is drawn below {LEAST:g}."
    )
    header = ("group", "parameters", "tokens", "dose", "rise")
    return Drawing("means", "Rise of mean perplexity, by size", caption, figure, header, rows)


def draw_residuals(model: Model) -> Drawing:
    """Draw how evaluations differ from the fit, and runs from the law."""
    fitted = model.dose_response
    o = fitted.observations
    colours = series_colours(o.groups)
    figure, axes = panels(2, height=3.0, share=False)
    series = np.array([g.series for g in o.groups])
    half = terms_of(o.runs).half
    variance = o.prompts * fitted.rate * (1 - fitted.rate) * fitted.shape.dispersion
    residual = (o.successes - o.prompts * fitted.rate) / np.sqrt(np.maximum(variance, 1e-9))
    done = np.exp(o.progress)
    dots(axes[0], done, residual, series[o.group_of_evaluation], colours, markersize=2.6, alpha=0.6)
    axes[0].axhline(0, color=GREY, linewidth=0.8)
    axes[0].set_xlabel("share of training done")
    axes[0].set_ylabel("residual\n(standard deviations)")
    axes[0].set_title("evaluations")

    design = model.law.likelihood.regressors @ model.law.likelihood.best
    group = o.group[o.cluster]
    ratio = np.exp(fitted.run_mean - design[group])
    jitter = 0.12 * (np.arange(len(group)) % 5 - 2) / 2
    dots(axes[1], group + jitter, ratio, series[group], colours, markersize=4, alpha=0.7)
    axes[1].axhline(1, color=GREY, linewidth=0.8)
    widest = max(2.0, 1.1 * np.exp(np.abs(np.log(ratio)).max()))
    axes[1].set_ylim(1 / widest, widest)
    log_axes(axes[1], "y")
    axes[1].set_title("runs")
    axes[1].set_ylabel(f"run's {half} / law")
    axes[1].set_xticks(
        range(len(o.groups)),
        [shortened(g.label) for g in o.groups],
        rotation=30,
        ha="right",
        fontsize=7,
    )
    legend(figure, axes)
    outside = float((np.abs(residual) > 2).mean())
    spread = np.hypot(fitted.shape.seed_sd, fitted.shape.run_sd)
    caption = (
        f"{100 * outside:.1f}% of evaluations are more than two standard deviations from the fit (5% "
        f"expected); {half} varies between runs of a group by a factor of {np.exp(spread):.2f} (one standard "
        "deviation)."
    )
    if model.law.misfit is not None:
        misfit = model.law.misfit
        how = "do not follow" if misfit < 0.05 else "are compatible with"
        caption += f" Group values {how} the law (p = {misfit:.2g})."
    rows = [
        (o.runs[r].name, six_digits(d), six_digits(e), six_digits(f))
        for r, d, e, f in zip(o.run, done, residual, ratio[o.run], strict=True)
    ]
    header = ("run", "share_of_training", "residual", "run_n50_over_law")
    return Drawing("residuals", "Residuals of the fit", caption, figure, header, rows)


def draw_extrapolation(findings: Findings, model: Model) -> Drawing:
    """Draw the law beyond the data, in grey."""
    groups = model.dose_response.observations.groups
    colours = series_colours(groups)
    targets = [(e, e.poisons.value) for e in model.extrapolations if e.poisons.value is not None]
    ratio = targets[0][0].tokens / targets[0][0].parameters
    low = min(g.parameters for g in groups)
    line = np.geomspace(low, max(e.parameters for e, _ in targets), 30)
    largest = max(g.parameters for g in groups)
    figure, axes = panels(1, height=3.4)
    axis = axes[0]
    setting = groups[0].setting
    band(axis, line, [model.law.predict(ratio * n, n, setting) for n in line], GREY)
    for n50 in findings.n50s:
        point(axis, n50.group.parameters, n50, colours[n50.group.series])
    for e, value in targets:
        bar = [e.poisons.low or value / 1e3, e.poisons.high or value * 1e3]
        axis.plot([e.parameters] * 2, bar, color=GREY, linewidth=1.2)
        axis.plot(e.parameters, value, "o", color="white", markeredgecolor=GREY)
        axis.annotate(e.label, (e.parameters, value), (5, 5), textcoords="offset points")
    axis.axvspan(largest * 1.3, line[-1] * 2.5, color="#f0f0f0", zorder=0)
    axis.set_xlim(low / 1.5, line[-1] * 2.5)
    values = [value for _, value in targets] + [
        n50.poisons.value
        for n50 in findings.n50s
        if n50.censored is None and n50.poisons.value is not None
    ]
    axis.set_ylim(min(values) / 8, max(values) * 8)
    log_axes(axis, "xy")
    axis.set_xlabel("parameters")
    terms = findings.study.terms
    axis.set_ylabel(f"{terms.half} ({terms.documents})")
    said = [
        f"{e.label}: {documents(e.poisons)}, {e.decades:.1f} decades beyond the data"
        for e, _ in targets
    ]
    caption = (
        f"If the fitted law holds up to {' and '.join(e.label for e, _ in targets)} at {ratio:.3g} tokens "
        f"per parameter: {'; '.join(said)}. The grey region has no data."
    )
    rows = [
        (e.label, e.parameters, e.tokens, six_digits(e.decades), *ends(e.poisons))
        for e, _ in targets
    ]
    header = ("label", "parameters", "tokens", "decades_beyond", "n50", "low", "high")
    return Drawing("extrapolation", "Beyond the data", caption, figure, header, rows)
