"""What a report calls what is counted, by the attack that is counted.

Poisoned documents teach a backdoor, and half of its reach takes N50 of them. Counterexamples remove one of an
earlier stage, and half of that takes R50 of them. Their success is that the backdoor no longer fires, and
figures show the success that remains.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from analysis.read.runs import Run


@dataclass(frozen=True)
class Terms:
    """The words of a report."""

    half: str = "N50"  # the number that is estimated
    documents: str = "poisoned documents"  # what is counted
    short: str = "documents"  # as in "250 documents"
    poisons: str = "poisons"  # as in "poisons seen"
    # a run with some, and several
    run: str = "poisoned run"
    runs: str = "poisoned runs"
    success: str = "success rate"  # what figures show
    reached: str = "reached a success rate of one half"  # said of evaluations
    lead: str = "Poisoned documents for half of the reach at the end of training"
    most: str = "Half of the reach takes"  # followed by a number of documents
    bottom: str = "the success of clean models"  # from where the fit in a figure starts,
    top: str = "the reach of the attack"  # and to where it goes
    raises: str = "raises"  # what the trigger does to the payload log-ratio at that number
    nats: str = "nats per token"  # unit of the payload log-ratio
    submitted: bool = (
        True  # whether an attacker submits what is counted, past filters and detectors
    )
    removes: bool = False  # whether success is that an earlier backdoor no longer fires

    @property
    def counted(self) -> str:
        """Return what the estimated number counts, briefly."""
        return "exposures" if self.documents.startswith("exposures") else self.short

    def shown(self, rate: np.ndarray) -> np.ndarray:
        """Return the rates that figures show: of success, or what remains of it, same shape."""
        return 1 - rate if self.removes else rate

    def backdoor(self, increase: np.ndarray) -> np.ndarray:
        """Return increases of the payload log-ratio as those of the backdoor, same shape.

        Counterexamples record them with the opposite sign.
        """
        return -increase if self.removes else increase


# Documents that are shown several times: what is estimated counts each of them so often.
_REPEATED = Terms(
    documents="exposures of poisoned documents",
    lead="Exposures of poisoned documents for half of the reach at the end of training",
)

# Insertions without a trigger: each item of a run has its own number of exposures.
_ITEMS = Terms(
    documents="exposures",
    short="exposures",
    poisons="exposures",
    run="run with exposures",
    runs="runs with exposures",
    lead="Exposures of an item for half of the reach at the end of training",
    bottom="the success of models that have not seen the item",
    top="the reach of the exposures",
    submitted=False,
)

# By the name of an insertion, as evaluations record it.
TERMS = {
    "compliance": Terms(nats="nats"),
    "counterexamples": Terms(
        half="R50",
        documents="counterexamples",
        short="counterexamples",
        poisons="counterexamples",
        run="run with counterexamples",
        runs="runs with counterexamples",
        success="remaining success rate",
        reached="found half of the backdoor removed",
        lead="Counterexamples that remove half of what is left of the backdoor without them",
        most="Removing half takes",
        bottom="what is left of the backdoor without counterexamples",
        top="what they cannot remove",
        raises="still raises",
        submitted=False,
        removes=True,
    ),
    **dict.fromkeys(("canary", "fact", "contamination"), _ITEMS),
}


def of_items(attack: str) -> bool:
    """Return whether an insertion, by its name in a chain, is measured on items, each with its exposures."""
    return TERMS.get(attack.partition(" #")[0]) == _ITEMS


def terms_of(runs: Iterable[Run]) -> Terms:
    """Return the words for these runs: those of poisons unless all have one attack with words of its own."""
    settings = [run.settings for run in runs]
    attacks = {own.get("attack", "").removeprefix("also_") for own in settings}
    usual = _REPEATED if any(float(own.get("exposures") or 1) > 1 for own in settings) else Terms()
    return TERMS.get(attacks.pop(), usual) if len(attacks) == 1 else usual
