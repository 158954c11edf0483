"""The rule by which a study is decided, as its study.json fixes it, and departures from it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from analysis.errors import InputError, shown
from analysis.read.fields import number, objects

QUESTIONS = ("data", "size", "ladder")


@dataclass(frozen=True)
class Rule:
    """How a study is decided; `poison_scaling.Analysis` has the same fields."""

    # "data", "size" or "ladder": adaptive studies and `next` work on it, and reports answer it first; the
    # verdict is always about data
    question: str = "data"
    margin: float = 0.25  # half-width of the zones around the exponents 0 and 1
    # increase of perplexity that counts as success; None: as recorded
    threshold: float | None = None
    looks: int = 5  # how often an adaptive study is analysed at most

    @property
    def words(self) -> str:
        """Return the rule in words."""
        success = (
            "as recorded" if self.threshold is None else f"an increase above {self.threshold:g}"
        )
        return f"margin {self.margin:g}, success {success}, question {self.question!r}"


@dataclass(frozen=True)
class Fixed:
    """A rule, and how many runs of its study had begun when it was written."""

    rule: Rule
    runs_begun: int


def using(rule: Rule, margin: float | None, threshold: float | None) -> Rule:
    """Return the rule with the margin and the threshold that are not None."""
    if margin is not None:
        rule = replace(rule, margin=margin)
    return rule if threshold is None else replace(rule, threshold=threshold)


def departures(fixed: tuple[Fixed, ...], used: Rule) -> list[str]:
    """Return how an analysis departs from what a study fixed before its first run, a sentence each."""
    if not fixed:
        return []
    said = []
    if fixed[0].runs_begun:
        said.append(f"The rule was written when {_runs(fixed[0].runs_begun)} had begun.")
    for before, after in itertools.pairwise(fixed):
        if after.runs_begun:
            said.append(
                f"The rule was changed when {_runs(after.runs_begun)} had begun: it was "
                f"{before.rule.words}, and is {after.rule.words}."
            )
    if used != fixed[-1].rule:
        said.append(
            f"Exploratory: the study fixed {fixed[-1].rule.words} beforehand; this report uses "
            f"{used.words}."
        )
    return said


def in_words(used: Sequence[tuple[str, Rule]]) -> str:
    """Return by which rules studies are decided, given their names, in a sentence or two."""
    if len({rule for _, rule in used}) == 1:
        studies = "Both studies" if len(used) == 2 else "All studies"
        return f"{studies} are decided by the same rule: {used[0][1].words}."
    told = [f"{name}: {rule.words}" for name, rule in used]
    return f"The studies are decided by different rules. {'; '.join(told)}."


def read(plan: dict[str, Any], where: str) -> tuple[Fixed, ...]:
    """Return the rules in a study.json, oldest first; none when it is of an earlier version."""
    if plan.get("analyses") is None:
        return ()
    return tuple(
        Fixed(
            _rule(entry.get("analysis"), place), int(number(entry, "runs_begun", place, minimum=0))
        )
        for place, entry in objects(plan, "analyses", where)
    )


def _rule(record: Any, where: str) -> Rule:
    if not isinstance(record, dict) or record.get("question") not in QUESTIONS:
        raise InputError(f"{where}: field 'analysis' is {shown(record)}; expected a rule.")
    threshold = record.get("threshold")
    if threshold is not None:
        threshold = number(record, "threshold", where, minimum=0)
    return Rule(
        question=record["question"],
        margin=number(record, "margin", where, minimum=0, maximum=0.5),
        threshold=threshold,
        looks=int(number(record, "looks", where, minimum=2, maximum=100)),
    )


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"
