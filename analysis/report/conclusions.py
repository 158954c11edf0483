"""The verdict of a study, and what limits it, in words."""

from __future__ import annotations

import math

from analysis.fit.findings import Findings
from analysis.fit.laws import Law
from analysis.fit.words import interval
from analysis.read.runs import Study
from analysis.read.terms import Terms


def verdict_words(findings: Findings) -> str:
    """Return the answer to the study's question, in one or two sentences."""
    terms = findings.study.terms
    if findings.means is not None:
        return (
            "Every evaluation is one mean perplexity. A few prompts make a mean, so a threshold on it is no "
            f"success rate, and N50 is not identified. {findings.means.words}"
        )
    if findings.model is None:
        return {
            "nothing": f"No {terms.run} has been evaluated yet.",
            "none": f"No evaluation {terms.reached}, so every {terms.half} is above the doses tested; larger "
            "doses are needed.",
            "all": f"Every evaluation {terms.reached}, so every {terms.half} is below the {terms.poisons} "
            "seen; smaller doses or earlier evaluations are needed.",
        }[findings.reach]
    if findings.withdrawn:
        reasons = " ".join(f"{c.name.capitalize()}: {c.sentence}" for c in findings.withdrawn)
        return f"No law is identified, because the fit does not hold. {reasons}"
    law, margin = findings.model.law, findings.margin
    if law.a is None:
        return _not_separable(law, margin, terms)
    if law.a.value is None:
        known = [
            f"it is {side} {end:.2f} (95%)"
            for side, end in (("at least", law.a.low), ("at most", law.a.high))
            if end is not None
        ]
        return (
            f"How the number of {terms.documents} needed grows with the data is not identified: too few "
            f"groups cross half within the doses trained{'; ' + ' and '.join(known) if known else ''}."
        )
    tenfold = interval(law.a.map(lambda a: 10**a), lowest="0")
    scales = (
        f"the number of {terms.documents} needed scales as tokens^a, a = {interval(law.a)}, so ten times the "
        f"data take {tenfold} times as many"
    )
    if findings.verdict == "count":
        return f"A constant count: {scales}; the whole interval is within {margin:g} of 0."
    if findings.verdict == "fraction":
        return f"A constant fraction of the data: {scales}; the whole interval is within {margin:g} of 1."
    if findings.verdict == "does not grow":
        if law.a.high is not None and law.a.high < 0:
            return f"More data need fewer {terms.poisons}: {scales}; the whole interval is below 0."
        return (
            f"More data need no more {terms.poisons}: {scales}; the whole interval is below {margin:g}, so "
            "the fraction law is excluded. Whether the number stays the same or falls with more data is open."
        )
    low = -math.inf if law.a.low is None else law.a.low
    high = math.inf if law.a.high is None else law.a.high
    if margin < low and high < 1 - margin:
        return f"Between the two laws, faster than a count and slower than a fraction: {scales}."
    more = "More seeds or a wider range of token budgets would narrow it."
    allowed = [name for name, at in (("count", 0), ("fraction", 1)) if low <= at <= high]
    if allowed == ["count", "fraction"]:
        return f"The data are compatible with both laws: {scales}. {more}"
    if not allowed:
        return f"Neither pure law: {scales}; the interval contains neither 0 nor 1."
    excluded, zone = ("fraction", 0) if allowed == ["count"] else ("count", 1)
    return (
        f"The {excluded} law is excluded, but the {allowed[0]} law is not established: {scales}; the "
        f"interval is not entirely within {margin:g} of {zone}. {more}"
    )


def looks_words(study: Study) -> list[str]:
    """Return how often an adaptive study was analysed and at what level, a sentence; none for others."""
    if not study.looks:
        return []
    count = len(study.looks)
    times = "once" if count == 1 else f"{count} times"
    return [
        f"The study is adaptive: it was analysed {times} while it grew, so the intervals of the exponents "
        f"have confidence {min(100 * study.confidence, 99.99):.4g}%, by which those of all looks hold "
        "together with 95%."
    ]


def _not_separable(law: Law, margin: float, terms: Terms) -> str:
    vary = "Vary the token budget at one size to decide."
    if law.ladder is not None:
        words = (
            "Tokens and parameters grew together in this study, so their exponents cannot be separated; "
            f"along the ladder the number of {terms.counted} needed scales as parameters^b, "
            f"b = {interval(law.ladder)}"
        )
        if law.ladder.within(0.0, margin):
            words += ", a near-constant count along it"
        return f"{words}. {vary}"
    if law.g is not None:
        return (
            "Every run had the same token budget, so the count law and the fraction law predict the "
            f"same; at that budget the number of {terms.counted} needed scales as parameters^g, g = "
            f"{interval(law.g)}. {vary}"
        )
    return (
        "There is one size on one token budget, so the count law and the fraction law predict the "
        f"same. {vary}"
    )


def caveats(findings: Findings) -> list[str]:
    """Return what limits the answer, a sentence each."""
    found = []
    if findings.observations is not None and not findings.observations.controlled:
        poisons = findings.study.terms.poisons
        found.append(
            f"There is no evaluation without {poisons}: the success rate without them is taken as 0."
        )
    if findings.model is None:
        return found
    half = findings.study.terms.half
    fitted, law = findings.model.dose_response, findings.model.law
    if not fitted.observations.replicated:
        found.append(
            f"One seed: the intervals of {half} are for that seed; those of the exponents use the scatter "
            "of groups around the law in place of the variance between seeds."
        )
    if law.misfit is not None and law.widened > 1:
        found.append(
            f"Groups scatter around the power law (standard deviation {law.scatter:.2f} in log {half}, p = "
            f"{law.misfit:.2g}); standard errors of the exponents are widened by a factor of "
            f"{law.widened:.2f}."
        )
    return found + [f"{c.name.capitalize()}: {c.sentence}" for c in findings.criticisms]
