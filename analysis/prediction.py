"""What needs no sampling against what is sampled: does it say the same?

The rise of a payload's log-ratio with the trigger is exact and cheap. Over all evaluations of the
poisoned runs it is ranked against what sampling finds (Spearman 1904), and a logistic curve of it is
fitted to success, which gives the value at which half of the prompts succeed. Intervals leave out one
run in turn. Entropy and perplexity say something of denial of service alone; other attacks do not
record them.
"""

from dataclasses import dataclass

import numpy as np
from scipy import optimize, special, stats

from analysis.estimates import Estimate, jackknife
from analysis.measures import PAYLOADS
from analysis.runs import Run, Study

_FEWEST = 8  # evaluations of poisoned runs that anything is said about


@dataclass(frozen=True)
class Prediction:
    """Evaluations of the poisoned runs with at least one poison seen.

    Attributes:
      runs: the poisoned runs.
      run: index into `runs` of each evaluation, shape [evaluations].
      payload: that `rise` is of, one of `PAYLOADS`.
      rise: of its log-ratio, mean over prompts, nats a token, shape [evaluations].
      success: sampled success rate, shape [evaluations].
      entropy: rise of the entropy of the next token, mean over prompts, nats, shape [evaluations];
        None unless all record it.
      increase: median increase of log-perplexity, nats a token, likewise.
      with_success, with_increase: rank correlation of `rise` with each.
      entropy_with_increase: of `entropy` with `increase`.
      half: `rise` at which half of the prompts succeed; None where success does not cross half.
      slope: of the logistic curve; None likewise.
    """

    runs: tuple[Run, ...]
    run: np.ndarray
    payload: str
    rise: np.ndarray
    success: np.ndarray
    entropy: np.ndarray | None
    increase: np.ndarray | None
    with_success: Estimate | None
    with_increase: Estimate | None
    entropy_with_increase: Estimate | None
    half: Estimate | None
    slope: float | None


def predict(study: Study) -> Prediction | None:
    """Of the first payload that enough evaluations record; None where there is none."""
    for payload in PAYLOADS:
        recorded = [
            (run, i)
            for run in study.runs
            for i, one in enumerate(run.measured)
            if run.evaluations["poisons"][i] > 0 and one.log_ratio_rise(payload) is not None
        ]
        if len(recorded) >= _FEWEST:
            return _predict(payload, recorded)
    return None


def _predict(payload: str, recorded: list[tuple[Run, int]]) -> Prediction:
    """From the evaluations that record the payload's log-ratio: a run, and which of its evaluations."""
    measured = [run.measured[i] for run, i in recorded]
    runs = tuple({run.name: run for run, _ in recorded}.values())
    places = {run.name: place for place, run in enumerate(runs)}
    run = np.array([places[run.name] for run, _ in recorded])
    rise = np.array([one.log_ratio_rise(payload) for one in measured])
    success = np.array([run.success[i] for run, i in recorded])
    prompts = np.array([run.evaluations["prompts"][i] for run, i in recorded])
    entropies = [one.entropy_rise for one in measured]
    entropy = None if None in entropies else np.array(entropies)
    increases = [one.log_perplexity_rise for one in measured]
    increase = None
    if not any(one is None for one in increases):
        increase = np.array([np.median(one) for one in increases])
    half = slope = None
    if success.min() < 0.5 <= success.max():
        half = jackknife(lambda kept: _half(rise[kept], success[kept], prompts[kept])[0], run)
        slope = _half(rise, success, prompts)[1]
    return Prediction(
        runs=runs,
        run=run,
        payload=payload,
        rise=rise,
        success=success,
        entropy=entropy,
        increase=increase,
        with_success=_rank_correlation(rise, success, run),
        with_increase=_rank_correlation(rise, increase, run),
        entropy_with_increase=_rank_correlation(entropy, increase, run),
        half=half,
        slope=slope,
    )


def _rank_correlation(
    x: np.ndarray | None, y: np.ndarray | None, cluster: np.ndarray
) -> Estimate | None:
    """Spearman's, with an interval on the scale of Fisher's z; None where either is not recorded."""
    if x is None or y is None:
        return None

    def z(kept):
        if np.ptp(x[kept]) == 0 or np.ptp(y[kept]) == 0:
            return None
        return float(np.arctanh(np.clip(stats.spearmanr(x[kept], y[kept])[0], -0.9999, 0.9999)))

    found = jackknife(z, cluster)
    return None if found is None else found.map(np.tanh)


def _half(rise: np.ndarray, success: np.ndarray, prompts: np.ndarray) -> tuple[float | None, float]:
    """Where a logistic curve of `rise` crosses half, and its slope, by maximum likelihood.

    None where it does not rise, or crosses outside what was observed.
    """

    def loss(at):
        p = np.clip(special.expit(at[0] + at[1] * rise), 1e-9, 1 - 1e-9)
        return -np.mean(prompts * (success * np.log(p) + (1 - success) * np.log(1 - p)))

    offset, slope = optimize.minimize(loss, (-1.0, 1.0), method="Nelder-Mead").x
    if slope <= 0 or not rise.min() <= -offset / slope <= rise.max():
        return None, float(slope)
    return float(-offset / slope), float(slope)
