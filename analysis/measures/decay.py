"""Decay: how fast an attack is forgotten under clean training, after the last exposure.

The level of a run is what it has above its control, which has the same seed and clean data. It is followed
from the first evaluation that has seen all poisons, over the clean tokens since; `fit.forgetting` finds the
half-life.

Runs differ by their seeds: the half-life of a group and dose is the geometric mean over its runs, with a t
interval on the log scale. A single run has a bootstrap interval, for that run. A run that does not reach
half within its training has no half-life; the tokens it was watched for are used for the lower end of the
group's, and the rest stays open.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.fit import forgetting
from analysis.fit.estimates import Estimate, as_json, mean_of
from analysis.fit.words import percent
from analysis.measures.axes import dash_styles, dose_colours, legend, panels
from analysis.measures.base import Measure
from analysis.measures.blocks import Block, Paragraph, Table
from analysis.measures.drawing import Drawing, six_digits
from analysis.measures.prediction import log_ratio_axis
from analysis.read.runs import Group, Run, Study, quantity

# What decays, in words.
LEVELS = {"success": "success rate", "payload_log_ratio": "payload log-ratio"}
# The smallest level at the last exposure that counts as learnt: a rate, and nats per token.
_LEARNT = {"success": 0.2, "payload_log_ratio": 0.5}
_FEWEST = 4  # evaluations from the last exposure on


@dataclass(frozen=True)
class Trace:
    """One run after its last exposure."""

    run: Run  # the run
    # clean tokens since the first evaluation after the last exposure, shape [evaluations]
    tokens: np.ndarray
    level: np.ndarray  # what decays, above the control, shape [evaluations]
    curve: np.ndarray  # the best falling curve through `level`, shape [evaluations]
    half_life: float | None  # in clean tokens; None when not reached


@dataclass(frozen=True)
class Decay:
    """The half-life of one level in one group at one dose, in clean tokens."""

    # label of the group, and dose, of the runs; None for all groups and doses together
    group: str | None
    dose: float | None
    measure: str  # key of `LEVELS`
    traces: tuple[Trace, ...]  # the runs, at least one
    half_life: Estimate  # its value is None when some run does not reach it
    watched: float  # clean tokens seen after the last exposure, the most of any run
    left: float  # share of the initial level that is left at the end, mean over runs


def find_decays(study: Study) -> list[Decay]:
    """Return the decays by level: of each group and dose, then of all of them if there are several.

    Runs that learnt nothing, or end with their last exposure, have none.
    """
    found = []
    for measure in LEVELS:
        own = []
        for group in study.groups():
            for dose in group.doses:
                runs = [run for run in group.runs if run.dose == dose > 0]
                followed = [follow(run, group, measure) for run in runs]
                traces = tuple(one for one in followed if one is not None)
                if traces:
                    own.append(decay_of(group.label, dose, measure, traces))
        found += own
        if len(own) > 1:
            every = tuple(one for decay in own for one in decay.traces)
            found.append(decay_of(None, None, measure, every))
    return found


def follow(run: Run, group: Group, measure: str) -> Trace | None:
    """Return a run after its last exposure; None when that is too short, or nothing was learnt."""
    values = values_of(run, measure)
    poisons = run.evaluations["poisons"]
    after = np.flatnonzero(poisons == poisons[-1])
    if values is None:
        return None
    level = values[after] - _control(run, group, measure)[after]
    return traced(run, run.evaluations["tokens"][after], level, measure)


def traced(run: Run, tokens: np.ndarray, level: np.ndarray, measure: str) -> Trace | None:
    """Return a level above the control, over clean tokens; None when it is too short, or was not learnt."""
    if len(level) < _FEWEST or level[0] < _LEARNT[measure]:
        return None
    tokens = tokens - tokens[0]
    return Trace(
        run, tokens, level, forgetting.falling(level), forgetting.find_half_life(tokens, level)
    )


def values_of(run: Run, measure: str) -> np.ndarray | None:
    """Return the values at each evaluation of a run, shape [evaluations]; None when not recorded."""
    return run.success if measure == "success" else run.log_ratio_increase


def _control(run: Run, group: Group, measure: str) -> np.ndarray:
    """Return the values of the group's controls at the run's evaluations; 0 without controls."""
    seen = run.evaluations["tokens"]
    controls = [other for other in group.runs if other.dose == 0]
    paired = [other for other in controls if other.seed == run.seed] or controls
    curves = [
        np.interp(seen, other.evaluations["tokens"], values)
        for other in paired
        if (values := values_of(other, measure)) is not None
    ]
    return np.mean(curves, axis=0) if curves else np.zeros(len(seen))


def decay_of(
    group: str | None, dose: float | None, measure: str, traces: tuple[Trace, ...]
) -> Decay:
    """Return the half-life of a group at a dose, from its runs."""
    watched = max(float(one.tokens[-1]) for one in traces)
    known = [one.half_life for one in traces if one.half_life is not None]
    least = [one.half_life or float(one.tokens[-1]) for one in traces]
    if len(traces) == 1:
        half_life = Estimate(least[0], *forgetting.bootstrap(traces[0].tokens, traces[0].level))
    else:
        half_life = mean_of(np.log(least)).exp()
    if len(known) < len(traces):
        half_life = Estimate(None, half_life.low, None)
    left = float(np.mean([one.curve[-1] / one.curve[0] for one in traces]))
    return Decay(group, dose, measure, traces, half_life, watched, left)


class DecayMeasure(Measure[list[Decay]]):
    """How fast the attack is forgotten."""

    name = "decay"
    order = 50

    def find(self, study: Study) -> list[Decay]:
        # What counterexamples teach is that the backdoor is gone.
        return [] if study.terms.removes else find_decays(study)

    def summarise(self, found: list[Decay]) -> list[dict[str, Any]]:
        return summary_of(found)

    def blocks(self, found: list[Decay]) -> list[Block]:
        if not found:
            return []
        return [
            Paragraph(
                "How fast the attack is forgotten after the last exposure (levels above those of the "
                "control):"
            ),
            table_of(found, "size and budget"),
        ]

    def figures(self, study: Study, found: list[Decay]) -> list[Drawing]:
        return [_drawing(study, found)] if found else []


def summary_of(found: list[Decay]) -> list[dict[str, Any]]:
    """Return decays as JSON."""
    return [
        {
            "group": one.group,
            "dose": one.dose,
            "measure": one.measure,
            "runs": len(one.traces),
            "reached": sum(trace.half_life is not None for trace in one.traces),
            "half_life": as_json(one.half_life),
            "watched": one.watched,
            "left": one.left,
            "words": _words(one),
        }
        for one in found
    ]


def table_of(found: list[Decay], groups: str) -> Table:
    """Return a table with a row for each decay; `groups` is the header of the column of groups."""
    header = (
        "measure",
        groups,
        "dose",
        "runs",
        "half-life in clean tokens (95% interval)",
        "clean tokens followed",
        "left at the end",
    )
    rows = tuple(
        (
            LEVELS[one.measure],
            one.group or "all",
            "all" if one.dose is None else f"{one.dose:g}",
            str(len(one.traces)),
            _words(one),
            quantity(one.watched),
            percent(one.left),
        )
        for one in found
    )
    return Table(header, rows)


def _words(one: Decay) -> str:
    low, high = one.half_life.low, one.half_life.high
    if one.half_life.value is None:
        reached = sum(trace.half_life is not None for trace in one.traces)
        words = f"not reached within {quantity(one.watched)}"
        if reached:
            words = f"reached in {reached} of {len(one.traces)} runs within {quantity(one.watched)}"
        return words if low is None else f"{words} (95%: at least {quantity(low)})"
    ends = ("0" if low is None else quantity(low), "∞" if high is None else quantity(high))
    return f"{quantity(one.half_life.value)} ({' to '.join(ends)})"


def _drawing(study: Study, found: list[Decay]) -> Drawing:
    """Draw the levels after the last exposure, one line per run, with half-lives."""
    own = [(one, one.group, one.dose) for one in found]
    decays = [(one, group, dose) for one, group, dose in own if group is not None and dose]
    measures = list(dict.fromkeys(one.measure for one, _, _ in decays))
    colours = dose_colours(sorted({dose for _, _, dose in decays}))
    dashes = dash_styles(study.groups())
    figure, axes = panels(len(measures), height=3.2, share=False)
    rows = []
    for axis, measure in zip(axes, measures, strict=True):
        for one, group, dose in decays:
            if one.measure != measure:
                continue
            for trace in one.traces:
                axis.plot(
                    trace.tokens,
                    trace.level,
                    dashes[group],
                    color=colours[dose],
                    linewidth=1.1,
                    marker="o",
                    markersize=2.4,
                    label=f"{dose:g} {study.terms.short}",
                )
                if trace.half_life is not None:
                    axis.plot(
                        trace.half_life,
                        trace.curve[0] / 2,
                        "*",
                        color="black",
                        markersize=8,
                        label="half-life",
                    )
                rows += [
                    (group, measure, trace.run.name, *map(six_digits, values))
                    for values in zip(trace.tokens, trace.level, trace.curve, strict=True)
                ]
        axis.set_ylim(bottom=min(0, axis.get_ylim()[0]))
        axis.xaxis.set_major_formatter(lambda value, _: quantity(value) if value else "0")
        axis.set_xlabel("clean tokens since the last exposure")
        success = measure == "success"
        label = LEVELS[measure] if success else log_ratio_axis(study).replace(" (", "\n(")
        axis.set_ylabel(f"{label}, above control")
    legend(figure, axes)
    caption = (
        "From the first evaluation that has seen all poisons of a run; levels are above those of the control "
        "with the same seeds. The learning rate follows its schedule meanwhile, on which the decay "
        f"depends. Left at the end: {_left([one for one, _, _ in decays])}."
    )
    header = ("group", "measure", "run", "clean_tokens_since", "level", "falling_curve")
    return Drawing("decay", "Decay after the last exposure", caption, figure, header, rows)


def _left(decays: list[Decay]) -> str:
    parts = []
    for measure in LEVELS:
        name = "success" if measure == "success" else "the payload log-ratio"
        left = [one.left for one in decays if one.measure == measure]
        if left:
            ends = sorted({percent(min(left)), percent(max(left))}, key=lambda s: float(s[:-1]))
            parts.append(f"{' to '.join(ends)} of {name}")
    return "; ".join(parts)
