"""The lead of a report: the verdict, the three questions, N50, and what speaks against them."""

from __future__ import annotations

import numpy as np

from analysis.fit.estimates import Estimate
from analysis.fit.findings import Findings, Model
from analysis.fit.log_ratio import Unsampled
from analysis.fit.mean_outcome import MeanOutcome
from analysis.fit.questions import answer_of
from analysis.fit.sensitivity import Answer
from analysis.fit.words import interval, rounded
from analysis.measures.blocks import Block, Bullets, Paragraph, Table
from analysis.read.runs import quantity
from analysis.report.summary import n50_words


def lead_blocks(findings: Findings, words: str) -> list[Block]:
    """Return the answer: the verdict in `words`, sampled and unsampled answers, and N50 of each group."""
    verdict = findings.verdict.capitalize()
    blocks: list[Block] = [Paragraph(f"{verdict}. {words}", lead=True)]
    unsampled = None if findings.model is None else findings.model.unsampled
    if findings.questions and unsampled is None:
        blocks.append(Bullets(tuple(f"{q.question} {q.words}" for q in findings.questions)))
    if unsampled is not None:
        blocks += _both_answers(findings, unsampled)
    if findings.model is not None:
        half = findings.study.terms.half
        said = threshold_words(findings.model, findings.margin, half)
        blocks += [Paragraph(said)] if said else []
    if findings.means is not None:
        blocks += _means_blocks(findings.means)
    if not findings.n50s:
        return blocks
    terms = findings.study.terms
    return [
        *blocks,
        Paragraph(f"{terms.lead} ({terms.half}):"),
        _n50_table(findings, unsampled),
        *_criticism_blocks(findings),
    ]


def threshold_words(model: Model, margin: float, half: str = "N50") -> str:
    """Return how the answer depends on the threshold of success, in words; "" where there is none.

    `half` is the name of what is estimated.
    """
    answers = model.thresholds
    if not answers:
        return ""
    told, begins = [], "With"
    if (factor := _factor(answers[0], answers[-1])) is not None:
        told.append(
            f"{half} at {answers[-1].threshold:g} is {factor:.2g} times that at {answers[0].threshold:g} "
            "(geometric mean over groups)"
        )
    if model.law.a is not None:
        exponents = [Estimate(None, None, None) if a.a is None else a.a for a in answers]
        told.insert(0, f"the exponent of data, a, is {_either([interval(a) for a in exponents])}")
        alike = len({answer_of(exponent, margin) for exponent in exponents}) == 1
        does = "does not change with" if alike else "depends on"
        begins = f"The answer for data at fixed size {does} the threshold: with"
    if not told:
        return ""
    counted = _either([f"{answer.threshold:g}" for answer in answers])
    return f"{begins} an increase of perplexity above {counted} as success, {'; '.join(told)}."


def _both_answers(findings: Findings, unsampled: Unsampled) -> list[Block]:
    """Return the answers from sampled success and from the log-ratio, side by side."""
    other = unsampled.conclusion.questions(findings.margin, findings.study.rule.question)
    rows = tuple(
        (sampled.question, sampled.words, exact.words)
        for sampled, exact in zip(findings.questions, other, strict=True)
    )
    terms = findings.study.terms
    half = terms.backdoor(np.array(unsampled.curve.half)).item()
    said = (
        f"Without sampling, {terms.half} is the dose at which the trigger {terms.raises} the payload "
        f"log-ratio by {half:.2f} ({terms.nats}), the rise at which success "
        "is half of the reach. The log-ratio is exact, and the same rise counts in every group, however high "
        "the perplexity of its clean generations is."
    )
    withdrawn = unsampled.conclusion.withdrawn
    if withdrawn:
        reasons = " ".join(f"{c.name.capitalize()}: {c.sentence}" for c in withdrawn)
        said += f" That answer is withdrawn. {reasons}"
    header = ("question", "from sampled success", "from the payload log-ratio, without sampling")
    return [Table(header, rows), Paragraph(said)]


def _n50_table(findings: Findings, unsampled: Unsampled | None) -> Table:
    exact = {} if unsampled is None else {n.group.label: n for n in unsampled.conclusion.n50s}
    rows = tuple(
        (
            n50.group.label,
            quantity(n50.group.parameters),
            quantity(n50.group.tokens),
            ", ".join(f"{dose:g}" for dose in n50.group.doses),
            str(len(n50.group.seeds)),
            n50_words(n50, findings),
            *([n50_words(exact[n50.group.label], findings)] if exact else []),
        )
        for n50 in findings.n50s
    )
    header = ("size and budget", "parameters", "tokens", "doses", "seeds")
    half = findings.study.terms.half
    named = [f"{half} (95% interval)", *([f"{half} without sampling"] if exact else [])]
    return Table((*header, *named), rows)


def _means_blocks(means: MeanOutcome) -> list[Block]:
    """Return the rise of mean perplexity of each group and dose."""
    rows = tuple(
        (
            cell.group,
            quantity(cell.parameters),
            quantity(cell.tokens),
            f"{cell.dose:g}",
            rounded(cell.mean),
            ", ".join(map(rounded, cell.rises)),
        )
        for cell in means.cells
    )
    header = ("size and budget", "parameters", "tokens", "dose", "geometric mean", "every run")
    said = "Rise of mean perplexity with the trigger, at the last evaluation of each run:"
    return [Paragraph(said), Table(header, rows)]


def _criticism_blocks(findings: Findings) -> list[Block]:
    """Return what speaks against the fit, to show next to the verdict."""
    if not findings.criticisms:
        return []
    half = findings.study.terms.half
    said = tuple(
        f"{c.name.capitalize()} ({c.severity.replace('N50', half)}): {c.sentence}"
        for c in findings.criticisms
    )
    return [Paragraph("What speaks against the fit:"), Bullets(said)]


def _factor(low: Answer, high: Answer) -> float | None:
    """Return N50 at one threshold over N50 at another, geometric mean over groups that have both."""
    pairs = [(low.n50[label], high.n50[label]) for label in low.n50 if label in high.n50]
    logs = [np.log(b / a) for a, b in pairs if a is not None and b is not None]
    return float(np.exp(np.mean(logs))) if logs else None


def _either(values: list[str]) -> str:
    return f"{', '.join(values[:-1])} or {values[-1]}" if len(values) > 1 else values[0]
