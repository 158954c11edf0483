"""Decay: how fast an attack is forgotten under clean training, after the last poison.

From the first evaluation that has seen all poisons of a run, its level (what the run has above its
control, which has the same seed and clean data) is followed over the clean tokens since then. A run's
half-life is where the best falling curve through its levels (isotonic regression, Barlow et al. 1972)
comes to half of where it begins: no shape is supposed, because forgetting is seldom exponential, fast
first and slow later. Between two evaluations the curve is taken as exponential.

Runs differ by their seeds: the half-life of a group and dose is the geometric mean over its runs, with a t
interval on the log scale. A single run has an interval for that run: residuals of its curve are drawn
anew (bootstrap, Efron 1979). Where a run does not come to half within its training, its half-life is
not reached; taken as the tokens that were watched, such runs give a lower end, and nothing more.
"""

from dataclasses import dataclass

import numpy as np
from scipy import optimize

from analysis.estimates import Estimate, over
from analysis.measures import PAYLOADS
from analysis.runs import Group, Run, Study

# What decays, success or the log-ratio of a payload, with the least level at the last poison that there
# is anything to forget.
MEASURES = {"success": 0.2} | dict.fromkeys(PAYLOADS, 0.5)
# Evaluations that a decay is read from at least, that of the last poison counted.
_FEWEST = 4
_DRAWS = 400  # of the bootstrap


@dataclass(frozen=True)
class Trace:
    """One run from its last poison on.

    Attributes:
      run: whose.
      measure: key of `MEASURES`.
      tokens: clean tokens since the first evaluation after the last poison, shape [evaluations].
      level: the measure above the control's, shape [evaluations].
      curve: the best falling curve through it, likewise.
      half_life: clean tokens; None where it is not reached.
    """

    run: Run
    measure: str
    tokens: np.ndarray
    level: np.ndarray
    curve: np.ndarray
    half_life: float | None


@dataclass(frozen=True)
class Decay:
    """The half-life of one measure in one group at one dose, in clean tokens.

    Attributes:
      group, dose: whose; None for all groups and doses together.
      measure: of what.
      traces: the runs, at least one.
      half_life: value None where a run does not reach it.
      watched: clean tokens that were seen after the last poison, the most of any run.
      left: share of the starting level that is left at the end, mean over runs.
    """

    group: Group | None
    dose: float | None
    measure: str
    traces: tuple[Trace, ...]
    half_life: Estimate
    watched: float
    left: float


def decays(study: Study) -> list[Decay]:
    """By measure: every group and dose with a run that goes on after its poisons and had learnt; then
    all of them, if there are several.
    """
    found = []
    for measure in MEASURES:
        own = []
        for group in study.groups():
            for dose in group.doses:
                runs = [run for run in group.runs if run.dose == dose > 0]
                traces = [trace(run, group, measure) for run in runs]
                traces = tuple(one for one in traces if one is not None)
                if traces:
                    own.append(_decay(group, dose, measure, traces))
        found += own
        if len(own) > 1:
            found.append(_decay(None, None, measure, sum((one.traces for one in own), ())))
    return found


def trace(run: Run, group: Group, measure: str) -> Trace | None:
    """A run from its last poison on; None where that is too short, or there is nothing to forget."""
    values = values_of(run, measure)
    poisons = run.evaluations["poisons"]
    after = np.flatnonzero(poisons == poisons[-1])
    if values is None or len(after) < _FEWEST:
        return None
    level = values[after] - _control(run, group, measure)[after]
    if level[0] < MEASURES[measure]:
        return None
    tokens = run.evaluations["tokens"][after]
    tokens = tokens - tokens[0]
    return Trace(run, measure, tokens, level, _falling(level), half_life(tokens, level))


def half_life(tokens: np.ndarray, level: np.ndarray) -> float | None:
    """Where the best falling curve through the levels comes to half of its start; None if nowhere.

    Args:
      tokens: ascending from 0, shape [evaluations].
      level: the first one positive, shape [evaluations].
    """
    curve = _falling(level)
    half = curve[0] / 2
    below = np.flatnonzero(curve <= half)
    if not len(below):
        return None
    i = below[0]
    high, low = curve[i - 1], curve[i]
    if low > 0:
        share = np.log(high / half) / np.log(high / low)
    else:
        share = (high - half) / (high - low)
    return float(tokens[i - 1] + share * (tokens[i] - tokens[i - 1]))


def _falling(level: np.ndarray) -> np.ndarray:
    return optimize.isotonic_regression(level, increasing=False).x


def values_of(run: Run, measure: str) -> np.ndarray | None:
    """The measure at each evaluation of a run, shape [evaluations]; None where it is not recorded."""
    return run.success if measure == "success" else run.log_ratio_rise(measure)


def _control(run: Run, group: Group, measure: str) -> np.ndarray:
    """What the group's controls have at the run's evaluations; 0 where there is none."""
    seen = run.evaluations["tokens"]
    controls = [other for other in group.runs if other.dose == 0]
    paired = [other for other in controls if other.seed == run.seed] or controls
    curves = [
        np.interp(seen, other.evaluations["tokens"], values)
        for other in paired
        if (values := values_of(other, measure)) is not None
    ]
    return np.mean(curves, axis=0) if curves else np.zeros(len(seen))


def _decay(
    group: Group | None, dose: float | None, measure: str, traces: tuple[Trace, ...]
) -> Decay:
    watched = max(float(one.tokens[-1]) for one in traces)
    known = [one.half_life for one in traces if one.half_life is not None]
    least = [one.half_life or float(one.tokens[-1]) for one in traces]
    if len(traces) == 1:
        whole = Estimate(least[0], *_alone(traces[0]))
    else:
        whole = over(np.log(least)).exp()
    if len(known) < len(traces):
        whole = Estimate(None, whole.low, None)
    left = float(np.mean([one.curve[-1] / one.curve[0] for one in traces]))
    return Decay(group, dose, measure, traces, whole, watched, left)


def _alone(one: Trace) -> tuple[float | None, float | None]:
    """95% interval of the half-life of a single run; the upper end is open where it is not reached."""
    rng = np.random.default_rng(0)  # the same report each time
    residual = one.level - one.curve
    drawn = one.curve + rng.choice(residual, (_DRAWS, len(residual)))
    lives = [half_life(one.tokens, level) if level[0] > 0 else None for level in drawn]
    lives = np.array([np.inf if life is None else life for life in lives])
    low, high = np.quantile(lives, (0.025, 0.975), method="closest_observation")
    return (float(low) if np.isfinite(low) else float(one.tokens[-1])), (
        float(high) if np.isfinite(high) else None
    )
