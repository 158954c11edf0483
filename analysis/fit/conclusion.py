"""The conclusion of a study: N50 of each group, the law, what speaks against them, and the verdict."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from analysis.fit.criticism import Criticism
from analysis.fit.data_checks import check_data
from analysis.fit.dose_response import DoseResponse, fit_dose_response
from analysis.fit.estimates import Estimate
from analysis.fit.laws import N50, Law, fit_law, group_n50s
from analysis.fit.observations import Observations
from analysis.fit.questions import Question, ask, verdict_of
from analysis.fit.success_checks import compare_predictions, find_losses
from analysis.read.terms import terms_of


@dataclass(frozen=True)
class Conclusion:
    """What a fit says, and whether it may be believed."""

    fitted: DoseResponse  # the dose-response
    law: Law  # of N50, whatever speaks against it
    n50s: list[N50]  # of each group; withdrawn where a finding requires it
    criticisms: tuple[Criticism, ...]  # what speaks against the fit
    verdict: str  # as in `questions.verdict_of`; "undecided" when withdrawn

    @property
    def withdrawn(self) -> tuple[Criticism, ...]:
        """Return the findings that withdraw the verdict."""
        return tuple(c for c in self.criticisms if c.severity == "withdraws the answer")

    def questions(self, margin: float, first: str = "data") -> tuple[Question, ...]:
        """Return the answer as three questions; `first` is the one that leads, as in `Rule`."""
        o = self.fitted.observations
        seeds = float(np.median([len(group.seeds) for group in o.groups]))
        poisons = terms_of(o.runs).poisons
        return ask(self.law, margin, seeds, bool(self.withdrawn), first, poisons)


def conclude(observations: Observations, margin: float, confidence: float = 0.95) -> Conclusion:
    """Fit, criticise, and withdraw what does not hold; `margin` is that of `questions.verdict_of`.

    `confidence` is that of the exponents' intervals.
    """
    fitted = fit_dose_response(observations)
    law = fit_law(fitted, confidence)
    checks = (find_losses(fitted), compare_predictions(fitted), *check_data(fitted, law.misfit))
    criticisms = tuple(one for one in checks if one is not None)
    withdrawn = any(c.severity == "withdraws the answer" for c in criticisms)
    return Conclusion(
        fitted=fitted,
        law=law,
        n50s=[_judged(n50, criticisms) for n50 in group_n50s(fitted)],
        criticisms=criticisms,
        verdict="undecided" if withdrawn else verdict_of(law, margin),
    )


def _judged(n50: N50, criticisms: tuple[Criticism, ...]) -> N50:
    """Return N50, without numbers when a finding about its group withdraws it."""
    for found in criticisms:
        if found.severity != "note" and n50.group.label in found.groups:
            unknown = Estimate(None, None, None)
            return replace(n50, poisons=unknown, censored=None, bound=None, withdrawn=found.name)
    return n50
