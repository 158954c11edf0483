"""The report of a study: summary.json, figures with their data, and a page that answers first."""

from typing import Literal

from etils import epath

from analysis import findings as findings_lib
from analysis import folder, measure_report, summary
from analysis.estimates import Estimate
from analysis.figures import draw
from analysis.pages import Block, Bullets, Heading, Paragraph, Picture, Table
from analysis.runs import at_threshold, quantity
from analysis.sources import load
from analysis.variables import NAMES
from analysis.words import count, documents, interval

answer = summary.answer

METHOD = (
    "Success of an evaluation with x poisons seen is a sigmoid in log x, between the rate of clean "
    "models and one minus a lapse rate. Its midpoint is log N50 = c + a log T + g log N at the end "
    "of training on T tokens (N parameters), with Gaussian effects of the seed and of the run; "
    "within a run it may move with the share of training done. Counts are over-dispersed, and "
    "evaluations of one run correlated: both are estimated and widen the intervals.",
    "Each group's N50 is the maximum of its restricted likelihood; intervals are 95% profile "
    "intervals at a t quantile whose degrees of freedom are seeds within groups. The exponents "
    "rest on comparisons between runs alone: what happens along a run is confounded with the "
    "maturity of the model, the learning-rate schedule and the density of the poisons.",
    "An interval says what seeds and prompts leave open if one sigmoid shape serves all groups and "
    "a power law holds between them; it does not cover another attack, corpus or architecture.",
)


def write(
    source: str | epath.Path,
    out: str | epath.Path,
    *,
    margin: float = findings_lib.MARGIN,
    threshold: float | None = None,
    format: Literal["html", "md"] = "html",
) -> dict:
    """Writes the report of a study folder or table into the folder `out`.

    Args:
      source: a study folder (finished or not), or a .csv table.
      out: gets summary.json, index.html or index.md, and figures/ (PNG, SVG and CSV of each); loses
        the figures of an earlier report that this one has not.
      margin: the verdict is count (fraction) when the 95% interval of the exponent of tokens lies
        within this of 0 (of 1).
      threshold: increase of perplexity above which a prompt counts as hit; None as recorded.
      format: of the page.

    Returns:
      The summary, as in summary.json.

    Raises:
      InputError: when the source cannot be used.
    """
    study = load(source)
    if threshold is not None:
        study = at_threshold(study, threshold)
    found = findings_lib.find(study, margin)
    numbers = summary.summarise(found)
    drawings = draw(found)
    out = epath.Path(out)
    pictures = [folder.save(drawing, out) for drawing in drawings]
    title = f"Poisoning study: {found.study.name}"
    subtitle = (
        f"{numbers['study']['runs']} runs ({numbers['study']['finished']} finished), "
        f"{numbers['study']['evaluations']} evaluations; study hash {found.study.hash}"
    )
    return folder.write(out, title, subtitle, _blocks(numbers, pictures), numbers, format)


def _blocks(numbers: dict, pictures: list[Picture]) -> list[Block]:
    verdict = numbers["answer"]["verdict"].capitalize()
    blocks: list[Block] = [Paragraph(f"{verdict}. {numbers['answer']['words']}", lead=True)]
    if numbers["n50"]:
        blocks += [
            Paragraph("Poisoned documents for half success at the end of training (N50):"),
            Table(
                ("size and budget", "parameters", "tokens", "doses", "seeds", "N50 (95% interval)"),
                tuple(
                    (
                        n["group"],
                        quantity(n["parameters"]),
                        quantity(n["tokens"]),
                        ", ".join(f"{dose:g}" for dose in n["doses"]),
                        str(n["seeds"]),
                        n["words"],
                    )
                    for n in numbers["n50"]
                ),
            ),
        ]
    blocks += [Heading("Figures"), *pictures]
    if numbers["law"] is not None:
        blocks += [Heading("Numbers"), *_numbers(numbers)]
    blocks += measure_report.blocks(numbers["measures"])
    blocks += [Heading("Method"), *(Paragraph(text) for text in METHOD)]
    blocks += [Heading("What is missing, and notes")]
    missing = numbers["missing"] + numbers["notes"]
    blocks.append(Bullets(tuple(missing)) if missing else Paragraph("Nothing: all runs are here."))
    versions = ", ".join(f"{name} {version}" for name, version in numbers["versions"].items())
    blocks += [
        Heading("Versions"),
        Paragraph(f"Study {numbers['study']['name']}, hash {numbers['study']['hash']}."),
        Paragraph(f"{versions}."),
    ]
    return blocks


def _numbers(numbers: dict) -> list[Block]:
    return [
        Table(
            ("quantity", "estimate (95% interval)", "meaning"),
            (*_exponent_rows(numbers["law"]), *_shape_rows(numbers["shape"])),
        ),
        Paragraph("Which variable explains success, by one curve for all sizes and budgets:"),
        _variable_table(numbers["variables"]),
        *_variance_blocks(numbers["variance"]),
        *_threshold_blocks(numbers["thresholds"]),
        *_extrapolation_blocks(numbers["extrapolation"]),
        *_detection_blocks(numbers["detection"]),
    ]


def _exponent_rows(law: dict) -> list[tuple[str, str, str]]:
    meanings = (
        ("a", "exponent a of training tokens, at fixed size", "0: count law; 1: fraction law"),
        ("g", "exponent g of parameters, at fixed tokens", "0: size does not matter"),
        ("ladder", "exponent of parameters along the ladder", "tokens growing with parameters"),
    )
    rows = [
        (name, interval(Estimate(**law[key])), meaning)
        for key, name, meaning in meanings
        if law[key] is not None
    ]
    if law["misfit_p"] is not None:
        rows.append(
            ("misfit of the power law", f"p = {law['misfit_p']:.2g}", "below 0.05 widens intervals")
        )
    return rows


def _shape_rows(shape: dict) -> list[tuple[str, str, str]]:
    rows = (
        ("slope", "slope of the sigmoid", "of the logit, per unit of log poisons"),
        ("progress", "exponent of the share of training done", "within runs, at equal poisons"),
        ("lapse", "lapse", "share of prompts never hit"),
        ("seed_sd", "seed effect", "standard deviation of log N50 between seeds"),
        ("run_sd", "run effect", "standard deviation of log N50 between runs of a seed"),
        ("dispersion", "dispersion", "variance over binomial variance, autocorrelation included"),
        ("autocorrelation", "autocorrelation", "of residuals of successive evaluations"),
        ("degrees", "degrees of freedom", "seeds within groups, behind every interval"),
    )
    return [(name, f"{shape[key]:.3g}", meaning) for key, name, meaning in rows]


def _variable_table(variables: dict) -> Table:
    rows = []
    for variable in variables["compared"]:
        gain = variable["gain"]
        if variable["same_as_poisons"]:
            said = "proportional to poisons seen"
        else:
            said = "-" if gain is None else interval(Estimate(*gain), 1)
        rows.append((NAMES[variable["name"]], f"{100 * variable['explained']:.0f}%", said))
    left_out = variables["left_out"] or "size"
    header = (
        "variable",
        "variance explained",
        f"predictive gain over poisons seen, leaving out one {left_out} (nats a run)",
    )
    return Table(header, tuple(rows))


def _variance_blocks(components: list[dict]) -> list[Block]:
    if not components:
        return []
    rows = tuple(
        (
            component["name"],
            str(component["levels"]),
            interval(Estimate(component["sd"], component["low"], component["high"]), lowest="0"),
            f"{100 * component['share']:.0f}%",
        )
        for component in components
    )
    return [
        Paragraph(
            "Where the scatter of N50 between runs comes from (standard deviation of log N50; runs "
            "that bound their own N50 take part; factors that change together share a line):"
        ),
        Table(("factor", "levels", "standard deviation (95% interval)", "share"), rows),
    ]


def _threshold_blocks(answers: list[dict]) -> list[Block]:
    if not answers:
        return []
    groups = tuple(answers[0]["n50"])
    rows = tuple(
        (
            f"{answer['threshold']:g}",
            *("-" if n50 is None else count(n50) for n50 in answer["n50"].values()),
            "-" if answer["a"] is None else interval(Estimate(**answer["a"])),
            answer["verdict"],
        )
        for answer in answers
    )
    return [
        Paragraph(
            "The answer had another rise of perplexity been called success (N50 by group, - where "
            "it lies beyond the doses):"
        ),
        Table(("rise above", *groups, "exponent a of tokens", "verdict"), rows),
    ]


def _extrapolation_blocks(targets: list[dict]) -> list[Block]:
    if not targets:
        return [
            Paragraph(
                "Nothing can be said of 70B and 405B parameters: the interval is open there, or "
                "this study does not vary what leads there."
            )
        ]
    rows = tuple(
        (
            target["label"],
            quantity(target["tokens"]),
            f"{target['decades']:.1f}",
            documents(Estimate(**target["poisons"])),
        )
        for target in targets
    )
    return [
        Paragraph(
            "If the fitted law held beyond the data, which nobody has measured (the intervals do "
            "not cover that it may not):"
        ),
        Table(("parameters", "tokens", "decades beyond the data", "N50 (95% interval)"), rows),
    ]


def _detection_blocks(cases: list[dict]) -> list[Block]:
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
            f"Documents to submit so that {cases[0]['passing']} pass a detector that catches each "
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
