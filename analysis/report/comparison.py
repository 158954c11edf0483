"""Two studies side by side: N50 of each group, their ratios, and both verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any, Literal

import matplotlib
from etils import epath

from analysis.errors import printable
from analysis.fit import findings as findings_lib
from analysis.fit.estimates import Estimate, difference
from analysis.fit.findings import Findings
from analysis.fit.words import interval
from analysis.measures.axes import legend, log_axes, panels
from analysis.measures.base import find_all
from analysis.measures.blocks import Block, Bullets, Heading, Paragraph, Table
from analysis.measures.drawing import STYLE, Drawing
from analysis.read import rules
from analysis.read.runs import Study, counted_by
from analysis.read.sources import load
from analysis.report import folder, pairing
from analysis.report import summary as summaries
from analysis.report.n50_figure import drawn, ends, point

COLOURS = ("#0072B2", "#D55E00")
_NOTHING_SHARED = "The studies share no size and token budget."


def write(
    first: epath.PathLike,
    second: epath.PathLike,
    out: epath.PathLike,
    *,
    margin: float | None = None,
    threshold: float | None = None,
    columns: Sequence[str] = (),
    across: Sequence[str] = (),
    format: Literal["html", "md"] = "html",
) -> dict[str, Any]:
    """Write the comparison of two studies into the folder `out`, and return its summary.

    Each study is decided by its own rule, except for a `margin` or `threshold` given here; `columns` has the
    tables' names of our columns, as "ours=theirs". Groups of one size and budget are compared if they have
    the same settings, or differ only in those that `across` names. Raises InputError when a source cannot be
    used, or the studies do not differ in one of `across`.
    """
    studies = _load(first, second, columns)
    if studies[0].name == studies[1].name:
        studies = [replace(study, name=f"{study.name} {study.hash[:6]}") for study in studies]
    used = [rules.using(study.rule, margin, threshold) for study in studies]
    studies = [counted_by(study, rule) for study, rule in zip(studies, used, strict=True)]
    both = [
        findings_lib.find(study, rule.margin) for study, rule in zip(studies, used, strict=True)
    ]
    matching = pairing.match(both[0], both[1], across)
    result = {
        "studies": [
            summaries.summarise(found, find_all(found.study), rule)
            for found, rule in zip(both, used, strict=True)
        ],
        "rules": rules.in_words(
            [(study.name, rule) for study, rule in zip(studies, used, strict=True)]
        ),
        "ratios": [
            {
                "group": pair.label,
                "words": interval(pair.ratio, lowest="0"),
                **asdict(pair.ratio),
            }
            for pair in matching.pairs
        ],
        "settings": matching.said,
        "exponent_difference": _exponent_difference(both[0], both[1])
        if matching.comparable
        else None,
    }
    out = epath.Path(out)
    pictures = []
    if any(drawn(found.n50s) for found in both):
        with matplotlib.rc_context(STYLE):
            pictures.append(folder.save(_drawing(both), out))
    names = [one["study"]["name"] for one in result["studies"]]
    blocks = [*_blocks(result, names), *pictures]
    title, subtitle = f"{names[0]} and {names[1]}", "Two poisoning studies side by side"
    return folder.write(out, title, subtitle, blocks, result, format)


def answer(result: dict[str, Any]) -> str:
    """Return both answers, and the ratios of N50 of the groups that both studies have."""
    second, first = (result["studies"][i]["study"]["name"] for i in (1, 0))
    half = _half([one["terms"]["half"] for one in result["studies"]])
    lines = [f"{half} of {second} over that of {first} (95% interval):"]
    lines += [f"  {ratio['group']}  {ratio['words']}" for ratio in result["ratios"]]
    if not result["ratios"]:
        lines = (
            [] if result["settings"] else [f"{_NOTHING_SHARED[:-1]}, so nothing can be compared."]
        )
    lines += result["settings"]
    answers = [summaries.answer(one) for one in result["studies"]]
    return "\n".join([*answers, printable(result["rules"]), *map(printable, lines)])


def _load(first: epath.PathLike, second: epath.PathLike, columns: Sequence[str]) -> list[Study]:
    """Read both studies; `columns` are those of the tables among them."""
    sources = [epath.Path(source) for source in (first, second)]
    tables = [source for source in sources if source.suffix.lower() == ".csv"]
    # Without a table, the first source says that there are no columns to name.
    named = tables or sources[:1]
    return [load(source, columns if source in named else ()) for source in sources]


def _half(names: list[str]) -> str:
    """Return what both studies estimate: N50, R50, or both."""
    return " or ".join(dict.fromkeys(names))


def _exponent_difference(first: Findings, second: Findings) -> dict[str, float | None] | None:
    """Return the exponent of tokens in the second study minus that in the first.

    None when a study lacks it, or it is withdrawn.
    """
    if first.withdrawn or second.withdrawn:
        return None
    ours = first.model.law.a if first.model else None
    theirs = second.model.law.a if second.model else None
    if ours is None or ours.value is None or theirs is None or theirs.value is None:
        return None
    return asdict(difference(theirs, ours))


def _blocks(result: dict[str, Any], names: list[str]) -> list[Block]:
    verdicts = [
        f"{name}: {one['answer']['verdict']}. {one['answer']['words']}"
        for name, one in zip(names, result["studies"], strict=True)
    ]
    blocks: list[Block] = [Bullets(tuple(verdicts)), Paragraph(result["rules"])]
    if result["exponent_difference"] is not None:
        difference = interval(Estimate(**result["exponent_difference"]))
        blocks.append(
            Paragraph(f"Exponent of tokens, {names[1]} minus {names[0]}: {difference}.", lead=True)
        )
    half = _half([one["terms"]["half"] for one in result["studies"]])
    blocks.append(Heading(f"{half} of each size and budget"))
    for name, one in zip(names, result["studies"], strict=True):
        rows = tuple((n["group"], n["words"]) for n in one["n50"])
        terms = one["terms"]
        blocks.append(Paragraph(f"{name}: {terms['lead']} ({terms['half']})."))
        blocks.append(Table(("size and budget", f"{terms['half']} (95% interval)"), rows))
    rows = tuple((ratio["group"], ratio["words"]) for ratio in result["ratios"])
    if rows:
        blocks.append(Table(("both", f"{half} of {names[1]} over {names[0]}"), rows))
    elif not result["settings"]:
        blocks.append(Paragraph(_NOTHING_SHARED))
    return [*blocks, *map(Paragraph, result["settings"])]


def _drawing(both: list[Findings]) -> Drawing:
    figure, axes = panels(2, height=3.4)
    rows = []
    for axis, name, label in (
        (axes[0], "tokens", "training tokens"),
        (axes[1], "parameters", "parameters"),
    ):
        for found, colour, shift in zip(both, COLOURS, (0.97, 1.03), strict=True):
            axis.plot([], [], "o", color=colour, label=found.study.name)
            for n50 in found.n50s:
                point(axis, getattr(n50.group, name) * shift, n50, colour)
        axis.set_xlabel(label)
    for found in both:
        for n50 in found.n50s:
            group = n50.group
            about = (found.study.name, group.label, group.parameters, group.tokens)
            rows.append((*about, n50.censored or "", *ends(n50.poisons)))
    terms = [found.study.terms for found in both]
    half = _half([one.half for one in terms])
    axes[0].set_ylabel(f"{half} ({' or '.join(dict.fromkeys(one.documents for one in terms))})")
    for axis in axes:
        log_axes(axis, "xy")
    legend(figure, axes)
    header = ("study", "group", "parameters", "tokens", "censored", "n50", "low", "high")
    caption = f"{half} of both studies with 95% intervals; arrows are bounds outside the doses."
    return Drawing("comparison", f"{half} in both studies", caption, figure, header, rows)
