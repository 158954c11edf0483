"""The section on stages: success across chains, at the end of every stage, and what stages leave of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from analysis.fit.estimates import as_json
from analysis.fit.retention import LEARNT, Retention, attacks_of, find_retention
from analysis.fit.words import percent
from analysis.measures.blocks import Block, Heading, Paragraph, Picture, Table
from analysis.measures.drawing import Drawing
from analysis.read.chains import Chain, removes
from analysis.read.runs import Study
from analysis.read.terms import of_items
from analysis.report.chain_figures import draw_chain, draw_retention


def stage_figures(study: Study) -> list[Drawing]:
    """Return the figures of the section; none when the study has no stages."""
    drawings = [
        draw_chain(study.chains, attack, f"chain_{number}" if number > 1 else "chain")
        for number, attack in enumerate(_attacks(study.chains), 1)
    ]
    retained = find_retention(study.chains)
    return [*drawings, draw_retention(retained)] if retained else drawings


def stage_blocks(study: Study, pictures: list[Picture]) -> list[Block]:
    """Return the section around its pictures; nothing when the study has no stages."""
    if not study.chains:
        return []
    ends, retained = _ends(study.chains), find_retention(study.chains)
    blocks: list[Block] = [Heading("Stages"), *pictures]
    items = [attack for attack in _attacks(study.chains) if of_items(attack)]
    if items:
        blocks.append(
            Paragraph(
                f"In this section the success of {' and '.join(items)} is that of all items that a run or "
                "its ancestors show, whatever their numbers of exposures."
            )
        )
    blocks.append(
        Paragraph(
            "Success rate at the end of every stage, by path; the number of poisoned documents or "
            "counterexamples stands behind the stage that has them:"
        )
    )
    rows = tuple(
        (attack, size, words, percent(float(np.mean(rates))), ", ".join(map(percent, rates)))
        for attack, size, words, rates in ends
    )
    blocks.append(Table(("attack", "size", "path", "mean", "each seed"), rows))
    if retained:
        said = (
            "What a stage without poison leaves of the attack of its ancestors: success before and after it, "
            "and the share of success above the control's (the same stages without any poison, with the same "
            "seed if there is one) "
            f"that is left, for seeds that were at least {percent(LEARNT)} above their control before:"
        )
        header = ("attack", "size", "path", "before", "after", "share left (95% interval)")
        blocks += [Paragraph(said), Table(header, tuple(map(_row, retained)))]
    return blocks


def summarise_stages(study: Study) -> dict[str, Any] | None:
    """Return the numbers of the section for summary.json; None when the study has no stages."""
    if not study.chains:
        return None
    return {
        "ends": [
            {"attack": attack, "size": size, "path": words, "success": rates}
            for attack, size, words, rates in _ends(study.chains)
        ],
        "retention": [
            {
                "attack": one.attack,
                "size": one.chain.size,
                "path": one.chain.words,
                "seeds": [own.chain.seed for own in one.survivors],
                "before": [own.before for own in one.survivors],
                "after": [own.after for own in one.survivors],
                "share": [own.share for own in one.survivors],
                "mean_share": as_json(one.share),
            }
            for one in find_retention(study.chains)
        ],
    }


def _attacks(chains: tuple[Chain, ...]) -> list[str]:
    """Return the attacks whose success is shown; that of counterexamples is seen in what it removes."""
    return [name for name in attacks_of(chains) if not removes(name)]


def _ends(chains: tuple[Chain, ...]) -> list[tuple[str, str, str, list[float]]]:
    """Return attack, size, path and the success of each seed at the end of every run."""
    found: dict[tuple[str, str, str], list[float]] = {}
    for attack in _attacks(chains):
        for chain in sorted(chains, key=lambda c: c.seed):
            rate = chain.legs[-1].end(attack)
            if rate is not None:
                found.setdefault((attack, chain.size, chain.words), []).append(rate)
    order = {(c.size, c.words): place for place, c in enumerate(chains)}
    attacks = _attacks(chains)
    keys = sorted(found, key=lambda key: (attacks.index(key[0]), order[key[1:]]))
    return [(*key, found[key]) for key in keys]


def _row(one: Retention) -> tuple[str, ...]:
    share, words = one.share, "-"
    if share is not None and share.value is not None:
        words = percent(share.value)
        if share.low is not None and share.high is not None:
            words += f" ({percent(share.low)} to {percent(share.high)})"
    before = ", ".join(percent(own.before) for own in one.survivors)
    after = ", ".join(percent(own.after) for own in one.survivors)
    return (one.attack, one.chain.size, one.chain.words, before, after, words)
