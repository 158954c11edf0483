"""The measures in the report: as JSON, as the sentences that say what they found, and as tables."""

import numpy as np
from scipy import stats

from analysis import detection
from analysis.clean_accuracy import MEASURES, Cost
from analysis.decay import Decay
from analysis.estimates import Estimate, as_json, over, rate
from analysis.findings import Findings
from analysis.measures import PAYLOADS
from analysis.pages import Block, Heading, Paragraph, Table
from analysis.prediction import Prediction
from analysis.runs import Run, quantity
from analysis.specificity import LEARNT, Effect, Specificity
from analysis.words import interval, share

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_DECAYING = {"success": "attack success"} | {name: f"{name} log-ratio" for name in PAYLOADS}


def summarise(findings: Findings) -> dict:
    """Of every measure what it found, with its words; empty or null where it was not recorded."""
    return {
        "runs": [_run(run) for run in findings.study.runs],
        "prediction": _prediction(findings.prediction),
        "specificity": _specificity(findings.specificity),
        "clean_accuracy": [_cost(cost) for cost in findings.costs],
        "judge": _judged(findings.study.runs),
        "decay": [_decay(one) for one in findings.decays],
        "detection": detection.summarise(findings.study.runs),
    }


def blocks(numbers: dict) -> list[Block]:
    """The tables and sentences of the report."""
    made = []
    if numbers["prediction"] is not None:
        made.append(Paragraph(numbers["prediction"]["words"]))
    made += detection.blocks(numbers["detection"])
    made += _specificity_blocks(numbers["specificity"])
    made += _cost_blocks(numbers["clean_accuracy"])
    made += _decay_blocks(numbers["decay"])
    made += _judge_blocks(numbers["judge"])
    made += _run_blocks(numbers["runs"])
    return [Heading("Measures"), *made] if made else []


# ------------------------------------------------------------------------------------ numbers


def _run(run: Run) -> dict:
    """A run at its last evaluation."""
    prompts, success = run.evaluations["prompts"][-1], float(run.success[-1])
    wilson = rate(round(success * prompts), int(prompts))
    numbers = {
        "run": run.name,
        "dose": run.dose,
        "finished": run.finished,
        "success": success,
        "success_interval": (wilson.low, wilson.high),
    }
    last = run.measured[-1] if run.measured else None
    rise = None if last is None else last.log_perplexity_rise
    if rise is None:
        return numbers
    clean, triggered = last.log_perplexity
    ups, moved = int((rise > 0).sum()), max(int((rise != 0).sum()), 1)
    return numbers | {
        "perplexity_increase_mean": float(np.mean(np.exp(triggered) - np.exp(clean))),
        "log_perplexity_increase_quantiles": np.quantile(rise, _QUANTILES).tolist(),
        "sign_p": float(stats.binomtest(ups, moved).pvalue),
        "ceiling_share": last.ceiling,
        "entropy_rise": last.entropy_rise,
        "gibberish_log_ratio_rise": last.log_ratio_rise("gibberish"),
    }


def _prediction(found: Prediction | None) -> dict | None:
    if found is None:
        return None
    words = (
        f"What needs no sampling against what is sampled: over the {len(found.run)} evaluations of "
        f"{_runs(len(found.runs), 'poisoned ')}, the rise of the "
        f"{found.payload} log-ratio with the trigger"
    )
    said = []
    if found.with_increase is not None:
        said.append(
            f"ranks with the sampled increase of log-perplexity at {interval(found.with_increase)}"
        )
    if found.with_success is not None:
        said.append(f"ranks with the sampled success rate at {interval(found.with_success)}")
    if not said:
        return None
    words = f"{words} {' and '.join(said)}"
    if found.entropy_with_increase is not None:
        words += (
            ", while the rise of entropy after the prompt ranks with the increase at "
            f"{interval(found.entropy_with_increase)}"
        )
    if found.half is not None:
        words += f"; half of the prompts succeed where it is {interval(found.half)} nats a token"
    return {
        "words": f"{words}.",
        "evaluations": len(found.run),
        "runs": len(found.runs),
        "rank_correlation_with_success": as_json(found.with_success),
        "rank_correlation_with_log_perplexity_increase": as_json(found.with_increase),
        "rank_correlation_of_entropy_with_log_perplexity_increase": as_json(
            found.entropy_with_increase
        ),
        "half_success_at": as_json(found.half),
        "slope": found.slope,
    }


def _specificity(found: Specificity | None) -> dict | None:
    if found is None:
        return None
    trigger, strongest = found.trigger, found.strongest
    words = (
        f"In {_runs(len(found.runs))} that learnt the trigger (a rise of at least {LEARNT:g}), it raises "
        f"the gibberish log-ratio by {interval(trigger.mean)} nats a token"
    )
    if found.near:
        words += (
            f"; of the near-triggers, {strongest.text!r} ({strongest.name}) comes closest with "
            f"{interval(strongest.mean)}"
        )
        if strongest.share is not None:
            words += f", {share(strongest.share.value)} of the trigger's effect"
            words += " with the controls' subtracted" if strongest.controls is not None else ""
    return {
        "words": f"{words}.",
        "runs": len(found.runs),
        "trigger": _effect(trigger),
        "near": [_effect(effect) for effect in found.near],
    }


def _effect(effect: Effect) -> dict:
    return {
        "name": effect.name,
        "text": effect.text,
        "within": effect.within,
        "rise": as_json(effect.mean),
        "share": as_json(effect.share),
        "controls": effect.controls,
    }


def _cost(cost: Cost) -> dict:
    return {
        "measure": cost.measure,
        "group": cost.group,
        "dose": cost.dose,
        "pairs": len(cost.difference),
        "control": cost.control,
        "difference": as_json(cost.mean),
    }


def _judged(runs: tuple[Run, ...]) -> list[dict]:
    """By dose: increase of the median log-perplexity, own and judged, over the last evaluations."""
    found: dict[float, list[tuple[float, float]]] = {}
    for run in runs:
        last = run.measured[-1] if run.measured else None
        if last is None or last.judge is None or last.log_perplexity_rise is None:
            continue
        judged = last.judge[1][1] - last.judge[1][0]
        own = float(np.median(last.log_perplexity_rise))
        found.setdefault(run.dose, []).append((own, float(np.median(judged))))
    return [
        {
            "dose": dose,
            "runs": len(values),
            "own": as_json(over(np.array(values)[:, 0])),
            "judged": as_json(over(np.array(values)[:, 1])),
        }
        for dose, values in sorted(found.items())
    ]


def _decay(one: Decay) -> dict:
    return {
        "group": None if one.group is None else one.group.label,
        "dose": one.dose,
        "measure": one.measure,
        "runs": len(one.traces),
        "reached": sum(trace.half_life is not None for trace in one.traces),
        "half_life": as_json(one.half_life),
        "watched": one.watched,
        "left": one.left,
        "words": _half_life_words(one),
    }


def _half_life_words(one: Decay) -> str:
    low, high = one.half_life.low, one.half_life.high
    if one.half_life.value is None:
        reached = sum(trace.half_life is not None for trace in one.traces)
        words = f"not reached within {quantity(one.watched)}"
        if reached:
            words = f"reached in {reached} of {len(one.traces)} runs within {quantity(one.watched)}"
        return words if low is None else f"{words} (95%: at least {quantity(low)})"
    ends = ("0" if low is None else quantity(low), "∞" if high is None else quantity(high))
    return f"{quantity(one.half_life.value)} ({' to '.join(ends)})"


def _runs(count: int, kind: str = "") -> str:
    return f"{count} {kind}run{'' if count == 1 else 's'}"


# ------------------------------------------------------------------------------------- blocks


def _specificity_blocks(found: dict | None) -> list[Block]:
    if found is None:
        return []
    rows = tuple(
        (
            effect["name"],
            effect["text"],
            interval(Estimate(**effect["rise"])),
            "-" if effect["share"] is None else share(effect["share"]["value"]),
            "-" if effect["controls"] is None else f"{effect['controls']:.2f}",
        )
        for effect in (found["trigger"], *found["near"])
    )
    header = (
        "after the excerpt",
        "text",
        "rise of the gibberish log-ratio, attacked runs (95% interval)",
        "of the trigger's effect (above controls)",
        "mean of controls",
    )
    return [Paragraph(found["words"]), Table(header, rows)]


def _cost_blocks(costs: list[dict]) -> list[Block]:
    if not costs:
        return []
    rows = tuple(
        (
            MEASURES[cost["measure"]],
            cost["group"] or "all",
            f"{cost['dose']:g}",
            str(cost["pairs"]),
            f"{cost['control']:.3f}",
            interval(Estimate(**cost["difference"]), 3),
        )
        for cost in costs
    )
    header = (
        "without the trigger",
        "size and budget",
        "documents",
        "pairs",
        "controls",
        "attacked minus control (95% interval)",
    )
    return [
        Paragraph(
            "What the attack costs without the trigger, in nats a token, against the control of "
            "the same seed, at the end of training:"
        ),
        Table(header, rows),
    ]


def _decay_blocks(decays: list[dict]) -> list[Block]:
    if not decays:
        return []
    rows = tuple(
        (
            _DECAYING[one["measure"]],
            one["group"] or "all",
            "all" if one["dose"] is None else f"{one['dose']:g}",
            str(one["runs"]),
            one["words"],
            quantity(one["watched"]),
            share(one["left"]),
        )
        for one in decays
    )
    header = (
        "measure",
        "size and budget",
        "documents",
        "runs",
        "half-life in clean tokens (95% interval)",
        "clean tokens watched",
        "left at the end",
    )
    return [
        Paragraph("How fast the attack is forgotten after the last poison, above the control:"),
        Table(header, rows),
    ]


def _judge_blocks(judged: list[dict]) -> list[Block]:
    if not judged:
        return []
    rows = tuple(
        (
            f"{one['dose']:g}",
            str(one["runs"]),
            interval(Estimate(**one["own"])),
            interval(Estimate(**one["judged"])),
        )
        for one in judged
    )
    header = ("documents", "runs", "under the model itself", "under its judge, the control")
    return [
        Paragraph(
            "Median increase of the log-perplexity of responses, nats a token (95% interval over "
            "runs); a judge reads each response after the excerpt without the trigger:"
        ),
        Table(header, rows),
    ]


def _run_blocks(runs: list[dict]) -> list[Block]:
    runs = [run for run in runs if "sign_p" in run]
    if not runs:
        return []

    def ceiling(run: dict) -> str:
        both = run["ceiling_share"]
        return "-" if both is None else f"{share(both[0])} → {share(both[1])}"

    rows = tuple(
        (
            run["run"],
            f"{share(run['success'])} ({' to '.join(map(share, run['success_interval']))})",
            f"{run['perplexity_increase_mean']:.3g}",
            _quantile_words(run["log_perplexity_increase_quantiles"]),
            ceiling(run),
            f"{run['sign_p']:.2g}",
            _number(run["entropy_rise"]),
            _number(run["gibberish_log_ratio_rise"]),
        )
        for run in runs
    )
    header = (
        "run",
        "success (Wilson's 95% interval over prompts)",
        "mean increase of perplexity",
        "increase of log-perplexity: median (5% to 95% of prompts)",
        "of the uniform ceiling, without → with trigger",
        "sign test over prompts, p",
        "rise of entropy",
        "rise of gibberish log-ratio",
    )
    return [
        Paragraph(
            "Every run at its last evaluation (nats a token but for the first two; the mean is that "
            "of the published measure, and heavy-tailed):"
        ),
        Table(header, rows),
    ]


def _quantile_words(quantiles: list[float]) -> str:
    low, _, median, _, high = quantiles
    return f"{median:.2f} ({low:.2f} to {high:.2f})"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
