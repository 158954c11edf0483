"""What an attack costs without the trigger: each run against its control.

A run and its control share seeds, clean data and size; they differ in the poisons alone. So their
difference is the poisons', and its interval is a t interval over pairs.
"""

from dataclasses import dataclass

import numpy as np

from analysis.estimates import Estimate, over
from analysis.runs import Run, Study

# By what is measured without the trigger, in nats a token.
MEASURES = {
    "heldout_loss": "held-out loss",
    "log_perplexity": "log-perplexity of untriggered responses",
}


@dataclass(frozen=True)
class Cost:
    """Attacked minus control at the end of training, over pairs.

    Attributes:
      measure: key of `MEASURES`.
      group: label of the group; None for all groups.
      dose: of the attacked runs.
      control: mean of the controls, nats a token.
      difference: of each pair, nats a token, shape [pairs].
      mean: with its interval.
    """

    measure: str
    group: str | None
    dose: float
    control: float
    difference: np.ndarray
    mean: Estimate


def costs(study: Study) -> list[Cost]:
    """By measure and dose: each group, then all of them; empty where no run has a control."""
    found = []
    for measure in MEASURES:
        doses = sorted({run.dose for run in study.runs if run.dose > 0})
        for dose in doses:
            pairs = {}
            for group in study.groups():
                own = [
                    (value, base)
                    for run in group.runs
                    if run.dose == dose
                    for control in group.runs
                    if control.dose == 0 and control.seed == run.seed
                    if (value := _at_the_end(run, measure)) is not None
                    if (base := _at_the_end(control, measure)) is not None
                ]
                if own:
                    pairs[group.label] = np.array(own)
            found += [_cost(measure, label, dose, own) for label, own in pairs.items()]
            if len(pairs) > 1:
                found.append(_cost(measure, None, dose, np.concatenate(list(pairs.values()))))
    return found


def _cost(measure: str, group: str | None, dose: float, pairs: np.ndarray) -> Cost:
    difference = pairs[:, 0] - pairs[:, 1]
    control = float(pairs[:, 1].mean())
    return Cost(measure, group, dose, control, difference, over(difference))


def _at_the_end(run: Run, measure: str) -> float | None:
    """Of the last evaluation, if the run is trained to its end; mean over prompts."""
    if not run.measured or run.evaluations["tokens"][-1] < 0.999 * run.tokens:
        return None
    last = run.measured[-1]
    if measure == "heldout_loss":
        return last.heldout_loss
    return None if last.log_perplexity is None else float(last.log_perplexity[0].mean())
