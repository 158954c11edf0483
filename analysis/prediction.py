"""What needs no sampling against what is sampled: does it say the same?

The rise of the gibberish log-ratio with the trigger is exact and cheap. Over all evaluations of the
poisoned runs it is ranked against what sampling finds (Spearman 1904), and a logistic curve of it is
fitted to success, which gives the value at which half of the prompts succeed. Intervals leave out one
run in turn.
"""

from dataclasses import dataclass

import numpy as np
from scipy import optimize, special, stats

from analysis.estimates import Estimate, jackknife
from analysis.runs import Run, Study

_FEWEST = 8  # evaluations of poisoned runs that anything is said about


@dataclass(frozen=True)
class Prediction:
    """Evaluations of the poisoned runs with at least one poison seen.

    Attributes:
      runs: the poisoned runs.
      run: index into `runs` of each evaluation, shape [evaluations].
      rise: of the gibberish log-ratio, mean over prompts, nats a token, shape [evaluations].
      entropy: rise of the entropy of the next token, likewise, nats.
      success: sampled success rate, shape [evaluations].
      increase: median increase of log-perplexity, nats a token, shape [evaluations].
      with_success, with_increase: rank correlation of `rise` with each.
      entropy_with_increase: of `entropy` with `increase`.
      half: `rise` at which half of the prompts succeed; None where success does not cross half.
      slope: of the logistic curve; None likewise.
    """

    runs: tuple[Run, ...]
    run: np.ndarray
    rise: np.ndarray
    entropy: np.ndarray
    success: np.ndarray
    increase: np.ndarray
    with_success: Estimate | None
    with_increase: Estimate | None
    entropy_with_increase: Estimate | None
    half: Estimate | None
    slope: float | None


def predict(study: Study) -> Prediction | None:
    """None where too few evaluations record both kinds of measure."""
    rows, runs = [], []
    for run in study.runs:
        before = len(rows)
        for i, one in enumerate(run.measured):
            recorded = (one.gibberish, one.entropy, one.log_perplexity)
            if run.evaluations["poisons"][i] > 0 and not any(m is None for m in recorded):
                success = run.success[i]
                entropy = float(np.mean(one.entropy[1] - one.entropy[0]))
                increase = float(np.median(one.log_perplexity_rise))
                prompts = run.evaluations["prompts"][i]
                rows.append((len(runs), one.gibberish_rise, entropy, success, increase, prompts))
        runs += [run] if len(rows) > before else []
    if len(rows) < _FEWEST:
        return None
    run, rise, entropy, success, increase, prompts = np.array(rows).T
    half = slope = None
    if success.min() < 0.5 <= success.max():
        half = jackknife(lambda kept: _half(rise[kept], success[kept], prompts[kept])[0], run)
        slope = _half(rise, success, prompts)[1]
    return Prediction(
        runs=tuple(runs),
        run=run.astype(int),
        rise=rise,
        entropy=entropy,
        success=success,
        increase=increase,
        with_success=_rank_correlation(rise, success, run),
        with_increase=_rank_correlation(rise, increase, run),
        entropy_with_increase=_rank_correlation(entropy, increase, run),
        half=half,
        slope=slope,
    )


def _rank_correlation(x: np.ndarray, y: np.ndarray, cluster: np.ndarray) -> Estimate | None:
    """Spearman's, with an interval on the scale of Fisher's z."""

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
