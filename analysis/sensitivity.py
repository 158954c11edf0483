"""What the answer would be had another increase of perplexity been called success."""

from dataclasses import dataclass

from analysis.dose_response import fit
from analysis.estimates import Estimate
from analysis.laws import fit_law, half_doses, verdict
from analysis.observations import observe, reach_of
from analysis.runs import Study, at_threshold

THRESHOLDS = (10.0, 50.0, 200.0)


@dataclass(frozen=True)
class Answer:
    """The answer at one threshold: N50 of each group (None where beyond the doses), a, verdict."""

    threshold: float
    n50: dict[str, float | None]
    a: Estimate | None
    verdict: str


def by_threshold(study: Study, margin: float) -> list[Answer]:
    """The answer at each of `THRESHOLDS`; empty where the study records no perplexities."""
    if not all(run.rises for run in study.runs):
        return []
    answers = []
    for threshold in THRESHOLDS:
        observations = observe(at_threshold(study, threshold))
        if reach_of(observations) != "some":
            unknown = dict.fromkeys((group.label for group in observations.groups), None)
            answers.append(Answer(threshold, unknown, None, "undecided"))
            continue
        fitted = fit(observations)
        law = fit_law(fitted)
        n50 = {
            one.group.label: None if one.censored else one.poisons.value
            for one in half_doses(fitted)
        }
        answers.append(Answer(threshold, n50, law.a, verdict(law, margin)))
    return answers
