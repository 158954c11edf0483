"""Figures of chains of stages: success along the way, and what a stage leaves of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from analysis.fit.retention import Retention
from analysis.fit.words import percent, shortened
from analysis.measures.axes import GREY, dose_colours, legend, panels, rate_axis, wrapped
from analysis.measures.drawing import Drawing, six_digits
from analysis.read.chains import COUNTEREXAMPLES, PRETRAINING, Chain, removes
from analysis.read.runs import quantity
from analysis.read.terms import TERMS, Terms

# Doses with the same success are this far apart.
_APART = 0.012
# What tells the colours of a figure apart: the place in the chain of the last poisons, and their number.
Key = tuple[int, float]


def draw_chain(chains: tuple[Chain, ...], attack: str, name: str) -> Drawing:
    """Draw the success of an attack over the tokens of whole chains, one panel per size and path."""
    measured = [c for c in chains if any(attack in leg.success for leg in c.legs)]
    paths = {(c.size, c.labels) for c in measured}
    shown = list(dict.fromkeys((c.size, c.labels) for c in measured if not _continued(c, paths)))
    colours, words = _keys(measured, attack)
    figure, axes = panels(len(shown), height=2.9)
    if len(shown) == 1:
        figure.set_figwidth(7.6)
    rows: list[tuple[Any, ...]] = []
    elsewhere = any(chain.before for chain in measured)
    without = "without poison in this study" if elsewhere else "without poison so far"
    for axis, (size, labels) in zip(axes, shown, strict=True):
        own = [c for c in measured if c.size == size and c.labels == labels[: len(c.labels)]]
        longest = next(c for c in own if c.labels == labels)
        _stages(axis, longest)
        # Poisoned lines lie on top of those of controls.
        for chain in sorted(own, key=lambda c: _key(c, attack) or (-1, 0.0)):
            key = _key(chain, attack)
            at, rates = _line(chain, attack)
            axis.plot(
                at,
                rates,
                color=GREY if key is None else colours[key],
                linewidth=0.9 if key is None else 1.2,
                alpha=0.85,
                marker=".",
                markersize=3,
                label=without if key is None else words[key],
            )
        rate_axis(axis)
        if len({c.size for c in measured}) > 1:
            axis.set_title(wrapped(size), pad=22 if len(labels) > 2 else 16)
        axis.set_xlabel("tokens of the whole chain")
    axes[0].set_ylabel(f"success rate\n({shortened(attack)})")
    legend(figure, axes, columns=5)
    for chain in measured:
        leg, begun = chain.legs[-1], chain.before + sum(leg.tokens for leg in chain.legs[:-1])
        dose = chain.last_dose(attack)
        about = (chain.size, chain.words, leg.run, chain.seed, leg.label, dose)
        for seen, rate in zip(leg.seen, leg.success.get(attack, ()), strict=False):
            rows.append((*about, six_digits(begun + seen), six_digits(rate)))
    caption = (
        "One line per run, from where its parent ended, with a dot at each evaluation; every stage has the "
        "same width, and numbers below are tokens of the whole chain at its borders. Colours are the last "
        "dose of the chain that bears on the attack."
    )
    if elsewhere:
        caption += " Ancestors in another study are not drawn."
    header = ("size", "path", "run", "seed", "stage", "last_dose", "chain_tokens", "success")
    title = f"Success across the chain: {attack.replace('_', ' ')}"
    return Drawing(name, title, caption, figure, header, rows)


def _continued(chain: Chain, paths: Iterable[tuple[str, tuple[str, ...]]]) -> bool:
    """Return whether another path continues that of a chain."""
    count = len(chain.labels)
    return any(
        size == chain.size and len(labels) > count and labels[:count] == chain.labels
        for size, labels in paths
    )


def _key(chain: Chain, attack: str) -> Key | None:
    place = chain.poisoned(attack)
    return None if place is None else (place, chain.last_dose(attack))


def _keys(chains: list[Chain], attack: str) -> tuple[dict[Key, Any], dict[Key, str]]:
    """Return colour and words of each dose."""
    keys = sorted({key for chain in chains if (key := _key(chain, attack)) is not None})
    places: dict[int, set[str]] = {}
    terms: dict[Key, Terms] = {}
    for chain in chains:
        if (key := _key(chain, attack)) is not None:
            leg = chain.legs[key[0]]
            places.setdefault(key[0], set()).add(leg.label)
            terms[key] = TERMS[COUNTEREXAMPLES] if removes(leg.attack) else Terms()
    words = {}
    for place, dose in keys:
        [label, *more] = sorted(places[place])
        where = f"stage {place}" if more else label
        words[place, dose] = f"{dose:g} {terms[place, dose].short}" + (
            f" in {where}" if len(places) > 1 or where == PRETRAINING else ""
        )
    ranks = dose_colours(range(len(keys)))
    return {key: ranks[rank] for rank, key in enumerate(keys)}, words


def _stages(axis: Axes, chain: Chain) -> None:
    """Draw the borders of the stages, with labels above and tokens below."""
    borders = np.cumsum([chain.before, *(leg.tokens for leg in chain.legs)])
    for place in range(1, len(chain.legs)):
        axis.axvline(place, color=GREY, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
    for place, leg in enumerate(chain.legs):
        # Neighbouring labels take turns in height, so that long ones do not meet.
        high = 1.08 if len(chain.legs) > 2 and place % 2 else 1.01
        at = (place + 0.5, high)
        along = axis.get_xaxis_transform()
        axis.text(*at, shortened(leg.label, 22), transform=along, ha="center", fontsize=7.5)
    axis.set_xlim(0, 1.01 * len(chain.legs))  # with room for the last dot
    ticks = [quantity(tokens) if tokens else "0" for tokens in borders]
    axis.set_xticks(range(len(borders)), ticks, fontsize=8)
    axis.grid(False, axis="x")


def _line(chain: Chain, attack: str) -> tuple[np.ndarray, np.ndarray]:
    """Return places along the axis and success of a chain's last leg, from the end of its parent."""
    leg, place = chain.legs[-1], len(chain.legs) - 1
    rates = leg.success.get(attack, np.zeros(0))
    at = place + leg.seen[: len(rates)] / leg.tokens
    before = chain.legs[-2].end(attack) if place else None
    if before is None or not len(rates):
        return at, rates
    return np.append(place, at), np.append(before, rates)


def draw_retention(found: list[Retention]) -> Drawing:
    """Draw success after a stage against success before it, one panel per size, path and attack."""
    several = len({one.attack for one in found}) > 1
    members: dict[str, list[Retention]] = {}
    for one in found:
        title = " → ".join(one.chain.labels)
        if len({other.chain.size for other in found}) > 1:
            title = f"{one.chain.size}: {title}"
        members.setdefault(f"{one.attack}, {title}" if several else title, []).append(one)
    doses = sorted({_dose(one) for one in found if not one.clean})
    colours = dose_colours(doses)
    figure, axes = panels(len(members), height=3.2)
    rows = []
    for axis, (title, own) in zip(axes, members.items(), strict=True):
        for share, style in ((1.0, "-"), (0.5, (0, (4, 3)))):
            label = "all is left" if share == 1 else "half is left"
            axis.plot([0, 1], [0, share], color=GREY, linewidth=0.8, linestyle=style, label=label)
        for one in own:
            apart = 0.0 if one.clean else _APART * (doses.index(_dose(one)) - (len(doses) - 1) / 2)
            axis.plot(
                [survivor.before + apart for survivor in one.survivors],
                [survivor.after for survivor in one.survivors],
                "o",
                color=GREY if one.clean else colours[_dose(one)],
                markersize=5,
                alpha=0.85,
                markeredgewidth=0,
                label="controls" if one.clean else f"{_dose(one):g} documents before",
            )
            for survivor in one.survivors:
                chain, share = survivor.chain, survivor.share
                about = (one.attack, chain.size, chain.words, chain.seed, _dose(one))
                rates = map(six_digits, (survivor.before, survivor.after))
                rows.append((*about, *rates, "" if share is None else six_digits(share)))
        axis.set_xlim(-0.03, 1.03)
        axis.set_ylim(-0.03, 1.03)
        axis.set_xticks((0, 0.5, 1))
        axis.set_title(wrapped(title))
        axis.set_xlabel("success rate before the stage")
    axes[0].set_ylabel("success rate after it")
    legend(figure, axes)
    told = [
        f"{one.chain.size}, {one.chain.words}: {percent(one.share.value)}"
        for one in found
        if one.share is not None and one.share.value is not None
    ]
    caption = (
        "One mark per run, before and after its last stage, which has no poison; doses are drawn "
        "slightly apart. Share of success above the control that is left, mean over seeds: "
        f"{'; '.join(told) or 'no run with a control had learnt the attack'}."
    )
    header = ("attack", "size", "path", "seed", "dose_before", "before", "after", "share_left")
    return Drawing("retention", "What a stage leaves", caption, figure, header, rows)


def _dose(one: Retention) -> float:
    return one.chain.last_dose(one.attack)
