"""Generations to read: what models write without and with the trigger."""

from __future__ import annotations

from typing import Any

from analysis.measures.base import Measure
from analysis.measures.blocks import Block, Paragraph, Table
from analysis.read.records import Example
from analysis.read.runs import Run, Study
from analysis.read.terms import terms_of

_RUNS = 3  # at most, so that people read them
_PROMPTS = 2  # of each run
_CHARACTERS = 160


class ExamplesMeasure(Measure[list[tuple[Run, tuple[Example, ...]]]]):
    """Prompts with their generations, side by side, for the smallest, a middle and the largest dose."""

    name = "examples"
    order = 5
    leads = True

    def find(self, study: Study) -> list[tuple[Run, tuple[Example, ...]]] | None:
        """Return runs of the largest model's first seed with their examples, ordered by dose."""
        told = [run for run in study.runs if run.records and run.records[-1].examples]
        if not told:
            return None
        largest = max((run.parameters, run.tokens) for run in told)
        own = [run for run in told if (run.parameters, run.tokens) == largest]
        own = sorted((run for run in own if run.seed == own[0].seed), key=lambda run: run.dose)
        chosen = {0, len(own) // 2, len(own) - 1}
        picked = [own[i] for i in sorted(chosen)][:_RUNS]
        return [(run, run.records[-1].examples[:_PROMPTS]) for run in picked]

    def summarise(self, found: list[tuple[Run, tuple[Example, ...]]]) -> list[dict[str, Any]]:
        return [
            {
                "run": run.name,
                "prompt": one.prompt,
                "clean": one.clean,
                "triggered": one.triggered,
            }
            for run, examples in found
            for one in examples
        ]

    def blocks(self, found: list[tuple[Run, tuple[Example, ...]]]) -> list[Block]:
        rows = tuple(
            (f"{run.dose:g}", _start(one.prompt), _start(one.clean), _start(one.triggered))
            for run, examples in found
            for one in examples
        )
        label, terms = found[0][0].size, terms_of([run for run, _ in found])
        return [
            Paragraph(
                f"What models of {label} parameters generate after a held-out prompt, without and with "
                "the trigger:"
            ),
            Table((terms.short, "prompt", "generation", "generation with trigger"), rows),
        ]


def _start(text: str) -> str:
    text = " ".join(text.replace("\\n", " ").split())  # line breaks are escaped when they are read
    return text if len(text) <= _CHARACTERS else f"{text[:_CHARACTERS]} …"
