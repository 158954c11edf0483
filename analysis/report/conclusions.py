"""The verdict of a study, and what limits it, in words."""

from __future__ import annotations

import math

from analysis.fit.findings import Findings
from analysis.fit.laws import Law
from analysis.fit.words import interval


def verdict_words(findings: Findings) -> str:
    """Return the answer to the study's question, in one or two sentences."""
    if findings.model is None:
        return {
            "nothing": "No poisoned run has been evaluated yet.",
            "none": "No evaluation reached half of the prompts, so every N50 lies above the doses "
            "tested; larger doses are needed.",
            "all": "Every evaluation was above half of the prompts, so every N50 lies below the "
            "poisons seen; smaller doses or earlier evaluations are needed.",
        }[findings.reach]
    law, margin = findings.model.law, findings.margin
    if law.a is None:
        return _not_separable(law, margin)
    grows = f"the number of poisoned documents needed grows as tokens^a, a = {interval(law.a)}"
    if findings.verdict == "count":
        return f"A constant count: {grows}, all of it within {margin:g} of 0."
    if findings.verdict == "fraction":
        return f"A constant fraction of the data: {grows}, all of it within {margin:g} of 1."
    low = -math.inf if law.a.low is None else law.a.low
    high = math.inf if law.a.high is None else law.a.high
    if margin < low and high < 1 - margin:
        return f"Between the two laws, faster than a count and slower than a fraction: {grows}."
    more = "More seeds or wider token budgets would narrow it."
    allowed = [name for name, at in (("count", 0), ("fraction", 1)) if low <= at <= high]
    if allowed == ["count", "fraction"]:
        return f"These data cannot tell: {grows}, which allows both laws. {more}"
    if not allowed:
        return f"Neither pure law: {grows}, which contains neither 0 nor 1."
    excluded, zone = ("fraction", 0) if allowed == ["count"] else ("count", 1)
    return (
        f"The {excluded} law is excluded, but the {allowed[0]} law is not established: {grows}, "
        f"not wholly within {margin:g} of {zone}. {more}"
    )


def _not_separable(law: Law, margin: float) -> str:
    vary = "Vary the token budget at one size to decide."
    if law.ladder is not None:
        words = (
            "Tokens and parameters grew together in this study, so their exponents cannot be told "
            "apart; along the ladder the number needed grows as parameters^b, "
            f"b = {interval(law.ladder)}"
        )
        if law.ladder.within(0.0, margin):
            words += ", a near-constant count on this path"
        return f"{words}. {vary}"
    if law.g is not None:
        return (
            "Every run had the same token budget, so count and fraction predict the same; at that "
            f"budget the number needed grows as parameters^g, g = {interval(law.g)}. {vary}"
        )
    return f"There is one size on one token budget, so count and fraction predict the same. {vary}"


def caveats(findings: Findings) -> list[str]:
    """Return what limits the answer, a sentence each."""
    found = []
    if findings.observations is not None and not findings.observations.controlled:
        found.append("No evaluation without poison: the false-positive rate is taken as nil.")
    if findings.model is None:
        return found
    fitted, law = findings.model.dose_response, findings.model.law
    if not fitted.observations.replicated:
        found.append(
            "One seed: the intervals of N50 are for that seed; those of the exponents take the "
            "scatter of the groups around the law for the difference between seeds."
        )
    if not fitted.several_doses:
        found.append(
            "One dose a group: how far into training a poison count was reached is not told apart "
            "from the count itself."
        )
    if law.misfit is not None and law.widened > 1:
        found.append(
            f"The power law misses some groups (p = {law.misfit:.2g}); standard errors of "
            f"exponents are widened by {law.widened:.2f} for it."
        )
    return found
