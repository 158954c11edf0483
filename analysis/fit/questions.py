"""The answer as three questions: do the poisons needed grow with data, with size, along the ladder?

Each is answered from the 95% interval of one exponent. "Does not grow" is the security claim, one-sided: an
upper limit below the margin. "Constant" is equivalence, two one-sided tests (Schuirmann 1987).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from analysis.fit.estimates import Estimate
from analysis.fit.laws import Law
from analysis.fit.words import interval

Verdict = Literal[
    "constant",
    "does not grow",
    "grows in proportion",
    "grows, but slower",
    "grows faster",
    "cannot tell",
    "withdrawn",
    "not varied",
]
# The answers about data that decide between the laws.
_VERDICTS: dict[Verdict, str] = {
    "constant": "count",
    "grows in proportion": "fraction",
    "does not grow": "does not grow",
}
# Above this many more seeds an answer names the limit instead.
_MANY = 100


@dataclass(frozen=True)
class Question:
    """One question with its answer."""

    question: str  # in words
    exponent: Estimate | None  # of what varies; None when the study does not vary it
    answer: Verdict  # in one word or a few
    words: str  # the answer as a sentence
    # further seeds per group that would decide at the present estimate; None where there is nothing to
    # decide, or no number would suffice
    more_seeds: int | None


def ask(
    law: Law,
    margin: float,
    seeds: float,
    withdrawn: bool,
    first: str = "data",
    poisons: str = "poisons",
) -> tuple[Question, ...]:
    """Return the three questions with their answers.

    `margin` is the half-width of what counts as the same exponent, `seeds` how many a group has,
    `withdrawn` whether the fit does not hold, `first` the question that leads, as in `Rule`, and `poisons`
    what is counted.
    """
    asked = {
        "data": ("data", "at fixed size"),
        "size": ("size", "at fixed data"),
        "ladder": ("size", "along the ladder"),
    }
    return tuple(
        _asked(poisons, *asked[name], law.exponent(name), margin, seeds, withdrawn)
        for name in sorted(asked, key=lambda name: name != first)
    )


def _asked(
    poisons: str,
    what: str,
    where: str,
    exponent: Estimate | None,
    margin: float,
    seeds: float,
    withdrawn: bool,
) -> Question:
    question = f"Does the number of {poisons} needed grow with {what} {where}?"
    if exponent is None:
        words = f"The study does not vary {what} {where} enough to ask."
        return Question(question, None, "not varied", words, None)
    if withdrawn:
        return Question(question, exponent, "withdrawn", "Withdrawn: the fit does not hold.", None)
    answer = answer_of(exponent, margin)
    more = more_seeds(exponent, margin, seeds) if answer == "cannot tell" else None
    said = {
        "constant": f"No: it is constant within {margin:g}",
        "does not grow": f"No: its exponent is below {margin:g}",
        "grows in proportion": f"Yes, like the {what}",
        "grows, but slower": f"Yes, but slower than the {what}",
        "grows faster": f"Yes, and faster than the {what}",
        "cannot tell": "Cannot tell" + _needed(more),
    }[answer]
    return Question(question, exponent, answer, f"{said}; exponent {interval(exponent)}.", more)


def answer_of(exponent: Estimate, margin: float) -> Verdict:
    """Return what the whole interval of an exponent says."""
    low = -math.inf if exponent.low is None else exponent.low
    high = math.inf if exponent.high is None else exponent.high
    if exponent.value is None:
        return "cannot tell"
    if exponent.within(0.0, margin):
        return "constant"
    if high < margin:
        return "does not grow"
    if exponent.within(1.0, margin):
        return "grows in proportion"
    if low > 1:
        return "grows faster"
    if low > 0 and high < 1:
        return "grows, but slower"
    return "cannot tell"


def verdict_of(law: Law, margin: float) -> str:
    """Return "count", "fraction", "does not grow" or "undecided": the answer about data at fixed size."""
    if law.a is None:
        return "undecided"
    return _VERDICTS.get(answer_of(law.a, margin), "undecided")


def more_seeds(exponent: Estimate, margin: float, seeds: float) -> int | None:
    """Return how many more seeds of every group would decide, if the estimate stayed where it is.

    The half-width of an interval falls as the square root of the number of seeds. None when an end is open or
    the estimate lies where no interval decides.
    """
    if exponent.value is None or exponent.low is None or exponent.high is None:
        return None
    value, half = exponent.value, (exponent.high - exponent.low) / 2
    allowed = max(margin - value, margin - abs(value - 1), min(value, 1 - value), value - 1)
    if allowed <= 0:
        return None
    return max(math.ceil(seeds * (half / allowed) ** 2 - seeds), 1)


def _needed(more: int | None) -> str:
    """Return what a study would need to decide, in words that follow "Cannot tell"."""
    if more is None:
        return ": too few groups cross half within the doses trained"
    if more > _MANY:
        return f": more than {_MANY} further seeds of every group would be needed; widen the budgets instead"
    return (
        f": needs about {more} more seed{'s' if more > 1 else ''} of every group like those trained"
    )
