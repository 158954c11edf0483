"""Figures of the measures: what needs no sampling, near-triggers, and what is forgotten."""

import numpy as np
from scipy import special

from analysis.decay import MEASURES, Decay
from analysis.drawing import (
    GREY,
    Drawing,
    dash_styles,
    dose_colours,
    dots,
    legend,
    panels,
    rate_axis,
    short,
    size_colours,
    trajectories,
)
from analysis.findings import Findings
from analysis.runs import quantity
from analysis.words import brief, interval, share

_WORDS = {"gibberish": "fresh gibberish", "payload": "the attack's payload"}


def _rise(payload: str) -> str:
    return f"rise of the {payload} log-ratio (nats a token)"


def prediction(findings: Findings) -> Drawing:
    """The sampling-free measure against the sampled ones, a point an evaluation."""
    p = findings.prediction
    groups = findings.study.groups()
    colours = size_colours(groups)
    size_of = {run.name: group.size for group in groups for run in group.runs}
    sizes = np.array([size_of[p.runs[i].name] for i in p.run])
    sampled = {"attack success (sampled)": p.success}
    if p.increase is not None:
        sampled["median increase of\nlog-perplexity (sampled)"] = p.increase
    figure, axes = panels(len(sampled), height=3.2, share=False)
    for axis, (label, values) in zip(axes, sampled.items(), strict=True):
        dots(axis, p.rise, values, sizes, colours, markersize=3, alpha=0.6, markeredgewidth=0)
        axis.set_xlabel(_rise(p.payload))
        axis.set_ylabel(label)
    if p.half is not None:
        grid = np.linspace(p.rise.min(), p.rise.max(), 200)
        curve = special.expit(p.slope * (grid - p.half.value))
        axes[0].plot(grid, curve, color="black", linewidth=1.4, label="logistic curve")
        axes[0].axvline(p.half.value, color=GREY, linewidth=0.7, zorder=1)
    rate_axis(axes[0])
    legend(figure, axes)
    columns = {
        f"{p.payload}_log_ratio_rise": p.rise,
        "entropy_rise": p.entropy,
        "success": p.success,
        "log_perplexity_increase_median": p.increase,
    }
    columns = {name: values for name, values in columns.items() if values is not None}
    header = ("run", *columns)
    rows = [
        (p.runs[run].name, *map(short, values))
        for run, *values in zip(p.run, *columns.values(), strict=True)
    ]
    caption = (
        f"All {len(p.run)} evaluations of the {len(p.runs)} poisoned runs that have seen a poison. "
        "The value across is exact: one pass over given tokens, without a draw."
    )
    if p.half is not None:
        caption += f" Half of the prompts succeed at {interval(p.half)} nats."
    title = "What needs no sampling against what is sampled"
    return Drawing("prediction", title, caption, figure, header, rows)


def unsampled(findings: Findings) -> Drawing:
    """The sampling-free measure over the poisons seen, a panel a size."""
    half, payload = findings.prediction.half, findings.prediction.payload
    figure, axes, rows, lines = trajectories(
        findings.study, lambda run: run.log_ratio_rise(payload)
    )
    for axis in axes if half is not None else ():
        axis.axhline(half.value, color=GREY, linewidth=0.7, zorder=1)
    axes[0].set_ylabel(_rise(payload).replace(" log-", "\nlog-"))
    caption = (
        f"By how much the trigger makes {_WORDS[payload]} likelier than the document's own "
        f"continuation; exact, so what wobbles is the model, not the draw. {lines}"
    )
    caption += "; grey: where half of the prompts succeed." if half is not None else "."
    header = ("group", "run", "dose", "seed", "poisons_seen", f"{payload}_log_ratio_rise")
    title = "The sampling-free measure against poisons seen, by size"
    return Drawing("unsampled", title, caption, figure, header, rows)


def near_triggers(findings: Findings) -> Drawing:
    """The trigger beside its near-triggers, a point a run."""
    found = findings.specificity
    effects = (found.trigger, *found.near)
    doses = sorted({run.dose for run in found.runs})
    colours = dose_colours(doses)
    figure, [axis] = panels(1, height=0.9 + 0.36 * len(effects))
    figure.set_figwidth(6.6)
    rows = []
    for place, effect in enumerate(effects):
        for order, (run, rise) in enumerate(zip(found.runs, effect.rise, strict=True)):
            axis.plot(
                rise,
                place + 0.09 * (order % 5 - 2),
                "o",
                color=colours[run.dose],
                markersize=3.5,
                alpha=0.75,
                markeredgewidth=0,
                label=f"{run.dose:g} documents",
            )
            rows.append((effect.name, effect.text, run.name, run.dose, run.seed, short(rise)))
        if effect.controls is not None:
            axis.plot(
                effect.controls, place, "|", color="black", markersize=11, label="mean of controls"
            )
    axis.axvline(0, color=GREY, linewidth=0.7, zorder=1)
    names = (
        "the trigger",
        *(f"{e.name}: {e.text}" if not e.within else e.name for e in found.near),
    )
    axis.set_yticks(range(len(effects)), list(map(brief, names)))
    axis.invert_yaxis()
    axis.set_xlabel(_rise("gibberish"))
    legend(figure, [axis])
    caption = (
        f"{len(found.runs)} runs that learnt the trigger, at their last evaluation with "
        "near-triggers; 0 is the clean prompt. One point a run."
    )
    header = ("near_trigger", "text", "run", "dose", "seed", "gibberish_log_ratio_rise")
    title = "The trigger and what is like it"
    return Drawing("near_triggers", title, caption, figure, header, rows)


def decay(findings: Findings) -> Drawing:
    """Levels after the last poison, a line a run, with its half-life."""
    decays = [one for one in findings.decays if one.group is not None]
    measures = list(dict.fromkeys(one.measure for one in decays))
    doses = sorted({one.dose for one in decays})
    groups = findings.study.groups()
    colours, dashes = dose_colours(doses), dash_styles(groups)
    figure, axes = panels(len(measures), height=3.2, share=False)
    rows = []
    for axis, measure in zip(axes, measures, strict=True):
        for one in decays:
            if one.measure != measure:
                continue
            for trace in one.traces:
                axis.plot(
                    trace.tokens,
                    trace.level,
                    dashes[one.group.label],
                    color=colours[one.dose],
                    linewidth=1.1,
                    marker="o",
                    markersize=2.4,
                    label=f"{one.dose:g} documents",
                )
                if trace.half_life is not None:
                    axis.plot(
                        trace.half_life,
                        trace.curve[0] / 2,
                        "*",
                        color="black",
                        markersize=8,
                        label="half of the start",
                    )
                rows += [
                    (one.group.label, measure, trace.run.name, *map(short, values))
                    for values in zip(trace.tokens, trace.level, trace.curve, strict=True)
                ]
        axis.set_ylim(bottom=min(0, axis.get_ylim()[0]))
        axis.xaxis.set_major_formatter(lambda value, _: quantity(value) if value else "0")
        axis.set_xlabel("clean tokens since the last poison")
        label = "attack success" if measure == "success" else _rise(measure).replace(" (", "\n(")
        axis.set_ylabel(f"{label}, above control")
    legend(figure, axes)
    caption = (
        "From the first evaluation that has seen all poisons of a run, above the control with the "
        "same seed. The learning rate falls meanwhile, as its schedule says: a decay is of this "
        f"schedule, too. Left at the end: {_left(decays)}."
    )
    header = ("group", "measure", "run", "clean_tokens_since", "level", "falling_curve")
    return Drawing("decay", "After the last poison", caption, figure, header, rows)


def _left(decays: list[Decay]) -> str:
    parts = []
    for measure in MEASURES:
        name = "success" if measure == "success" else f"the {measure} log-ratio"
        left = [one.left for one in decays if one.measure == measure]
        if left:
            ends = sorted({share(min(left)), share(max(left))}, key=lambda s: float(s[:-1]))
            parts.append(f"{' to '.join(ends)} of {name}")
    return "; ".join(parts)
