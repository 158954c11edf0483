"""What the figures have in common: style, colours, axes, and the record of a finished figure."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from analysis.runs import Group, Run, Study, quantity
from analysis.words import brief

STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.edgecolor": "#555555",
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.6,
    "figure.dpi": 100,
    "savefig.dpi": 150,
    "svg.hashsalt": "poison_scaling",
    "text.parse_math": False,  # a $ in a name is a $
}
# Okabe and Ito (2008), in an order whose neighbours differ in lightness too.
SIZE_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000")
DASHES = ("-", "--", ":", "-.")
MARKERS = dict(zip(DASHES, "osD^", strict=True))
GREY = "#777777"


@dataclass(frozen=True)
class Drawing:
    """A figure with what it shows in words, and the numbers behind it."""

    name: str
    title: str
    caption: str
    figure: Figure
    header: tuple[str, ...]
    rows: list[tuple]

    def image(self, kind: Literal["png", "svg"]) -> bytes:
        """The rendered figure: the same bytes each time, so without a date."""
        buffer = io.BytesIO()
        nameless = {"png": {"Software": None}, "svg": {"Date": None}}[kind]
        with matplotlib.rc_context(STYLE):
            self.figure.savefig(buffer, format=kind, metadata=nameless)
        self.figure.set_layout_engine("none")  # the panels stay where the first rendering put them
        return buffer.getvalue()


def panels(count: int, height: float = 2.7, share: bool = True) -> tuple[Figure, list[Axes]]:
    """A figure of `count` panels, four in a row at most; `share`: one scale of y for all."""
    columns = min(4, count)
    rows = -(-count // columns)
    width = {1: 4.6, 2: 7.6}.get(columns, 2.45 * columns)
    figure = Figure(figsize=(width, height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharey=share).ravel()
    for unused in axes[count:]:
        unused.set_axis_off()
    return figure, list(axes[:count])


def trajectories(
    study: Study, values_of: Callable[[Run], np.ndarray | None]
) -> tuple[Figure, list[Axes], list[tuple], str]:
    """A line a poisoned run over the poisons that it has seen, a panel a size.

    Args:
      values_of: what is drawn of a run, shape [evaluations]; None leaves the run out.

    Returns:
      The figure; its panels; rows of group, run, dose, seed, poisons seen and value; and what a
      caption says of the lines, without a full stop.
    """
    groups = study.groups()
    sizes = list(dict.fromkeys(g.size for g in groups))
    doses = sorted({run.dose for run in study.runs if run.dose > 0})
    colours, dashes = dose_colours(doses), dash_styles(groups)
    figure, axes = panels(len(sizes))
    rows = []
    for axis, size in zip(axes, sizes, strict=True):
        for group in groups:
            for run in group.runs if group.size == size else ():
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
                    label=f"{run.dose:g} documents",
                )
                rows += [
                    (group.label, run.name, run.dose, run.seed, short(x), short(y))
                    for x, y in zip(seen, values, strict=True)
                ]
        counts(axis)
        axis.set_title(brief(size))
        axis.set_xlabel("poisoned documents seen")
    legend(figure, axes)
    lines = "One line a run"
    if any(style != "-" for style in dashes.values()):
        lines += " (dashed and dotted: the larger token budgets of a size)"
    return figure, axes, rows, lines


def dots(
    axis: Axes, x: np.ndarray, y: np.ndarray, size: np.ndarray, colours: dict[str, str], **style
) -> None:
    """A dot a value, all of shape [values], in the colour of its size."""
    for label, colour in colours.items():
        chosen = size == label
        axis.plot(x[chosen], y[chosen], "o", color=colour, label=label, **style)


def legend(figure: Figure, axes: list[Axes], columns: int = 6) -> None:
    """One legend below all panels, of every label once."""
    entries = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    figure.legend(
        entries.values(),
        map(brief, entries.keys()),
        loc="outside lower center",
        ncols=min(columns, len(entries)),
    )


def counts(axis: Axes, which: str = "x") -> None:
    """Logarithmic axes that read 100, 200, 500, 1k; call it when the limits are final."""
    for name in which:
        getattr(axis, f"set_{name}scale")("log")
        low, high = getattr(axis, f"get_{name}lim")()
        steps = (1, 2, 5) if high / low < 200 else (1,)
        ticks = getattr(axis, f"{name}axis")
        ticks.set_major_locator(LogLocator(subs=steps))
        ticks.set_major_formatter(FuncFormatter(lambda value, _: quantity(value)))
        ticks.set_minor_formatter(NullFormatter())


def rate_axis(axis: Axes) -> None:
    axis.set_ylim(-0.03, 1.03)
    axis.axhline(0.5, color=GREY, linewidth=0.7, zorder=1)


def size_colours(groups: list[Group]) -> dict[str, str]:
    sizes = [g.size for g in sorted(groups, key=lambda g: g.parameters)]
    unique = list(dict.fromkeys(sizes))
    return {size: SIZE_COLOURS[i % len(SIZE_COLOURS)] for i, size in enumerate(unique)}


def dash_styles(groups: list[Group]) -> dict[str, str]:
    """Line style of each group's label: by rank of the token budget within the size."""
    styles = {}
    for size in {g.size for g in groups}:
        same = [g.label for g in groups if g.size == size]
        styles |= {label: DASHES[i % len(DASHES)] for i, label in enumerate(same)}
    return styles


def dose_colours(doses: list[float]) -> dict[float, tuple]:
    positions = np.linspace(0.88, 0.0, max(len(doses), 2))
    return {d: matplotlib.colormaps["viridis"](p) for d, p in zip(doses, positions, strict=False)}


def short(value: float) -> float:
    """Six significant digits, enough for a figure's data."""
    return float(f"{value:.6g}")
