"""Everything that a study says, computed once, before any of it is drawn or written."""

from dataclasses import dataclass

import numpy as np

from analysis import sensitivity, variables, variance
from analysis.clean_accuracy import Cost, costs
from analysis.decay import Decay, decays
from analysis.dose_response import Fit, fit
from analysis.estimates import Estimate
from analysis.laws import N50, Law, fit_law, half_doses, verdict
from analysis.observations import Observations, observe, reach_of
from analysis.prediction import Prediction, predict
from analysis.runs import Study
from analysis.specificity import Specificity, specificity

MARGIN = 0.25
TARGETS = (("70B", 70e9), ("405B", 405e9))


@dataclass(frozen=True)
class Extrapolation:
    """N50 at a size that nobody trained; `decades` beyond the largest trained, by parameters."""

    label: str
    parameters: float
    tokens: float
    decades: float
    poisons: Estimate


@dataclass(frozen=True)
class Findings:
    """What a study says.

    Attributes:
      study: what was read.
      margin: half-width of the verdict's zones around a = 0 and a = 1.
      reach: "some" when success crosses half, "none" when it never does, "all" when it always is
        above, "nothing" when no poisoned evaluation exists. All but "some" leave no law to fit.
      observations, fit, law: None where `reach` leaves them out.
      half_doses: N50 of each group with a poisoned run.
      verdict: "count", "fraction" or "undecided".
      left_out, variables: see `variables.compare`.
      components: where the scatter of N50 comes from.
      thresholds: the answer at other thresholds of success.
      extrapolations: empty where the law does not reach beyond the data.
      prediction, specificity: of the measures; None where they were not recorded.
      costs, decays: likewise, empty.
    """

    study: Study
    margin: float
    reach: str
    observations: Observations | None
    fit: Fit | None
    law: Law | None
    half_doses: list[N50]
    verdict: str
    left_out: str | None
    variables: list[variables.Variable]
    components: list[variance.Component]
    thresholds: list[sensitivity.Answer]
    extrapolations: list[Extrapolation]
    prediction: Prediction | None
    specificity: Specificity | None
    costs: list[Cost]
    decays: list[Decay]


def find(study: Study, margin: float = MARGIN) -> Findings:
    """Fits a study; about a second for 72 runs of 12 evaluations."""
    poisoned = [run for run in study.runs if (run.evaluations["poisons"] > 0).any()]
    observations = observe(study) if poisoned else None
    reach = reach_of(observations)
    measured = {
        "prediction": predict(study),
        "specificity": specificity(study),
        "costs": costs(study),
        "decays": decays(study),
    }
    if observations is None or reach != "some":
        censored = {"none": "above", "all": "below"}
        return Findings(
            study=study,
            margin=margin,
            reach=reach,
            observations=observations,
            fit=None,
            law=None,
            half_doses=_beyond(observations, censored[reach]) if observations else [],
            verdict="undecided",
            left_out=None,
            variables=[],
            components=[],
            thresholds=[],
            extrapolations=[],
            **measured,
        )
    fitted = fit(observations)
    law = fit_law(fitted)
    left_out, compared = variables.compare(fitted)
    return Findings(
        study=study,
        margin=margin,
        reach=reach,
        observations=observations,
        fit=fitted,
        law=law,
        half_doses=half_doses(fitted),
        verdict=verdict(law, margin),
        left_out=left_out,
        variables=compared,
        components=variance.components(fitted),
        thresholds=sensitivity.by_threshold(study, margin),
        extrapolations=_extrapolations(observations, law),
        **measured,
    )


def _beyond(o: Observations, censored: str) -> list[N50]:
    """N50 of each group when no evaluation of the study lies on one side of half."""
    results = []
    for index, group in enumerate(o.groups):
        seen = o.poisons[o.group_of_evaluation == index]
        tested = float(seen.min()), float(seen.max())
        bound = tested[1] if censored == "above" else tested[0]
        results.append(N50(group, Estimate(None, None, None), censored, bound, tested))
    return results


def _extrapolations(o: Observations, law: Law) -> list[Extrapolation]:
    """In the first setting, at the study's median tokens per parameter."""
    largest = max(group.parameters for group in o.groups)
    ratio = float(np.median([group.tokens / group.parameters for group in o.groups]))
    results = []
    for label, parameters in TARGETS:
        poisons = law.predict(parameters * ratio, parameters, o.groups[0].setting).exp()
        if poisons.value is not None:
            decades = float(np.log10(parameters / largest))
            results.append(Extrapolation(label, parameters, parameters * ratio, decades, poisons))
    return results
