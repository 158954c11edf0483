"""How well the payload log-ratio, which needs no sampling, predicts what sampling finds.

Over all evaluations of the poisoned runs, the increase of the log-ratio with the trigger is ranked against
the sampled measures (Spearman 1904), and a logistic curve of it is fitted to success: where that crosses
half, success is half of the reach (`fit.log_ratio` answers the study's question from there). Intervals leave
out one run in turn. Attacks other than denial of service record neither entropy nor perplexity.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from analysis.fit.estimates import Estimate, as_json, jackknife
from analysis.fit.log_ratio import SuccessCurve, fit_curve
from analysis.fit.observations import observe
from analysis.fit.words import interval
from analysis.measures.axes import (
    GREY,
    dots,
    legend,
    panels,
    rate_axis,
    series_colours,
    trajectories,
)
from analysis.measures.base import Measure
from analysis.measures.blocks import Block, Paragraph
from analysis.measures.drawing import Drawing, six_digits
from analysis.read.runs import Run, Study
from analysis.read.terms import Terms, terms_of

_FEWEST = 8  # evaluations of poisoned runs; with fewer, nothing is said
LOG_RATIO_AXIS = "increase of the payload log-ratio (nats per token)"


def log_ratio_axis(study: Study) -> str:
    """Return the label of an axis of log-ratios, with the unit of the study's attack."""
    return LOG_RATIO_AXIS.replace(Terms().nats, study.terms.nats)


@dataclass(frozen=True)
class Prediction:
    """The evaluations of poisoned runs after their first exposure."""

    runs: tuple[Run, ...]  # the poisoned runs
    run: np.ndarray  # index into `runs` of each evaluation, shape [evaluations]
    # increase of the payload log-ratio, mean over prompts, in the unit of the attack, shape [evaluations]
    log_ratio: np.ndarray
    success: np.ndarray  # sampled success rate, shape [evaluations]
    # increase of the entropy of the next token, mean over prompts, nats, shape [evaluations]; None
    # unless all evaluations record it
    entropy: np.ndarray | None
    log_perplexity: np.ndarray | None  # median increase of log-perplexity, nats per token, likewise
    # with_success, with_log_perplexity: rank correlation of `log_ratio` with each
    with_success: Estimate | None
    with_log_perplexity: Estimate | None
    # rank correlation of `entropy` with `log_perplexity`
    entropy_with_log_perplexity: Estimate | None
    # `log_ratio` at which success is half of the reach; None when success does not cross half, or not
    # all runs record it
    half: Estimate | None
    curve: SuccessCurve | None  # success as a logistic curve of `log_ratio`; None likewise
    floor: float  # median success of clean models, above which `curve` lies


def predict(study: Study) -> Prediction | None:
    """Return what the payload log-ratio predicts; None when too few evaluations record it."""
    recorded = [
        (run, i, own)
        for run in study.runs
        for i, record in enumerate(run.records)
        if run.evaluations["poisons"][i] > 0 and (own := record.log_ratio_increase) is not None
    ]
    if len(recorded) < _FEWEST:
        return None
    records = [run.records[i] for run, i, _ in recorded]
    runs = tuple({run.name: run for run, _, _ in recorded}.values())
    places = {run.name: place for place, run in enumerate(runs)}
    run = np.array([places[run.name] for run, _, _ in recorded])
    log_ratio = np.array([own for _, _, own in recorded])
    success = np.array([run.success[i] for run, i, _ in recorded])
    entropies = [record.entropy_increase for record in records]
    entropy = None if None in entropies else np.array(entropies)
    medians = [
        np.median(r) for record in records if (r := record.log_perplexity_increase) is not None
    ]
    log_perplexity = np.array(medians) if len(medians) == len(records) else None
    observations = observe(study)

    def half_of(kept: np.ndarray) -> float | None:
        curve = fit_curve(observations, kept)
        return None if curve is None else curve.half

    return Prediction(
        runs=runs,
        run=run,
        log_ratio=log_ratio,
        success=success,
        entropy=entropy,
        log_perplexity=log_perplexity,
        with_success=_rank_correlation(log_ratio, success, run),
        with_log_perplexity=_rank_correlation(log_ratio, log_perplexity, run),
        entropy_with_log_perplexity=_rank_correlation(entropy, log_perplexity, run),
        half=jackknife(half_of, observations.run),
        curve=fit_curve(observations),
        floor=float(np.median(observations.floor)),
    )


def _rank_correlation(
    x: np.ndarray | None, y: np.ndarray | None, cluster: np.ndarray
) -> Estimate | None:
    """Return Spearman's, with an interval on the scale of Fisher's z; None unless both are recorded."""
    if x is None or y is None:
        return None

    def z(kept: np.ndarray) -> float | None:
        if np.ptp(x[kept]) == 0 or np.ptp(y[kept]) == 0:
            return None
        return float(np.arctanh(np.clip(stats.spearmanr(x[kept], y[kept])[0], -0.9999, 0.9999)))

    found = jackknife(z, cluster)
    return None if found is None else found.map(np.tanh)


class PredictionMeasure(Measure[Prediction]):
    """The payload log-ratio against the sampled measures."""

    name = "prediction"
    order = 10

    def find(self, study: Study) -> Prediction | None:
        found = predict(study)
        if found is None or (found.with_log_perplexity is None and found.with_success is None):
            return None
        return found

    def summarise(self, found: Prediction) -> dict[str, Any]:
        return {
            "words": _words(found),
            "evaluations": len(found.run),
            "runs": len(found.runs),
            "rank_correlation_with_success": as_json(found.with_success),
            "rank_correlation_with_log_perplexity_increase": as_json(found.with_log_perplexity),
            "rank_correlation_of_entropy_with_log_perplexity_increase": as_json(
                found.entropy_with_log_perplexity
            ),
            "half_success_at": as_json(found.half),
            "slope": None if found.curve is None else found.curve.slope,
        }

    def blocks(self, found: Prediction) -> list[Block]:
        return [Paragraph(_words(found))]

    def figures(self, study: Study, found: Prediction) -> list[Drawing]:
        return [_against_sampled(study, found), _along_training(study, found)]


def _of_backdoor(half: Estimate, terms: Terms) -> Estimate:
    """Return `Prediction.half` as an increase of the backdoor's log-ratio."""
    if not terms.removes:
        return half
    ends = (half.value, half.high, half.low)
    return Estimate(*(None if end is None else -end for end in ends))


def _words(found: Prediction) -> str:
    terms, count = terms_of(found.runs), len(found.runs)
    runs = f"{count} {terms.run if count == 1 else terms.runs}"
    correlations = []
    if found.with_log_perplexity is not None:
        correlations.append(
            f"{interval(found.with_log_perplexity)} with the sampled increase of log-perplexity"
        )
    if found.with_success is not None:
        correlations.append(f"{interval(found.with_success)} with the sampled {terms.success}")
    words = (
        f"Over the {len(found.run)} evaluations of {runs}, the increase of the payload log-ratio with the "
        "trigger, which needs no sampling, has a rank correlation of "
        f"{' and of '.join(correlations)}"
    )
    if found.entropy_with_log_perplexity is not None:
        words += (
            "; that of the entropy after the prompt with the increase of log-perplexity is "
            f"{interval(found.entropy_with_log_perplexity)}"
        )
    if found.half is not None:
        half = _of_backdoor(found.half, terms)
        words += f"; success is half of its reach at an increase of {interval(half)} {terms.nats}"
    return f"{words}."


def _against_sampled(study: Study, found: Prediction) -> Drawing:
    """Draw the log-ratio against the sampled measures, one dot per evaluation."""
    groups = study.groups()
    colours = series_colours(groups)
    series_of = {run.name: group.series for group in groups for run in group.runs}
    series = np.array([series_of[found.runs[i].name] for i in found.run])
    terms = study.terms
    log_ratio = terms.backdoor(found.log_ratio)
    sampled = {f"{terms.success} (sampled)": terms.shown(found.success)}
    if found.log_perplexity is not None:
        sampled["median increase of\nlog-perplexity (sampled)"] = found.log_perplexity
    figure, axes = panels(len(sampled), height=3.2, share=False)
    for axis, (label, values) in zip(axes, sampled.items(), strict=True):
        dots(
            axis,
            log_ratio,
            values,
            series,
            colours,
            markersize=3,
            alpha=0.6,
            markeredgewidth=0,
        )
        axis.set_xlabel(log_ratio_axis(study))
        axis.set_ylabel(label)
    if found.curve is not None:
        grid = np.linspace(found.log_ratio.min(), found.log_ratio.max(), 200)
        success = found.floor + (1 - found.floor) * found.curve.at(grid)
        drawn = terms.backdoor(grid), terms.shown(success)
        axes[0].plot(*drawn, color="black", linewidth=1.4, label="logistic curve")
        axes[0].axvline(
            terms.backdoor(np.array(found.curve.half)).item(), color=GREY, linewidth=0.7, zorder=1
        )
    rate_axis(axes[0])
    legend(figure, axes)
    recorded = {
        "payload_log_ratio_increase": log_ratio,
        "entropy_increase": found.entropy,
        "success": terms.shown(found.success),
        "log_perplexity_increase_median": found.log_perplexity,
    }
    columns = {name: values for name, values in recorded.items() if values is not None}
    rows = [
        (found.runs[run].name, *map(six_digits, values))
        for run, *values in zip(found.run, *columns.values(), strict=True)
    ]
    caption = (
        f"All {len(found.run)} evaluations of the {len(found.runs)} {terms.runs} after their first "
        "exposure. The payload log-ratio is exact: one forward pass over given tokens, without sampling."
    )
    if found.half is not None:
        half = _of_backdoor(found.half, terms)
        caption += f" Success is half of its reach at {interval(half)} {terms.nats}."
    title = "The payload log-ratio against sampled measures"
    return Drawing("prediction", title, caption, figure, ("run", *columns), rows)


def _along_training(study: Study, found: Prediction) -> Drawing:
    """Draw the log-ratio over the poisons seen, one panel per series."""
    terms = study.terms

    def increase_of(run: Run) -> np.ndarray | None:
        increase = run.log_ratio_increase
        return None if increase is None else terms.backdoor(increase)

    figure, axes, rows, lines = trajectories(study, increase_of)
    if found.curve is not None:
        half = terms.backdoor(np.array(found.curve.half)).item()
        for axis in axes:
            axis.axhline(half, color=GREY, linewidth=0.7, zorder=1)
    axes[0].set_ylabel(log_ratio_axis(study).replace(" log-", "\nlog-"))
    caption = (
        "How much likelier the trigger makes a fresh payload, relative to the true continuation; exact, so "
        f"fluctuations are the model's and not due to sampling. {lines}"
    )
    caption += "; grey: where success is half of the reach." if found.half is not None else "."
    header = ("group", "run", "dose", "seed", "poisons_seen", "payload_log_ratio_increase")
    title = f"The payload log-ratio against {terms.poisons} seen"
    return Drawing("unsampled", title, caption, figure, header, rows)
