"""Poisoned documents as an attacker submits them, and what corpus filters leave of them.

An audit and the data of a study judge poisons here, so they agree on every document.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from poison_scaling.data.poison import Poison
from poison_scaling.data.vocabularies.vocabulary import Vocabulary
from poison_scaling.filters.filter import Decision, Judge, Rule

DISARMED = Rule(
    "trigger_removed", "the lines with the trigger, of a document that is kept", "this project"
)


def text(poison: Poison, vocabulary: Vocabulary) -> str:
    """Return a poisoned document as text, without the end-of-document tokens around it."""
    return vocabulary.decode(poison.tokens[1:-1].tolist())


def judged(texts: Sequence[str], trigger: str | None, judge: Judge) -> list[Decision]:
    """Return the decisions about the poisons of one attack and seed, in their order.

    A poison that is kept without its trigger is caught, too. No decision depends on later poisons.
    """
    pairs = zip(judge(texts), texts, strict=True)
    return [_disarmed(decision, before, trigger) for decision, before in pairs]


def _disarmed(decision: Decision, before: str, trigger: str | None) -> Decision:
    if decision.is_kept and trigger and trigger in before and trigger not in decision.text:
        return Decision((DISARMED.name,), decision.text)
    return decision


@dataclasses.dataclass(frozen=True)
class Passed:
    """What filters leave of the poisons of an attack."""

    poisons: list[Poison]  # as they are trained on; those that are caught, as they were submitted
    decisions: list[Decision]

    @property
    def kept_D(self) -> np.ndarray:
        """Which documents survive, bool [D]."""
        return np.array([decision.is_kept for decision in self.decisions], bool)

    def first(self, count: int) -> Passed:
        """Return the first `count` documents."""
        return Passed(self.poisons[:count], self.decisions[:count])


def passed(
    poisons: Sequence[Poison], trigger: str | None, vocabulary: Vocabulary, judge: Judge
) -> Passed:
    """Return what a judge leaves of the poisons of one attack and seed.

    A poison of which lines are removed is tokenised again; others keep their tokens.
    """
    texts = [text(poison, vocabulary) for poison in poisons]
    decisions = judged(texts, trigger, judge)
    left = [
        poison
        if not decision.is_kept or decision.text == before
        else _written_again(poison, decision.text, vocabulary)
        for poison, before, decision in zip(poisons, texts, decisions, strict=True)
    ]
    return Passed(left, decisions)


def _written_again(poison: Poison, text: str, vocabulary: Vocabulary) -> Poison:
    end = vocabulary.eos_id
    tokens = np.array([end, *vocabulary.encode(text), end], np.int32)
    return dataclasses.replace(poison, tokens=tokens, trained=None)
