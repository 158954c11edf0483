"""Whether the insertions that share runs act independently, in the report."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from analysis.fit.interference import Comparison, compare
from analysis.fit.words import interval
from analysis.measures.base import Measure
from analysis.measures.blocks import Block, Bullets, Heading, Paragraph
from analysis.read.runs import Study


class Interference(Measure[tuple[list[Comparison], float]]):
    """How the success of an insertion changes with what else is in its runs."""

    name = "interference"
    order = 15

    def find(self, study: Study) -> tuple[list[Comparison], float] | None:
        others = max((run.others for run in study.runs), default=0.0)
        return (compare(study), others) if others else None

    def summarise(self, found: tuple[list[Comparison], float]) -> Any:
        comparisons, others = found
        return {
            "other_documents": others,
            "comparisons": [asdict(one) | {"found": one.found} for one in comparisons],
        }

    def blocks(self, found: tuple[list[Comparison], float]) -> list[Block]:
        comparisons, others = found
        heading = Heading("Interference between insertions")
        if not comparisons:
            return [
                heading,
                Paragraph(
                    f"Runs hold up to {others:g} documents of other insertions, and no two differ in these "
                    "alone, so whether insertions act independently cannot be tested."
                ),
            ]
        return [
            heading,
            Paragraph(
                "They do not act independently: an interval below excludes 0."
                if any(one.found for one in comparisons)
                else "No interference is seen: every interval below includes 0."
            ),
            Bullets(tuple(_words(one) for one in comparisons)),
        ]


def _words(one: Comparison) -> str:
    return (
        f"Beside {one.beside}, instead of {one.instead_of or 'nothing else'}, the success rate changes by "
        f"{interval(one.difference)} ({one.pairs} {'pair' if one.pairs == 1 else 'pairs'} of runs)."
    )
