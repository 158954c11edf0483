"""The sections of the report about fits: the numbers and the method."""

from __future__ import annotations

from typing import Any

from analysis.fit.estimates import Estimate
from analysis.fit.findings import Extrapolation, Model
from analysis.fit.laws import Law
from analysis.fit.sensitivity import Answer
from analysis.fit.variables import NAMES
from analysis.fit.variance import Component
from analysis.fit.words import documents, interval, rounded
from analysis.measures.blocks import Block, Bullets, Heading, Paragraph, Table
from analysis.read.runs import quantity
from analysis.read.terms import Terms

METHOD = (
    "The success rate at an evaluation with x {poisons} seen is a sigmoid in log x, from the rate of "
    "controls up to the group's reach, one minus a lapse rate. Its midpoint at the end of training is log "
    "{half} = c + a log T + g log N, for T training tokens and N parameters, around which groups, seeds and "
    "runs scatter; within a run it may shift with the share of training done. Slope, shift and reach are "
    "those of each group, drawn towards a common mean as far as groups agree. Counts are over-dispersed and "
    "evaluations of one run are correlated: both are estimated, and both widen the intervals.",
    "{half} of a group is the maximum of its restricted likelihood. Intervals are 95% profile intervals at "
    "a t quantile, whose degrees of freedom come from the seeds within groups and, where groups scatter, "
    "from the groups. A shift of timing that differs between groups widens them: along a run, {poisons} seen "
    "are confounded with the maturity of the model, the learning-rate schedule and the density of the "
    "{poisons}.",
    "What the model cannot produce is looked for by name: success that was lost again, success at the end "
    "that is not as fitted, copied runs, outcomes that are means. Such a finding withdraws the answer. The "
    "intervals account for groups, seeds and prompts; they do not cover another attack, corpus or "
    "architecture.",
)


def number_blocks(
    model: Model, detection: list[dict[str, Any]], terms: Terms, withdrawn: bool = False
) -> list[Block]:
    """Return the tables of everything fitted, and of what a detector costs.

    `withdrawn` is whether the fit does not hold; the exponents are then marked.
    """
    half, poisons = terms.half, terms.poisons
    return [
        Table(
            ("quantity", "estimate (95% interval)", "meaning"),
            (*_exponent_rows(model.law, withdrawn), *_shape_rows(model, terms)),
        ),
        Paragraph(
            "How well each variable explains success at the last evaluations, with one curve for all "
            f"sizes and budgets (a gain above 0 is better than {poisons} seen):"
        ),
        _variable_table(model, poisons),
        *_variance_blocks(model.components, half),
        *_threshold_blocks(model.thresholds, half),
        *_extrapolation_blocks(model.extrapolations, half),
        *(_detection_blocks(detection) if terms.submitted else []),
    ]


def closing_blocks(summary: dict[str, Any]) -> list[Block]:
    """Return the method, what is missing, notes, and versions."""
    blocks: list[Block] = [Heading("Method"), *_method(summary["terms"])]
    blocks += [Heading("Missing runs and notes")]
    missing = summary["missing"] + summary["notes"]
    blocks.append(Bullets(tuple(missing)) if missing else Paragraph("No run is missing."))
    versions = ", ".join(f"{name} {version}" for name, version in summary["versions"].items())
    return [
        *blocks,
        Heading("Versions"),
        Paragraph(f"Study {summary['study']['name']}, hash {summary['study']['hash']}."),
        Paragraph(f"{versions}."),
    ]


def _method(terms: dict[str, str]) -> list[Block]:
    return [Paragraph(text.format(**terms)) for text in METHOD]


def _exponent_rows(law: Law, withdrawn: bool) -> list[tuple[str, str, str]]:
    meanings = (
        (law.a, "exponent a of training tokens, at fixed size", "0: count law; 1: fraction law"),
        (law.g, "exponent g of parameters, at fixed tokens", "0: size does not matter"),
        (law.ladder, "exponent of parameters along the ladder", "tokens growing with parameters"),
    )
    mark = "withdrawn: " if withdrawn else ""
    rows = [(name, mark + interval(e), meaning) for e, name, meaning in meanings if e is not None]
    if law.misfit is not None:
        p = f"p = {law.misfit:.2g}"
        rows.append(("misfit of the power law", p, "below 0.05 widens intervals"))
    return rows


def _shape_rows(model: Model, terms: Terms) -> list[tuple[str, str, str]]:
    shape, half = model.dose_response.shape, f"log {terms.half}"
    rows = (
        (shape.slope, "slope of the sigmoid", f"of the logit, per unit of log {terms.poisons}"),
        (
            shape.slope_sd,
            "spread of the slope",
            "standard deviation of its logarithm between groups",
        ),
        (
            shape.progress,
            "exponent of the share of training done",
            f"within runs, at equal {terms.poisons}",
        ),
        (shape.progress_sd, "spread of that exponent", "standard deviation between groups"),
        (shape.lapse, "lapse", "share of prompts on which the attack never succeeds"),
        (shape.lapse_sd, "spread of the lapse", "standard deviation of its logit between groups"),
        (model.law.scatter, "scatter of groups", f"standard deviation of {half} around the law"),
        (shape.seed_sd, "seed effect", f"standard deviation of {half} between seeds"),
        (shape.run_sd, "run effect", f"standard deviation of {half} between runs of a seed"),
        (
            shape.dispersion,
            "dispersion",
            "variance over binomial variance, autocorrelation included",
        ),
        (shape.autocorrelation, "autocorrelation", "of residuals of successive evaluations"),
        (
            model.dose_response.degrees,
            "degrees of freedom",
            "seeds within groups, for every interval",
        ),
    )
    return [(name, f"{value:.3g}", meaning) for value, name, meaning in rows]


def _variable_table(model: Model, poisons: str) -> Table:
    rows = []
    for variable in model.variables:
        if variable.same_as_poisons:
            said = f"proportional to {poisons} seen"
        else:
            said = "-" if variable.gain is None else interval(variable.gain, 1)
        rows.append(
            (
                NAMES[variable.name].replace("poisons", poisons),
                f"{100 * variable.explained:.0f}%",
                said,
            )
        )
    header = (
        "variable",
        "variance explained",
        f"predictive gain over {poisons} seen, leaving out one "
        f"{model.left_out or 'size'} (nats per run)",
    )
    return Table(header, tuple(rows))


def _variance_blocks(components: list[Component], half: str) -> list[Block]:
    if not components:
        return []
    rows = tuple(
        (
            component.name,
            str(component.levels),
            interval(Estimate(component.sd, component.low, component.high), lowest="0"),
            f"{100 * component.share:.0f}%",
        )
        for component in components
    )
    return [
        Paragraph(
            f"Components of the variance of {half} between runs (standard deviation of log {half}; only runs "
            f"that bound their own {half} are used, and factors that always change together share a row):"
        ),
        Table(("factor", "levels", "standard deviation (95% interval)", "share"), rows),
    ]


def _threshold_blocks(answers: list[Answer], half: str) -> list[Block]:
    if not answers:
        return []
    rows = tuple(
        (
            f"{answer.threshold:g}",
            *("-" if n50 is None else rounded(n50) for n50 in answer.n50.values()),
            "-" if answer.a is None else interval(answer.a),
            answer.verdict,
        )
        for answer in answers
    )
    return [
        Paragraph(
            "The answer if another increase of perplexity counted as success "
            f"({half} by group; - where it is "
            "beyond the doses):"
        ),
        Table(("increase above", *answers[0].n50, "exponent a of tokens", "verdict"), rows),
    ]


def _extrapolation_blocks(targets: list[Extrapolation], half: str) -> list[Block]:
    if not targets:
        return [
            Paragraph(
                f"{half} at 70B and 405B parameters is not determined: its interval is open there, or the "
                "study does not vary what an extrapolation needs."
            )
        ]
    rows = tuple(
        (
            target.label,
            quantity(target.tokens),
            f"{target.decades:.1f}",
            documents(target.poisons),
        )
        for target in targets
    )
    return [
        Paragraph(
            f"{half} if the fitted law holds beyond the data, which has not been measured (the intervals "
            "assume that it does):"
        ),
        Table(("parameters", "tokens", "decades beyond the data", f"{half} (95% interval)"), rows),
    ]


def _detection_blocks(cases: list[dict[str, Any]]) -> list[Block]:
    rows = tuple(
        (
            f"{100 * case['sensitivity']:g}%",
            f"{case['expected']:,.0f}",
            f"{case['for_95']:,}",
            f"{case['for_95_normal']:,}",
        )
        for case in cases
    )
    return [
        Paragraph(
            f"Documents to submit so that {cases[0]['passing']} pass a detector that catches each one "
            "independently:"
        ),
        Table(
            (
                "detector sensitivity",
                "expected",
                "for 95% confidence (negative binomial)",
                "for 95% confidence (normal, continuity-corrected)",
            ),
            rows,
        ),
    ]
