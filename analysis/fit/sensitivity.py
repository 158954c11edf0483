"""Sensitivity of the answer to the increase of perplexity that counts as success."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.fit.dose_response import fit_dose_response
from analysis.fit.estimates import Estimate
from analysis.fit.laws import fit_law, group_n50s, verdict_of
from analysis.fit.observations import observe, reach_of
from analysis.read.runs import Study, at_threshold

THRESHOLDS = (10.0, 50.0, 200.0)


@dataclass(frozen=True)
class Answer:
    """The answer at one threshold.

    Attributes:
      threshold: increase of perplexity above which the attack succeeded on a prompt.
      n50: of each group by label; None when it lies beyond the doses.
      a: exponent of tokens; None when not identified.
      verdict: as in `laws.verdict`.
    """

    threshold: float
    n50: dict[str, float | None]
    a: Estimate | None
    verdict: str


def by_threshold(study: Study, margin: float) -> list[Answer]:
    """Return the answer at each of `THRESHOLDS`; empty when the study does not record perplexities."""
    if not all(run.increases for run in study.runs):
        return []
    answers = []
    for threshold in THRESHOLDS:
        observations = observe(at_threshold(study, threshold))
        if reach_of(observations) != "some":
            unknown: dict[str, float | None] = {g.label: None for g in observations.groups}
            answers.append(Answer(threshold, unknown, None, "undecided"))
            continue
        fitted = fit_dose_response(observations)
        law = fit_law(fitted)
        n50 = {
            one.group.label: None if one.censored else one.poisons.value
            for one in group_n50s(fitted)
        }
        answers.append(Answer(threshold, n50, law.a, verdict_of(law, margin)))
    return answers
