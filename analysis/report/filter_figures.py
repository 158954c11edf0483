"""Figures of an audit: what filters catch and what they cost."""

from __future__ import annotations

from collections.abc import Iterator

from matplotlib.axes import Axes

from analysis.design import economics
from analysis.fit.laws import N50
from analysis.fit.words import shortened
from analysis.measures.axes import GREY, SIZE_COLOURS, legend, log_axes, panels
from analysis.measures.drawing import Drawing, six_digits
from analysis.read.audits import Audit, Chain, Tally

_RECALLS = (0.5, 0.9, 0.99)


def draw_recall(audit: Audit) -> Drawing:
    """Draw the share of poisons caught against the share of clean documents removed, a panel per attack."""
    fields = list(audit.attacks)
    figure, axes = panels(len(fields), height=3.6)
    figure.set_figwidth(max(figure.get_figwidth(), 6.4))
    rows = []
    for axis, field in zip(axes, fields, strict=True):
        for chain, colour, marker in _styles(audit):
            xs, ys = zip(*_path(chain, chain.attacks[field]), strict=True)
            axis.plot(xs, ys, "-", color=colour, linewidth=1.0, marker=".", markersize=3)
            own, clean = chain.attacks[field].share, chain.clean.share
            axis.errorbar(
                xs[-1],
                ys[-1],
                xerr=[[clean.value - clean.low], [clean.high - clean.value]],
                yerr=[[own.value - own.low], [own.high - own.value]],
                fmt=marker,
                color=colour,
                markersize=5,
                elinewidth=0.7,
                label=chain.name if chain.kind == "filter" else f"{chain.name} pipeline",
            )
            rows.append(
                (
                    *(audit.attacks[field], chain.kind, chain.name),
                    *(six_digits(v) for v in (clean.value, clean.low, clean.high)),
                    *(six_digits(v) for v in (own.value, own.low, own.high)),
                )
            )
        axis.plot([0, 1], [0, 1], color=GREY, linewidth=0.7, zorder=1)
        axis.set_title(shortened(audit.attacks[field]))
        axis.set_xlabel("clean documents removed")
        axis.set_xlim(-0.03, 1.03)
        axis.set_ylim(-0.03, 1.03)
    axes[0].set_ylabel("poisons caught")
    legend(figure, axes, columns=5)
    ends = tuple(
        f"{name} {end}" for name in ("clean", "caught") for end in ("share", "low", "high")
    )
    return Drawing(
        "filters",
        "What filters catch, and what they cost",
        "Share of poisons caught against share of clean documents removed, with 95% intervals (Wilson). The "
        "line of a pipeline passes through what its first filters do together. On the grey line a filter "
        "removes poisons and clean documents alike.",
        figure,
        ("attack", "kind", "filter", *ends),
        rows,
    )


def draw_submitted(audit: Audit, n50s: list[N50]) -> Drawing:
    """Draw N50 submitted against the share of clean documents removed, a panel per group."""
    figure, axes = panels(len(n50s), height=3.6)
    figure.set_figwidth(max(figure.get_figwidth(), 6.4))
    first = next(iter(audit.attacks))
    rows = []
    for axis, n50 in zip(axes, n50s, strict=True):
        for chain, colour, marker in _styles(audit):
            clean = chain.clean.share.value
            found = economics.submitted(n50.poisons, chain.attacks[first].survival)
            label = chain.name if chain.kind == "filter" else f"{chain.name} pipeline"
            rows.append((n50.group.label, chain.kind, chain.name, six_digits(clean), *_ends(found)))
            if found.value is None:  # none passed: an arrow from the lower limit
                if found.low is not None:
                    axis.plot(
                        clean,
                        found.low,
                        "^",
                        color=colour,
                        label=label,
                        markersize=7,
                        fillstyle="none",
                    )
                continue
            low = found.value if found.low is None else found.low
            high = found.value if found.high is None else found.high
            axis.errorbar(
                clean,
                found.value,
                yerr=[[found.value - low], [high - found.value]],
                fmt=marker,
                color=colour,
                markersize=5,
                elinewidth=0.7,
                label=label,
            )
        _mark_recalls(axis, n50)
        log_axes(axis, "y")
        axis.set_title(shortened(n50.group.label))
        axis.set_xlabel("clean documents removed")
        axis.set_xlim(-0.03, 1.03)
    axes[0].set_ylabel("N50 submitted")
    legend(figure, axes, columns=5)
    return Drawing(
        "submitted",
        "What a defender's filter makes an attacker submit",
        "N50 submitted (95% interval) against the share of clean documents that the filter removes. Grey: "
        "N50 without a filter, and what a filter that catches 50%, 90% or 99% of poisons would require. "
        "Open triangles: no poison passed, and the lower limit is drawn.",
        figure,
        ("group", "kind", "filter", "clean share", "N50 submitted", "low", "high"),
        rows,
    )


def _mark_recalls(axis: Axes, n50: N50) -> None:
    assert n50.poisons.value is not None
    for recall in (0.0, *_RECALLS):
        y = n50.poisons.value / (1 - recall)
        axis.axhline(y, color=GREY, linewidth=0.7, zorder=1)
        words = "no filter" if recall == 0 else f"{recall:.0%}"
        axis.text(1.02, y, words, color=GREY, fontsize=7, va="bottom", ha="right")


def _styles(audit: Audit) -> Iterator[tuple[Chain, str, str]]:
    """Yield every chain with its colour and marker: pipelines are squares."""
    places = {"filter": 0, "pipeline": 0}
    markers = {"filter": "ov^P<", "pipeline": "sDX*"}
    for chain in audit.chains:
        place = places[chain.kind]
        places[chain.kind] += 1
        turns, colour = divmod(place, len(SIZE_COLOURS))
        own = markers[chain.kind]
        yield (
            chain,
            SIZE_COLOURS[colour],
            own[(place if chain.kind == "pipeline" else turns) % len(own)],
        )


def _path(chain: Chain, caught: Tally) -> list[tuple[float, float]]:
    """Return the shares that the first filters of a chain remove together, of clean documents and poisons."""
    if chain.kind == "filter":
        return [(chain.clean.share.value or 0.0, caught.share.value or 0.0)]
    points = [(0.0, 0.0)]
    clean = poisons = 0
    for name in chain.filters:
        clean += chain.clean.filters.get(name, 0)
        poisons += caught.filters.get(name, 0)
        points.append((clean / chain.clean.documents, poisons / caught.documents))
    # Poisons that lost their trigger on the way are known at the end.
    return [*points, (chain.clean.share.value or 0.0, caught.share.value or 0.0)]


def _ends(estimate) -> tuple[float | None, ...]:
    ends = (estimate.value, estimate.low, estimate.high)
    return tuple(None if end is None else six_digits(end) for end in ends)
