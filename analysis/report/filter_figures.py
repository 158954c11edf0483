"""Figures of an audit: what filters catch and what they cost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes

from analysis.design import economics
from analysis.fit.estimates import Estimate, wilson
from analysis.fit.words import shortened
from analysis.measures.axes import COLOURS, GREY, legend, log_axes, panels
from analysis.measures.drawing import Drawing, six_digits
from analysis.read.audits import Audit, Chain, Tally

_RECALLS = (0.5, 0.9, 0.99)


@dataclass(frozen=True)
class Joined:
    """N50 of a group of runs, with the attacks of these runs as the audit has them."""

    label: str  # of the group
    exposures: float  # of each document in training
    n50: Estimate  # in distinct documents, which are what an attacker submits
    fields: tuple[str, ...]  # of the attacks: several where siblings are read as one

    def survival(self, chain: Chain) -> Estimate:
        """Return the share of poisons that survive a chain of filters, with Wilson's interval."""
        own = [chain.attacks[field] for field in self.fields]
        documents = sum(tally.documents for tally in own)
        return wilson(documents - sum(tally.removed for tally in own), documents)

    def submitted(self, chain: Chain) -> Estimate:
        """Return the documents to submit so that N50 of them survive a chain of filters."""
        return economics.submitted(self.n50, self.survival(chain))


def removed(of: Tally) -> Estimate:
    """Return the share that is removed, with Wilson's interval."""
    return wilson(of.removed, of.documents)


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
            own, clean = removed(chain.attacks[field]), removed(chain.clean)
            _plot(axis, clean, own, color=colour, fmt=marker, label=chain.title)
            rows.append(
                (
                    *(audit.title(field), chain.kind, chain.name),
                    *(*_ends(clean), *_ends(own)),
                )
            )
        axis.plot([0, 1], [0, 1], color=GREY, linewidth=0.7, zorder=1)
        axis.set_title(shortened(audit.title(field)))
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


def draw_submitted(audit: Audit, joined: list[Joined]) -> Drawing:
    """Draw N50 submitted against the share of clean documents removed, a panel per group."""
    figure, axes = panels(len(joined), height=3.6)
    figure.set_figwidth(max(figure.get_figwidth(), 6.4))
    rows = []
    for axis, own in zip(axes, joined, strict=True):
        for chain, colour, marker in _styles(audit):
            clean, found = removed(chain.clean), own.submitted(chain)
            rows.append((own.label, chain.kind, chain.name, *_ends(clean)[:1], *_ends(found)))
            if found.value is not None:
                _plot(axis, clean, found, color=colour, fmt=marker, label=chain.title)
            elif found.low is not None:  # none passed
                limit = Estimate(found.low, None, None)
                _plot(
                    axis, clean, limit, color=colour, fmt="^", label=chain.title, fillstyle="none"
                )
        _mark_recalls(axis, own)
        log_axes(axis, "y")
        axis.set_title(shortened(own.label))
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


def draw_trade_off(audit: Audit, joined: list[Joined]) -> Drawing:
    """Draw N50 of attacks against the share of their poisons that survives, a panel per pipeline."""
    chains = [chain for chain in audit.chains if chain.kind == "pipeline"] or list(audit.chains)
    figure, axes = panels(len(chains), height=3.2)
    rows = []
    for axis, chain in zip(axes, chains, strict=True):
        for place, own in enumerate(joined):
            survived = own.survival(chain)
            colour = COLOURS[place % len(COLOURS)]
            # Where none survives, the upper limit is drawn.
            shown = survived if survived.value else Estimate(survived.high, None, None)
            style = "o" if survived.value else "<"
            _plot(axis, shown, own.n50, color=colour, fmt=style, label=own.label)
            rows.append((chain.title, own.label, *_ends(survived), *_ends(own.n50)))
        log_axes(axis, "y")
        axis.set_xscale("log")
        axis.set_title(shortened(chain.title))
        axis.set_xlabel("share that survives")
    axes[0].set_ylabel("N50 (documents)")
    legend(figure, axes, columns=4)
    return Drawing(
        "trade_off",
        "What passing a filter costs the attacker",
        "N50 of each variant against the share of its poisons that survives a pipeline (95% intervals). An "
        "attacker wants to be to the right, where filters pass poisons, and low, where few are needed. "
        "Triangles: none survived, and the upper limit is drawn.",
        figure,
        ("pipeline", "group", "survival", "low", "high", "N50", "low N50", "high N50"),
        rows,
    )


def _mark_recalls(axis: Axes, own: Joined) -> None:
    assert own.n50.value is not None
    for recall in (0.0, *_RECALLS):
        y = own.n50.value / (1 - recall)
        axis.axhline(y, color=GREY, linewidth=0.7, zorder=1)
        words = "no filter" if recall == 0 else f"{recall:.0%}"
        axis.text(1.02, y, words, color=GREY, fontsize=7, va="bottom", ha="right")


def _plot(axis: Axes, x: Estimate, y: Estimate, **style: Any) -> None:
    """Draw a point with its intervals, as far as they have ends."""

    def bars(of: Estimate) -> list[list[float]]:
        value = of.value or 0.0
        low, high = (value if end is None else end for end in (of.low, of.high))
        return [[max(value - low, 0.0)], [max(high - value, 0.0)]]

    style = {"markersize": 5, "elinewidth": 0.7, **style}
    axis.errorbar([x.value or 0.0], [y.value or 0.0], xerr=bars(x), yerr=bars(y), **style)


def _styles(audit: Audit) -> Iterator[tuple[Chain, str, str]]:
    """Yield every chain with its colour and marker: pipelines are squares."""
    places = {"filter": 0, "pipeline": 0}
    markers = {"filter": "ov^P<", "pipeline": "sDX*"}
    for chain in audit.chains:
        place = places[chain.kind]
        places[chain.kind] += 1
        turns, colour = divmod(place, len(COLOURS))
        own = markers[chain.kind]
        yield (
            chain,
            COLOURS[colour],
            own[(place if chain.kind == "pipeline" else turns) % len(own)],
        )


def _path(chain: Chain, caught: Tally) -> list[tuple[float, float]]:
    """Return the shares that the first filters of a chain remove together, of clean documents and poisons."""
    if chain.kind == "filter":
        return [(_part(chain.clean), _part(caught))]
    points = [(0.0, 0.0)]
    clean = poisons = 0
    for name in chain.filters:
        clean += chain.clean.filters.get(name, 0)
        poisons += caught.filters.get(name, 0)
        points.append((clean / chain.clean.documents, poisons / caught.documents))
    # Poisons that lost their trigger on the way are known at the end.
    return [*points, (_part(chain.clean), _part(caught))]


def _part(of: Tally) -> float:
    return of.removed / of.documents


def _ends(estimate: Estimate) -> tuple[float | None, ...]:
    ends = (estimate.value, estimate.low, estimate.high)
    return tuple(None if end is None else six_digits(end) for end in ends)
