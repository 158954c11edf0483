"""The summary of a study: a JSON object, and the few lines that answer its question."""

from __future__ import annotations

import dataclasses
import math
import platform
from importlib import metadata
from typing import Any

import numpy as np

from analysis.design import economics
from analysis.errors import printable
from analysis.fit.dose_response import DoseResponse
from analysis.fit.estimates import as_json
from analysis.fit.findings import Findings, Model
from analysis.fit.laws import N50, Law
from analysis.fit.log_ratio import Unsampled
from analysis.fit.variables import Variable
from analysis.fit.words import documents, rounded
from analysis.measures.base import Measure
from analysis.read.rules import Rule, departures
from analysis.report.conclusions import caveats, looks_words, verdict_words
from analysis.report.stages import summarise_stages

# Of the detectors that the report computes the cost of, and how many documents are to pass them.
SENSITIVITIES = (0.5, 0.9, 0.919, 0.99)
PASSING = 250


def summarise(
    findings: Findings, measured: list[tuple[Measure[Any], Any]], rule: Rule | None = None
) -> dict[str, Any]:
    """Return all numbers and the answer in words, without NaN and infinities, which become None.

    `measured` are the measures with what they found; `rule` is the one that was used, by default the
    study's.
    """
    study, model = findings.study, findings.model
    rule = rule or study.rule
    departed = departures(study.rules, rule)
    looked = looks_words(study)
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
        "terms": dataclasses.asdict(study.terms),
        "answer": {
            "verdict": findings.verdict,
            "words": " ".join([verdict_words(findings), *looked, *departed]),
            "withdrawn": [c.name for c in findings.withdrawn],
        },
        "questions": [dataclasses.asdict(q) for q in findings.questions],
        "criticism": [dataclasses.asdict(c) for c in findings.criticisms],
        "settings": {
            "margin": findings.margin,
            "confidence": study.confidence,
            "threshold": rule.threshold,
        },
        "rules": [dataclasses.asdict(fixed) for fixed in study.rules],
        "departures": departed,
        "looks": [look.as_json() for look in study.looks],
        "n50": [_n50(n50, findings) for n50 in findings.n50s],
        "means": None if findings.means is None else dataclasses.asdict(findings.means),
        **_model(model, findings),
        "detection": [_detection(s) for s in SENSITIVITIES],
        "measures": {
            measure.name: None if found is None else measure.summarise(found)
            for measure, found in measured
        },
        "stages": summarise_stages(study),
        "missing": list(study.missing),
        "notes": [*study.notes, *caveats(findings)],
        "versions": study.versions
        | {"python (report)": platform.python_version()}
        | {f"{n} (report)": metadata.version(n) for n in ("numpy", "scipy", "matplotlib")},
    }
    return _plain(summary)


def answer(summary: dict[str, Any]) -> str:
    """Return the answer for a terminal: N50 of each group, and the verdict in words."""
    study = summary["study"]
    lines = [f"{study['name']}: {study['runs']} runs, {study['evaluations']} evaluations"]
    if summary["n50"]:
        terms = summary["terms"]
        lines.append(f"{terms['lead']} ({terms['half']}, 95% interval):")
    width = max((len(n["group"]) for n in summary["n50"]), default=0)
    for n50 in summary["n50"]:
        lines.append(f"  {n50['group']:<{width}}  {n50['words']}")
    lines.append(f"Verdict: {summary['answer']['verdict']}. {summary['answer']['words']}")
    lines += [f"  {q['question']} {q['words']}" for q in summary["questions"]]
    if summary["unsampled"]:
        lines.append("Without sampling, from the payload log-ratio:")
        lines += [f"  {q['question']} {q['words']}" for q in summary["unsampled"]["questions"]]
    if summary["missing"]:
        lines.append(f"Missing or unfinished: {len(summary['missing'])} runs (see the report).")
    return "\n".join(map(printable, lines))


def n50_words(n50: N50, findings: Findings) -> str:
    """Return N50 of a group with its interval, or its bound."""
    if n50.withdrawn is not None:
        return f"not identified ({n50.withdrawn})"
    seeds = max(len(n.group.seeds) for n in findings.n50s)
    if n50.censored is None:
        words = documents(n50.poisons)
        if seeds == 1:
            words += " for this seed"
        lowest = n50.group.exposures * min(dose for dose in n50.group.doses if dose > 0)
        if n50.poisons.value is not None and n50.poisons.value < lowest:
            words += f"; below the smallest dose trained ({lowest:g}), estimated within its runs"
        return words
    bound = "-" if n50.bound is None else rounded(n50.bound)
    if n50.censored == "above":
        words = f"above {bound}, the largest dose"
        if n50.poisons.low is not None:
            words += f" (95%: at least {rounded(n50.poisons.low)})"
        return words
    words = f"below {bound}, the fewest seen at an evaluation"
    if n50.poisons.high is not None:
        words += f" (95%: at most {rounded(n50.poisons.high)})"
    return words


def _n50(n50: N50, findings: Findings) -> dict[str, Any]:
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
        "withdrawn": n50.withdrawn,
        "bound": n50.bound,
        "extrapolated": n50.poisons.value if n50.censored is not None else None,
        "words": n50_words(n50, findings),
    }


def _model(model: Model | None, findings: Findings) -> dict[str, Any]:
    if model is None:
        return {
            "law": None,
            "shape": None,
            "variables": {"left_out": None, "compared": []},
            "variance": [],
            "thresholds": [],
            "unsampled": None,
            "extrapolation": [],
        }
    return {
        "law": _law(model.law) | {"withdrawn": bool(findings.withdrawn)},
        "shape": dataclasses.asdict(model.dose_response.shape)
        | {"degrees": model.dose_response.degrees, "groups": _shapes(model.dose_response)},
        "variables": {
            "left_out": model.left_out,
            "compared": [_variable(v) for v in model.variables],
        },
        "variance": [dataclasses.asdict(c) for c in model.components],
        "thresholds": [dataclasses.asdict(answer) for answer in model.thresholds],
        "unsampled": None if model.unsampled is None else _unsampled(model.unsampled, findings),
        "extrapolation": [dataclasses.asdict(e) for e in model.extrapolations],
    }


def _unsampled(found: Unsampled, findings: Findings) -> dict[str, Any]:
    """Return the answer from the log-ratio, with the fields of the sampled answer."""
    conclusion = found.conclusion
    return {
        "half": found.curve.half,
        "slope": found.curve.slope,
        "verdict": conclusion.verdict,
        "withdrawn": [c.name for c in conclusion.withdrawn],
        "questions": [
            dataclasses.asdict(q)
            for q in conclusion.questions(findings.margin, findings.study.rule.question)
        ],
        "criticism": [dataclasses.asdict(c) for c in conclusion.criticisms],
        "n50": [_n50(n50, findings) for n50 in conclusion.n50s],
        "law": _law(conclusion.law),
    }


def _shapes(fitted: DoseResponse) -> dict[str, dict[str, float]]:
    """Return slope, progress and lapse of each group by its label."""
    each = zip(fitted.observations.groups, fitted.slope, fitted.progress, fitted.lapse, strict=True)
    return {
        group.label: {"slope": slope, "progress": progress, "lapse": lapse}
        for group, slope, progress, lapse in each
    }


def _variable(variable: Variable) -> dict[str, Any]:
    gain = variable.gain
    ends = None if gain is None else (gain.value, gain.low, gain.high)
    return dataclasses.asdict(variable) | {"gain": ends}


def _law(law: Law) -> dict[str, Any]:
    return {
        "varies": law.varies,
        "a": as_json(law.a),
        "g": as_json(law.g),
        "ladder": as_json(law.ladder),
        "misfit_p": law.misfit,
        "scatter": law.scatter,
        "degrees": law.degrees,
        "widened": law.widened,
    }


def _detection(sensitivity: float) -> dict[str, Any]:
    return {
        "sensitivity": sensitivity,
        "passing": PASSING,
        "expected": economics.expected_submissions(PASSING, sensitivity),
        "for_95": economics.submissions(PASSING, sensitivity),
        "for_95_normal": economics.approximate_submissions(PASSING, sensitivity),
    }


def _plain(value: Any) -> Any:
    """Return JSON values as plain Python, with None for numbers that are not finite."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
