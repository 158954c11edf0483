"""Figures of what was fitted: N50 and its law, variables compared, residuals, extrapolation."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.drawing import GREY, Drawing, counts, dots, legend, panels, short, size_colours
from analysis.estimates import Estimate
from analysis.findings import Findings
from analysis.laws import N50
from analysis.variables import NAMES
from analysis.words import brief, documents, interval


def half_doses(findings: Findings) -> Drawing:
    """N50 of each group with the fitted law and both pure laws."""
    groups = findings.observations.groups
    colours = size_colours(groups)
    figure, axes = panels(2, height=3.4)
    for axis, name, label in (
        (axes[0], "tokens", "training tokens"),
        (axes[1], "parameters", "parameters"),
    ):
        for n50 in findings.half_doses:
            point(axis, getattr(n50.group, name), n50, colours[n50.group.size])
        _law_lines(axis, findings, name, colours)
        axis.set_xlabel(label)
    values = [
        v
        for n in findings.half_doses
        for v in (n.poisons.value if n.censored is None else n.bound, n.poisons.low, n.poisons.high)
        if v is not None and n.tested[0] / 3 < v < n.tested[1] * 4
    ]
    # At least a factor of 16, so that flat looks flat and the fraction law fits in.
    middle, half = np.sqrt(min(values) * max(values)), np.sqrt(max(values) / min(values))
    axes[0].set_ylim(middle / max(1.5 * half, 4), middle * max(1.5 * half, 4))
    for axis in axes:
        counts(axis, "xy")
    axes[0].set_ylabel("N50 (poisoned documents)")
    legend(figure, axes, columns=5)
    rows = [
        (n.group.label, n.group.parameters, n.group.tokens, n.censored or "", *cells(n.poisons))
        for n in findings.half_doses
    ]
    law = findings.law
    said = []
    if law.a is not None and law.a.value is not None:
        said.append(f"with tokens, at fixed size, as T^{interval(law.a)}")
    if law.g is not None and law.g.value is not None:
        said.append(f"with parameters, at fixed tokens, as N^{interval(law.g)}")
    if law.varies == "ladder" and law.ladder.value is not None:
        said.append(f"along the ladder as N^{interval(law.ladder)}")
    caption = f"N50 goes {' and '.join(said)}. " if said else "No exponent is identified. "
    caption += (
        "Bars are 95% intervals, arrows bounds where N50 lies outside the doses. Thick lines "
        "are the fitted law; the grey ones what a pure count law and a pure fraction law would be."
    )
    header = ("group", "parameters", "tokens", "censored", "n50", "low", "high")
    return Drawing("n50", "N50 against tokens and parameters", caption, figure, header, rows)


def point(axis: Axes, x: float, n50: N50, colour: str) -> None:
    """One N50 with its interval, or an arrow from the bound that it lies beyond."""
    estimate = n50.poisons
    if n50.censored is None:
        low, high = estimate.low or n50.tested[0] / 10, estimate.high or n50.tested[1] * 10
        axis.plot([x, x], [low, high], color=colour, linewidth=1.2)
        axis.plot(x, estimate.value, "o", color=colour, markersize=6)
    else:
        up = n50.censored == "above"
        axis.annotate(
            "",
            xy=(x, n50.bound * (1.6 if up else 1 / 1.6)),
            xytext=(x, n50.bound),
            arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 1.4},
        )
        axis.plot(x, n50.bound, "_", color=colour, markersize=9, markeredgewidth=1.6)


def _law_lines(axis: Axes, findings: Findings, name: str, colours: dict[str, str]) -> None:
    """The fitted law within the data, and both pure laws through its centre."""
    groups = findings.observations.groups
    law = findings.law
    values = np.array([getattr(g, name) for g in groups])
    ends = np.array([values.min() / 1.3, values.max() * 1.3])
    middle = np.exp(np.log(values).mean())
    best = law.likelihood.best[0]
    axis.plot(ends, np.exp([best, best]), color=GREY, linewidth=1, label="count law")
    axis.plot(
        ends,
        np.exp(best) * ends / middle,
        color=GREY,
        linewidth=1,
        linestyle=(0, (4, 3)),
        label="fraction law",
    )
    for size, colour in colours.items():
        axis.plot([], [], "o", color=colour, markersize=6, label=size)
    for size, colour in colours.items():
        own = [g for g in groups if g.size == size and g.setting == groups[0].setting]
        if name == "parameters" or len(own) < 2 or law.a is None or law.a.value is None:
            continue
        line = np.geomspace(min(g.tokens for g in own), max(g.tokens for g in own), 30)
        _band(axis, line, [law.predict(t, own[0].parameters, own[0].setting) for t in line], colour)
    if name == "parameters" and law.varies in ("both", "ladder", "parameters"):
        tokens = np.array([g.tokens for g in groups])
        ratio = np.exp(np.mean(np.log(tokens / values)))
        line = np.geomspace(values.min(), values.max(), 30)
        budget = [ratio * n if law.varies != "parameters" else tokens[0] for n in line]
        predicted = [
            law.predict(t, n, groups[0].setting) for t, n in zip(budget, line, strict=True)
        ]
        _band(axis, line, predicted, "black")


def _band(axis: Axes, x: np.ndarray, predicted: list[Estimate], colour: str) -> None:
    known = [(v, p.exp()) for v, p in zip(x, predicted, strict=True) if p.value is not None]
    if not known:
        return
    at = [v for v, _ in known]
    axis.plot(at, [p.value for _, p in known], color=colour, linewidth=2.2, alpha=0.8)
    limits = [(p.low or 1e-3, p.high or 1e12) for _, p in known]
    axis.fill_between(at, *zip(*limits, strict=True), color=colour, alpha=0.12, linewidth=0)


def compared(findings: Findings) -> Drawing:
    """How much better than the poisons seen each other variable predicts."""
    shown = [v for v in findings.variables if v.gain is not None and not v.same_as_poisons]
    figure = Figure(figsize=(7.6, 1.3 + 0.35 * len(shown)), layout="constrained")
    axis = figure.subplots()
    for i, variable in enumerate(reversed(shown)):
        value, low, high = variable.gain
        axis.plot([low, high], [i, i], color="#0072B2", linewidth=1.4)
        axis.plot(value, i, "o", color="#0072B2")
    axis.set_yticks(range(len(shown)), [NAMES[v.name] for v in reversed(shown)])
    axis.set_ylim(-0.6, max(len(shown), 1) - 0.4)
    axis.axvline(0, color=GREY, linewidth=0.9)
    axis.set_xlabel("gain in predictive log density over poisons seen (nats a run)")
    said = []
    for variable in shown:
        value, low, high = variable.gain
        how = "worse" if high < 0 else "better" if low > 0 else "not distinguishably other"
        said.append(f"{NAMES[variable.name]} predicts {how} than poisons seen")
    same = [NAMES[v.name] for v in findings.variables if v.same_as_poisons]
    if findings.left_out is None:
        said = ["one size on one budget leaves nothing to predict"]
    caption = f"Leaving out one {findings.left_out or 'size'} at a time: " + "; ".join(said) + "."
    if same:
        caption += f" Proportional to the poisons seen here, so not told apart: {', '.join(same)}."
    rows = [
        (v.name, int(v.same_as_poisons), short(v.explained))
        + (("",) if v.score is None else (short(v.score),))
        + (("", "", "") if v.gain is None else tuple(map(short, v.gain)))
        for v in findings.variables
    ]
    header = ("variable", "same_as_poisons", "explained", "score", "gain", "low", "high")
    return Drawing("variables", "Which variable predicts best", caption, figure, header, rows)


def residuals(findings: Findings) -> Drawing:
    """What evaluations and runs differ by from the fit."""
    fit = findings.fit
    o = fit.observations
    colours = size_colours(list(o.groups))
    figure, axes = panels(2, height=3.0, share=False)
    sizes = np.array([g.size for g in o.groups])
    variance = o.prompts * fit.rate * (1 - fit.rate) * fit.shape.dispersion
    residual = (o.successes - o.prompts * fit.rate) / np.sqrt(np.maximum(variance, 1e-9))
    done = np.exp(o.progress)
    dots(axes[0], done, residual, sizes[o.group_of_evaluation], colours, markersize=2.6, alpha=0.6)
    axes[0].axhline(0, color=GREY, linewidth=0.8)
    axes[0].set_xlabel("share of training done")
    axes[0].set_ylabel("residual (standard deviations)")
    axes[0].set_title("evaluations")

    design = findings.law.likelihood.design @ findings.law.likelihood.best
    group = o.group[o.cluster]
    ratio = np.exp(fit.run_mean - design[group])
    jitter = 0.12 * (np.arange(len(group)) % 5 - 2) / 2
    dots(axes[1], group + jitter, ratio, sizes[group], colours, markersize=4, alpha=0.7)
    axes[1].axhline(1, color=GREY, linewidth=0.8)
    widest = max(2.0, 1.1 * np.exp(np.abs(np.log(ratio)).max()))
    axes[1].set_ylim(1 / widest, widest)
    counts(axes[1], "y")
    axes[1].set_title("runs")
    axes[1].set_ylabel("run's N50 / law")
    axes[1].set_xticks(
        range(len(o.groups)),
        [brief(g.label) for g in o.groups],
        rotation=30,
        ha="right",
        fontsize=7,
    )
    legend(figure, axes)
    outside = float((np.abs(residual) > 2).mean())
    spread = np.hypot(fit.shape.seed_sd, fit.shape.run_sd)
    caption = (
        f"{100 * outside:.1f}% of evaluations lie more than two standard deviations off (5% is "
        f"expected); runs of one group spread by a factor of {np.exp(spread):.2f} in N50 (one "
        "standard deviation)."
    )
    if findings.law.misfit is not None:
        misfit = findings.law.misfit
        how = "do not follow" if misfit < 0.05 else "are compatible with"
        caption += f" Group values {how} the law (p = {misfit:.2g})."
    rows = [
        (o.runs[r].name, short(d), short(e), short(f))
        for r, d, e, f in zip(o.run, done, residual, ratio[o.run], strict=True)
    ]
    header = ("run", "share_of_training", "residual", "run_n50_over_law")
    return Drawing("residuals", "What the fit leaves over", caption, figure, header, rows)


def extrapolation(findings: Findings) -> Drawing:
    """The law carried on to sizes that nobody trained, greyed."""
    groups = findings.observations.groups
    colours = size_colours(list(groups))
    ends = findings.extrapolations
    ratio = ends[0].tokens / ends[0].parameters
    low = min(g.parameters for g in groups)
    line = np.geomspace(low, max(e.parameters for e in ends), 30)
    largest = max(g.parameters for g in groups)
    figure, axes = panels(1, height=3.4)
    axis = axes[0]
    setting = groups[0].setting
    _band(axis, line, [findings.law.predict(ratio * n, n, setting) for n in line], GREY)
    for n50 in findings.half_doses:
        point(axis, n50.group.parameters, n50, colours[n50.group.size])
    for e in ends:
        bar = [e.poisons.low or e.poisons.value / 1e3, e.poisons.high or e.poisons.value * 1e3]
        axis.plot([e.parameters] * 2, bar, color=GREY, linewidth=1.2)
        axis.plot(e.parameters, e.poisons.value, "o", color="white", markeredgecolor=GREY)
        axis.annotate(e.label, (e.parameters, e.poisons.value), (5, 5), textcoords="offset points")
    axis.axvspan(largest * 1.3, line[-1] * 2.5, color="#f0f0f0", zorder=0)
    axis.set_xlim(low / 1.5, line[-1] * 2.5)
    values = [e.poisons.value for e in ends] + [
        n.poisons.value for n in findings.half_doses if n.censored is None
    ]
    axis.set_ylim(min(values) / 8, max(values) * 8)
    counts(axis, "xy")
    axis.set_xlabel("parameters")
    axis.set_ylabel("N50 (poisoned documents)")
    said = [
        f"{e.label}: {documents(e.poisons)}, {e.decades:.1f} decades beyond the data" for e in ends
    ]
    caption = (
        f"If the fitted law went on to {' and '.join(e.label for e in ends)} at {ratio:.3g} tokens "
        f"per parameter: {'; '.join(said)}. The grey region has no data."
    )
    rows = [(e.label, e.parameters, e.tokens, short(e.decades), *cells(e.poisons)) for e in ends]
    header = ("label", "parameters", "tokens", "decades_beyond", "n50", "low", "high")
    return Drawing("extrapolation", "Beyond the data", caption, figure, header, rows)


def cells(estimate: Estimate) -> tuple:
    """Value, low and high for a table of data; empty where unknown."""
    ends = (estimate.value, estimate.low, estimate.high)
    return tuple("" if end is None else short(end) for end in ends)
