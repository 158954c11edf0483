"""The figure of N50, or R50: against tokens and parameters, with the fitted law and both pure laws."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from analysis.fit.estimates import Estimate
from analysis.fit.findings import Findings, Model
from analysis.fit.laws import N50
from analysis.fit.words import interval, shortened
from analysis.measures.axes import GREY, legend, log_axes, panels, series_colours
from analysis.measures.drawing import Drawing, six_digits

# Series with a common x are this factor apart.
_APART = 1.05
# The range of the vertical axis is at least this factor from its middle to its ends, so that flat looks flat
# and the fraction law fits in.
_LEAST_HALF = 4.0


def draw_n50(findings: Findings, model: Model) -> Drawing:
    """Draw N50 of each group with the fitted law and both pure laws, against whatever varies."""
    study, terms = findings.study, findings.study.terms
    groups = model.dose_response.observations.groups
    colours = series_colours(groups)
    of_stage = " of the stage" if study.level else ""
    names = [
        (name, label)
        for name, label in (("tokens", f"training tokens{of_stage}"), ("parameters", "parameters"))
        if len({getattr(n.group, name) for n in findings.n50s}) > 1
    ]
    figure, axes = panels(max(len(names), 1), height=3.4)
    for axis, (name, label) in zip(axes, names, strict=False):
        for n50 in findings.n50s:
            apart = _APART ** (list(colours).index(n50.group.series) - (len(colours) - 1) / 2)
            x = getattr(n50.group, name) * (apart if len(colours) > 1 and name == "tokens" else 1)
            point(axis, x, n50, colours[n50.group.series])
        if not findings.withdrawn:
            _law_lines(axis, model, name, colours)
        axis.set_xlabel(label)
    for place, n50 in enumerate(() if names else findings.n50s):
        point(axes[0], place, n50, colours[n50.group.series])
    values = [*_values(findings), *([] if findings.withdrawn else _centre(model))]
    middle, half = np.sqrt(min(values) * max(values)), np.sqrt(max(values) / min(values))
    half = max(1.3 * half, _LEAST_HALF)
    axes[0].set_ylim(middle / half, middle * half)
    for axis in axes:
        log_axes(axis, "xy" if names else "y")
    axes[0].set_ylabel(f"{terms.half} ({terms.documents})")
    for series, colour in colours.items():
        axes[0].plot([], [], "o", color=colour, markersize=6, label=series)
    if names:
        legend(figure, axes, columns=5)
    else:
        labels = [shortened(n50.group.label) for n50 in findings.n50s]
        axes[0].set_xticks(range(len(labels)), labels, rotation=30, ha="right", fontsize=7)
        axes[0].set_xlim(-0.5, len(labels) - 0.5)
    rows = [
        (n.group.label, n.group.parameters, n.group.tokens, n.censored or "", *ends(n.poisons))
        for n in findings.n50s
    ]
    header = ("group", "parameters", "tokens", "censored", "n50", "low", "high")
    against = " and ".join(label for _, label in names)
    title = f"{terms.half} against {against}" if against else terms.half
    return Drawing("n50", title, _caption(findings, model, bool(names)), figure, header, rows)


def _caption(findings: Findings, model: Model, varies: bool) -> str:
    law, half = model.law, findings.study.terms.half
    said = []
    if law.a is not None and law.a.value is not None:
        said.append(f"with tokens, at fixed size, as T^{interval(law.a)}")
    if law.g is not None and law.g.value is not None:
        said.append(f"with parameters, at fixed tokens, as N^{interval(law.g)}")
    if law.varies == "ladder" and law.ladder is not None and law.ladder.value is not None:
        said.append(f"along the ladder as N^{interval(law.ladder)}")
    known = said and not findings.withdrawn
    caption = f"{half} scales {' and '.join(said)}. " if known else "No exponent is identified. "
    caption += f"Bars are 95% intervals; arrows are bounds of a {half} outside the doses."
    if varies and not findings.withdrawn:
        caption += (
            " Thick lines with bands are the fitted law with its 95% interval; grey lines a pure count law "
            "(slope 0) and a pure fraction law (slope 1)."
        )
    return caption


def _values(findings: Findings) -> list[float]:
    """Return the values that the vertical axis must hold: dots, arrows, and ends of bars near the doses."""
    values = []
    for n50 in findings.n50s:
        if n50.bound is not None:
            values += [n50.bound, arrow_end(n50)]
            continue
        lowest, highest = n50.tested[0] / 3, n50.tested[1] * 4
        own = (n50.poisons.value, n50.poisons.low, n50.poisons.high)
        values += [v for v in own if v is not None and lowest < v < highest]
    return values or [end for n50 in findings.n50s for end in n50.tested]


def _log_centre(model: Model) -> float:
    """Return the law's log N50 at the centre of the data, mean over series."""
    groups, law = model.dose_response.observations.groups, model.law
    tokens, parameters = (
        float(np.exp(np.mean(np.log([getattr(g, name) for g in groups]))))
        for name in ("tokens", "parameters")
    )
    settings = dict.fromkeys(g.setting for g in groups)
    values = [law.predict(tokens, parameters, setting).value for setting in settings]
    known = [value for value in values if value is not None]
    return float(np.mean(known) if known else law.likelihood.best[0])


def _centre(model: Model) -> list[float]:
    """Return the law's N50 at the centre of the data, unless it is far from every dose."""
    groups = model.dose_response.observations.groups
    doses = [group.exposures * dose for group in groups for dose in group.doses if dose > 0]
    centre = float(np.exp(_log_centre(model)))
    return [centre] if min(doses) / 10 < centre < max(doses) * 10 else []


def drawn(n50s: list[N50]) -> list[N50]:
    """Return those that `point` draws: not those that are withdrawn, or of which nothing is known."""
    return [n for n in n50s if n.bound is not None or n.poisons.value is not None]


def arrow_end(n50: N50) -> float:
    """Return where the arrow of an N50 outside the doses ends."""
    assert n50.bound is not None
    return n50.bound * (1.6 if n50.censored == "above" else 1 / 1.6)


def point(axis: Axes, x: float, n50: N50, colour: Any) -> None:
    """Plot one N50 with its interval, or an arrow from the bound that it lies beyond."""
    estimate = n50.poisons
    if n50.bound is None and estimate.value is not None:
        low, high = estimate.low or n50.tested[0] / 10, estimate.high or n50.tested[1] * 10
        axis.plot([x, x], [low, high], color=colour, linewidth=1.2)
        axis.plot(x, estimate.value, "o", color=colour, markersize=6)
    elif n50.bound is not None:
        axis.annotate(
            "",
            xy=(x, arrow_end(n50)),
            xytext=(x, n50.bound),
            arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 1.4},
        )
        axis.plot(x, n50.bound, "_", color=colour, markersize=9, markeredgewidth=1.6)


def _law_lines(axis: Axes, model: Model, name: str, colours: dict[str, Any]) -> None:
    """Plot the fitted law within the data, and both pure laws through its centre."""
    groups, law = model.dose_response.observations.groups, model.law
    values = np.array([getattr(g, name) for g in groups])
    across = np.array([values.min() / 1.3, values.max() * 1.3])
    middle = np.exp(np.log(values).mean())
    centre = np.exp(_log_centre(model))
    flat, rising = np.array([centre, centre]), centre * across / middle
    axis.plot(across, flat, color=GREY, linewidth=1, label="slope 0: count law")
    dashed = (0, (4, 3))
    axis.plot(
        across, rising, color=GREY, linewidth=1, linestyle=dashed, label="slope 1: fraction law"
    )
    if name == "tokens" and law.a is not None and law.a.value is not None:
        for series, colour in colours.items():
            own = [g for g in groups if g.series == series]
            if len(own) > 1:
                tokens = [g.tokens for g in own]
                line = np.geomspace(min(tokens), max(tokens), 30)
                band(
                    axis,
                    line,
                    [law.predict(t, own[0].parameters, own[0].setting) for t in line],
                    colour,
                )
    if name == "parameters" and law.varies in ("both", "ladder", "parameters"):
        tokens = np.array([g.tokens for g in groups])
        ratio = np.exp(np.mean(np.log(tokens / values)))
        line = np.geomspace(values.min(), values.max(), 30)
        budget = [ratio * n if law.varies != "parameters" else tokens[0] for n in line]
        predicted = [
            law.predict(t, n, groups[0].setting) for t, n in zip(budget, line, strict=True)
        ]
        band(axis, line, predicted, "black")


def band(axis: Axes, x: np.ndarray, predicted: list[Estimate], colour: Any) -> None:
    """Plot exp(predicted) over x, with its interval."""
    known = [(v, p.exp()) for v, p in zip(x, predicted, strict=True) if p.value is not None]
    if not known:
        return
    at = [v for v, _ in known]
    axis.plot(at, [p.value for _, p in known], color=colour, linewidth=2.2, alpha=0.8)
    low, high = [p.low or 1e-3 for _, p in known], [p.high or 1e12 for _, p in known]
    axis.fill_between(at, low, high, color=colour, alpha=0.12, linewidth=0)


def ends(estimate: Estimate) -> tuple[Any, ...]:
    """Return value, low and high for the data of a figure; "" for open ends."""
    ends = (estimate.value, estimate.low, estimate.high)
    return tuple("" if end is None else six_digits(end) for end in ends)
