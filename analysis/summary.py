"""Findings as one JSON object, and as the few lines that answer the question."""

import dataclasses
import math
import platform
from importlib import metadata

import numpy as np

from analysis import economics, measure_report
from analysis.estimates import as_json
from analysis.findings import Findings
from analysis.laws import N50, Law
from analysis.words import count, documents, interval, printable

SENSITIVITIES = (0.5, 0.9, 0.919, 0.99)
PASSING = 250


def summarise(findings: Findings) -> dict:
    """Everything numeric, and the answer in words; NaN and infinities never occur (null)."""
    study, fit, law = findings.study, findings.fit, findings.law
    seeds = max((len(n.group.seeds) for n in findings.half_doses), default=0)
    summary = {
        "study": {
            "name": study.name,
            "hash": study.hash,
            "runs": len(study.runs),
            "finished": sum(run.finished for run in study.runs),
            "evaluations": sum(len(run.evaluations["tokens"]) for run in study.runs),
            "seeds": len({run.seed for run in study.runs}),
            "doses": sorted({run.dose for run in study.runs}),
        },
        "answer": {"verdict": findings.verdict, "words": _verdict_words(findings)},
        "settings": {"margin": findings.margin, "confidence": 0.95},
        "n50": [_n50(n, seeds) for n in findings.half_doses],
        "law": None if law is None else _law(law),
        "shape": None if fit is None else dataclasses.asdict(fit.shape) | {"degrees": fit.degrees},
        "variables": {
            "left_out": findings.left_out,
            "compared": [dataclasses.asdict(v) for v in findings.variables],
        },
        "variance": [dataclasses.asdict(c) for c in findings.components],
        "thresholds": [dataclasses.asdict(answer) for answer in findings.thresholds],
        "extrapolation": [dataclasses.asdict(e) for e in findings.extrapolations],
        "detection": [_detection(s) for s in SENSITIVITIES],
        "measures": measure_report.summarise(findings),
        "missing": list(study.missing),
        "notes": [*study.notes, *_caveats(findings)],
        "versions": study.versions
        | {"python (report)": platform.python_version()}
        | {f"{n} (report)": metadata.version(n) for n in ("numpy", "scipy", "matplotlib")},
    }
    return _plain(summary)


def answer(summary: dict) -> str:
    """The answer for a terminal: N50 of each group, the exponents, and the verdict in words."""
    study = summary["study"]
    lines = [f"{study['name']}: {study['runs']} runs, {study['evaluations']} evaluations"]
    if summary["n50"]:
        lines.append("Poisoned documents for half success at the end of training (95% interval):")
    width = max((len(n["group"]) for n in summary["n50"]), default=0)
    for n50 in summary["n50"]:
        lines.append(f"  {n50['group']:<{width}}  {n50['words']}")
    lines.append(f"Verdict: {summary['answer']['verdict']}. {summary['answer']['words']}")
    if summary["missing"]:
        lines.append(f"Missing or unfinished: {len(summary['missing'])} runs (see the report).")
    return "\n".join(map(printable, lines))


def _n50(n50: N50, seeds: int) -> dict:
    """One N50; `seeds` is the most that any group has."""
    group = n50.group
    return {
        "group": group.label,
        "size": group.size,
        "parameters": group.parameters,
        "tokens": group.tokens,
        "setting": group.setting,
        "doses": group.doses,
        "seeds": len(group.seeds),
        "runs": len(group.runs),
        "n50": n50.poisons.value if n50.censored is None else None,
        "low": n50.poisons.low,
        "high": n50.poisons.high,
        "censored": n50.censored,
        "bound": n50.bound,
        "extrapolated": n50.poisons.value if n50.censored is not None else None,
        "words": _n50_words(n50, seeds),
    }


def _n50_words(n50: N50, seeds: int) -> str:
    if n50.censored is None:
        words = documents(n50.poisons)
        if seeds == 1:
            words += " for this seed"
        lowest = min(dose for dose in n50.group.doses if dose > 0)
        if n50.poisons.value < lowest:
            words += f"; below the smallest dose trained ({lowest:g}), from within its runs"
        return words
    if n50.censored == "above":
        words = f"above {count(n50.bound)}, the largest dose"
        if n50.poisons.low is not None:
            words += f" (95%: at least {count(n50.poisons.low)})"
        return words
    words = f"below {count(n50.bound)}, the fewest seen at an evaluation"
    if n50.poisons.high is not None:
        words += f" (95%: at most {count(n50.poisons.high)})"
    return words


def _law(law: Law) -> dict:
    return {
        "varies": law.varies,
        "a": as_json(law.a),
        "g": as_json(law.g),
        "ladder": as_json(law.ladder),
        "misfit_p": law.misfit,
        "widened": law.widened,
    }


def _detection(sensitivity: float) -> dict:
    return {
        "sensitivity": sensitivity,
        "passing": PASSING,
        "expected": economics.expected_submissions(PASSING, sensitivity),
        "for_95": economics.submissions(PASSING, sensitivity),
        "for_95_normal": economics.approximate_submissions(PASSING, sensitivity),
    }


def _verdict_words(findings: Findings) -> str:
    if findings.reach != "some":
        return {
            "nothing": "No poisoned run has been evaluated yet.",
            "none": "No evaluation reached half of the prompts, so every N50 lies above the doses "
            "tested; larger doses are needed.",
            "all": "Every evaluation was above half of the prompts, so every N50 lies below the "
            "poisons seen; smaller doses or earlier evaluations are needed.",
        }[findings.reach]
    law, margin = findings.law, findings.margin
    if law.a is None:
        return _not_separable(findings)
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


def _not_separable(findings: Findings) -> str:
    law = findings.law
    vary = "Vary the token budget at one size to decide."
    if law.varies == "ladder":
        words = (
            "Tokens and parameters grew together in this study, so their exponents cannot be told "
            "apart; along the ladder the number needed grows as parameters^b, "
            f"b = {interval(law.ladder)}"
        )
        if law.ladder.within(0.0, findings.margin):
            words += ", a near-constant count on this path"
        return f"{words}. {vary}"
    if law.varies == "parameters":
        return (
            "Every run had the same token budget, so count and fraction predict the same; at that "
            f"budget the number needed grows as parameters^g, g = {interval(law.g)}. {vary}"
        )
    return f"There is one size on one token budget, so count and fraction predict the same. {vary}"


def _caveats(findings: Findings) -> list[str]:
    """What a reader must know about these data."""
    caveats = []
    fit, law = findings.fit, findings.law
    if findings.observations is not None and not findings.observations.controlled:
        caveats.append("No evaluation without poison: the false-positive rate is taken as nil.")
    if fit is None:
        return caveats
    if not fit.observations.replicated:
        caveats.append(
            "One seed: the intervals of N50 are for that seed; those of the exponents take the "
            "scatter of the groups around the law for the difference between seeds."
        )
    if not fit.several_doses:
        caveats.append(
            "One dose a group: how far into training a poison count was reached is not told apart "
            "from the count itself."
        )
    if law.misfit is not None and law.widened > 1:
        caveats.append(
            f"The power law misses some groups (p = {law.misfit:.2g}); standard errors of "
            f"exponents are widened by {law.widened:.2f} for it."
        )
    return caveats


def _plain(value):
    """Plain Python numbers, and null for what is not finite."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
