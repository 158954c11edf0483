"""The cost of an attack without the trigger: each run against its control.

A run and its control share seeds, clean data and size, and differ in the poisons alone. Their difference is
the effect of the poisons, and its interval is a t interval over pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.fit.estimates import Estimate, as_json, mean_of
from analysis.fit.words import interval
from analysis.measures.base import Measure
from analysis.measures.blocks import Block, Paragraph, Table
from analysis.read.runs import Run, Study
from analysis.read.terms import Terms

# What is measured without the trigger, in nats per token.
QUANTITIES = {
    "heldout_loss": "held-out loss",
    "log_perplexity": "log-perplexity of generations without the trigger",
}


@dataclass(frozen=True)
class Cost:
    """Poisoned run minus control at the end of training, over pairs."""

    quantity: str  # key of `QUANTITIES`
    group: str | None  # label of the group; None for all groups
    dose: float  # of the poisoned runs
    control: float  # mean of the controls, nats per token
    difference: np.ndarray  # of each pair, nats per token, shape [pairs]
    mean: Estimate  # of `difference`
    terms: Terms  # the words for the runs


def costs(study: Study) -> list[Cost]:
    """Return the costs by quantity and dose: of each group, then of all; [] without pairs."""
    found = []
    for quantity in QUANTITIES:
        doses = sorted({run.dose for run in study.runs if run.dose > 0})
        for dose in doses:
            pairs = {}
            for group in study.groups():
                own = [
                    (value, base)
                    for run in group.runs
                    if run.dose == dose
                    for control in group.runs
                    if control.dose == 0 and control.seed == run.seed
                    if (value := _at_the_end(run, quantity)) is not None
                    if (base := _at_the_end(control, quantity)) is not None
                ]
                if own:
                    pairs[group.label] = np.array(own)
            found += [
                _cost(quantity, label, dose, own, study.terms) for label, own in pairs.items()
            ]
            if len(pairs) > 1:
                every = np.concatenate(list(pairs.values()))
                found.append(_cost(quantity, None, dose, every, study.terms))
    return found


def _cost(quantity: str, group: str | None, dose: float, pairs: np.ndarray, terms: Terms) -> Cost:
    difference = pairs[:, 0] - pairs[:, 1]
    control = float(pairs[:, 1].mean())
    return Cost(quantity, group, dose, control, difference, mean_of(difference), terms)


def _at_the_end(run: Run, quantity: str) -> float | None:
    """Return the quantity at the last evaluation of a run trained to its end, mean over prompts."""
    if not run.records or run.evaluations["tokens"][-1] < 0.999 * run.tokens:
        return None
    last = run.records[-1]
    if quantity == "heldout_loss":
        return last.heldout_loss
    return None if last.log_perplexity is None else float(last.log_perplexity[0].mean())


class CleanAccuracyMeasure(Measure[list[Cost]]):
    """The cost of an attack without the trigger."""

    name = "clean_accuracy"
    order = 40

    def find(self, study: Study) -> list[Cost]:
        return costs(study)

    def summarise(self, found: list[Cost]) -> list[dict[str, Any]]:
        return [
            {
                "measure": cost.quantity,
                "group": cost.group,
                "dose": cost.dose,
                "pairs": len(cost.difference),
                "control": cost.control,
                "difference": as_json(cost.mean),
            }
            for cost in found
        ]

    def blocks(self, found: list[Cost]) -> list[Block]:
        if not found:
            return []
        terms = found[0].terms
        rows = tuple(
            (
                QUANTITIES[cost.quantity],
                cost.group or "all",
                f"{cost.dose:g}",
                str(len(cost.difference)),
                f"{cost.control:.3f}",
                interval(cost.mean, 3),
            )
            for cost in found
        )
        header = (
            "quantity",
            "size and budget",
            "dose",
            "pairs",
            "controls",
            f"{terms.run} minus control (95% interval)",
        )
        return [
            Paragraph(
                f"Cost of {'counterexamples' if terms.removes else 'the attack'} without the trigger, in "
                f"nats per token: each {terms.run} minus the control with the same seeds, at the end of "
                "training:"
            ),
            Table(header, rows),
        ]
