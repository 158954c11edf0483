"""Panels, axes, colours and legends that figures share."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from analysis.fit.words import shortened
from analysis.measures.drawing import six_digits
from analysis.read.runs import Group, Run, Study, quantity

# Okabe and Ito (2008), ordered so that neighbours also differ in lightness.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000")
DASHES = ("-", "--", ":", "-.")
MARKERS = dict(zip(DASHES, "osD^", strict=True))
GREY = "#777777"

_LABEL_CHARACTERS, _TITLE_CHARACTERS = 70, 26
# About the widths of a legend's handle with its spaces and of a character of its labels, and the height of a
# line.
_HANDLE_INCHES, _CHARACTER_INCHES, _LINE_INCHES = 0.6, 0.08, 0.2


def panels(count: int, height: float = 2.7, share: bool = True) -> tuple[Figure, list[Axes]]:
    """Return a figure of `count` panels, at most four in a row; `share` gives all the same y axis."""
    columns = 3 if count in (5, 6, 9) else min(4, count)
    rows = -(-count // columns)
    width = {1: 4.6, 2: 7.6}.get(columns, 2.45 * columns)
    figure = Figure(figsize=(width, height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharey=share).ravel()
    for unused in axes[count:]:
        unused.set_axis_off()
    return figure, list(axes[:count])


def trajectories(
    study: Study, values_of: Callable[[Run], np.ndarray | None]
) -> tuple[Figure, list[Axes], list[tuple[Any, ...]], str]:
    """Draw one line per poisoned run over the poisons seen, one panel per series.

    `values_of` returns what is drawn of a run, shape [evaluations], or None to leave it out.

    Returns the figure; its panels; rows of group, run, dose, seed, poisons seen and value; and the beginning
    of a caption, without a full stop.
    """
    groups, terms = study.groups(), study.terms
    series = list(series_colours(groups))
    doses = sorted({run.dose for run in study.runs if run.dose > 0})
    colours, dashes = dose_colours(doses), dash_styles(groups)
    figure, axes = panels(len(series))
    rows: list[tuple[Any, ...]] = []
    for axis, own in zip(axes, series, strict=True):
        for group in groups:
            for run in group.runs if group.series == own else ():
                seen, values = run.evaluations["poisons"], values_of(run)
                if run.dose == 0 or not (seen > 0).any() or values is None:
                    continue
                axis.plot(
                    seen[seen > 0],
                    values[seen > 0],
                    dashes[group.label],
                    color=colours[run.dose],
                    linewidth=1.1,
                    alpha=0.85,
                    label=f"{run.dose:g} {terms.short}",
                )
                rows += [
                    (group.label, run.name, run.dose, run.seed, six_digits(x), six_digits(y))
                    for x, y in zip(seen, values, strict=True)
                ]
        log_axes(axis)
        axis.set_title(wrapped(own))
        axis.set_xlabel(f"{terms.poisons} seen")
    legend(figure, axes)
    lines = "One line per run"
    if any(style != "-" for style in dashes.values()):
        lines += " (dashed and dotted: larger token budgets)"
    return figure, axes, rows, lines


def dots(
    axis: Axes,
    x: np.ndarray,
    y: np.ndarray,
    series: np.ndarray,
    colours: dict[str, Any],
    **style: Any,
) -> None:
    """Plot dots in the colours of their series; `x`, `y` and `series` have shape [dots]."""
    for label, colour in colours.items():
        chosen = series == label
        axis.plot(x[chosen], y[chosen], "o", color=colour, label=label, **style)


def legend(figure: Figure, axes: Iterable[Axes], columns: int = 6) -> None:
    """Draw one legend below all panels, with each label once, in as many columns as fit.

    There are at most `columns`; the figure grows by the height of further lines.
    """
    entries: dict[str, Any] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    if not entries:
        return
    labels = [shortened(label, _LABEL_CHARACTERS) for label in entries]
    widest = _HANDLE_INCHES + _CHARACTER_INCHES * max(map(len, labels))
    columns = max(1, min(columns, len(labels), int(figure.get_figwidth() / widest)))
    lines = -(-len(labels) // columns)
    figure.set_figheight(figure.get_figheight() + _LINE_INCHES * (lines - 1))
    figure.legend(list(entries.values()), labels, loc="outside lower center", ncols=columns)


def log_axes(axis: Axes, which: str = "x") -> None:
    """Make axes logarithmic with labels like 100, 200, 500, 1k; call it when the limits are final."""
    for name in which:
        getattr(axis, f"set_{name}scale")("log")
        low, high = getattr(axis, f"get_{name}lim")()
        steps = (1, 2, 5) if high / low < 200 else (1,)
        ticks = getattr(axis, f"{name}axis")
        ticks.set_major_locator(LogLocator(subs=steps))
        ticks.set_major_formatter(FuncFormatter(lambda value, _: quantity(value)))
        ticks.set_minor_formatter(NullFormatter())


def rate_axis(axis: Axes) -> None:
    """Make y an axis of success rates, with a line at half."""
    axis.set_ylim(-0.03, 1.03)
    axis.axhline(0.5, color=GREY, linewidth=0.7, zorder=1)


def wrapped(title: str) -> str:
    """Return the title of a panel on as many lines as it takes."""
    return "\n".join(textwrap.wrap(title, _TITLE_CHARACTERS, break_on_hyphens=False))


def series_colours(groups: Sequence[Group]) -> dict[str, Any]:
    """Return the colour of each series, small sizes first."""
    series = list(dict.fromkeys(g.series for g in sorted(groups, key=lambda g: g.parameters)))
    if len(series) > len(COLOURS):
        spread = np.linspace(0.05, 0.95, len(series))
        return dict(zip(series, map(tuple, matplotlib.colormaps["turbo"](spread)), strict=True))
    return dict(zip(series, COLOURS, strict=False))


def dash_styles(groups: Sequence[Group]) -> dict[str, str]:
    """Return the line style of each label of a group, by rank of the token budget within the series."""
    styles: dict[str, str] = {}
    for series in {g.series for g in groups}:
        same = [g.label for g in groups if g.series == series]
        styles |= {label: DASHES[i % len(DASHES)] for i, label in enumerate(same)}
    return styles


def dose_colours(doses: Sequence[float]) -> dict[float, tuple[float, ...]]:
    """Return the colour of each dose, from light to dark."""
    positions = np.linspace(0.88, 0.0, max(len(doses), 2))
    return {d: matplotlib.colormaps["viridis"](p) for d, p in zip(doses, positions, strict=False)}
