"""The report of a study: a page that answers first, its figures with their data, and summary.json."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import matplotlib
from etils import epath

from analysis.errors import InputError
from analysis.fit import findings as findings_lib
from analysis.measures.base import find_all
from analysis.measures.blocks import Block, Heading
from analysis.measures.drawing import STYLE, Drawing
from analysis.read import audits, rules
from analysis.read.runs import as_submitted, counted_by
from analysis.read.sources import load
from analysis.report import filtering, folder, law_figures, n50_figure, success_figures
from analysis.report.lead import lead_blocks
from analysis.report.sections import closing_blocks, number_blocks
from analysis.report.stages import stage_blocks, stage_figures
from analysis.report.summary import summarise


def write(
    source: epath.PathLike,
    out: epath.PathLike,
    *,
    margin: float | None = None,
    threshold: float | None = None,
    columns: Sequence[str] = (),
    format: Literal["html", "md"] = "html",
    level: int | None = None,
    insertion: str | None = None,
    submitted: bool = False,
) -> dict[str, Any]:
    """Write the report of a study folder or table into the folder `out`, and return its summary.

    `out` gets summary.json, index.html or index.md, and figures/ with PNG, SVG and CSV of each figure;
    figures of an earlier report that this one does not have are deleted. The verdict is count (fraction)
    when the 95% interval of the exponent of tokens lies within `margin` of 0 (of 1). Success is counted
    anew at `threshold`, an increase of perplexity. Both are those of the study's own rule if None; a
    departure from that rule is said in the answer. `columns` has a table's names of our columns, as
    "ours=theirs"; `level` and `insertion` are as in `load`. If `submitted`, poisons are counted as
    submitted, those that the filters of the study caught included.

    Raises InputError when the source cannot be used.
    """
    study = load(source, columns, level, insertion)
    study = as_submitted(study) if submitted else study
    rule = rules.using(study.rule, margin, threshold)
    study = counted_by(study, rule)
    findings = findings_lib.find(study, rule.margin)
    measured = find_all(study)
    summary = summarise(findings, measured, rule)
    audit = audits.read(epath.Path(source) / "audit")
    # An audit says how many of what is trained on must be submitted, so it is not joined with the latter.
    unjoined = audit is None or submitted
    joined, left_out = ([], []) if unjoined else filtering.join(audit, findings)
    summary["filters"] = None if audit is None else filtering.summarise(audit, joined)
    recorded = [(measure, found) for measure, found in measured if found is not None]
    with matplotlib.rc_context(STYLE):
        drawings = fit_figures(findings)
        for measure, found in recorded:
            drawings += measure.figures(study, found)
        drawings += [] if audit is None else filtering.figures(audit, joined)
        of_stages = stage_figures(study)
    leading, sections = (
        [block for one, found in recorded if one.leads == leads for block in one.blocks(found)]
        for leads in (True, False)
    )
    _check_names([*drawings, *of_stages])
    out = epath.Path(out)
    pictures = [folder.save(drawing, out) for drawing in drawings]
    staged = stage_blocks(study, [folder.save(drawing, out) for drawing in of_stages])
    title = f"Poisoning study: {study.name}"
    subtitle = (
        f"{summary['study']['runs']} runs ({summary['study']['finished']} finished), "
        f"{summary['study']['evaluations']} evaluations; study hash {study.hash}"
    )
    blocks = [
        *lead_blocks(findings, summary["answer"]["words"]),
        *pictures[:1],
        *leading,
        *staged,
        *([Heading("Figures"), *pictures[1:]] if pictures[1:] else []),
        *_numbers(findings, summary),
        *([Heading("Corpus filters"), *filtering.blocks(audit, joined, left_out)] if audit else []),
        *([Heading("Measures"), *sections] if sections else []),
        *closing_blocks(summary),
    ]
    return folder.write(out, title, subtitle, blocks, summary, format)


def fit_figures(findings: findings_lib.Findings) -> list[Drawing]:
    """Return the figures of success and of its fits, in the report's order; the first is in its lead."""
    if findings.means is not None:
        return [law_figures.draw_means(findings.means)]
    success = [success_figures.draw_progress(findings), success_figures.draw_poisons_seen(findings)]
    model = findings.model
    if model is None:
        return success
    unsampled = [] if model.unsampled is None else [success_figures.draw_rises(model.unsampled)]
    drawings = [
        *unsampled,
        success_figures.draw_dose_response(findings, model),
        *(
            [n50_figure.draw_n50(findings, model)]
            if len(n50_figure.drawn(findings.n50s)) > 1
            else []
        ),
        *success,
        *([success_figures.draw_collapse(model)] if model.dose_response.several_doses else []),
        law_figures.draw_residuals(model),
    ]
    if model.extrapolations:
        drawings.append(law_figures.draw_extrapolation(findings, model))
    return drawings


def _numbers(findings: findings_lib.Findings, summary: dict[str, Any]) -> list[Block]:
    if findings.model is None:
        return []
    withdrawn = bool(findings.withdrawn)
    terms = findings.study.terms
    blocks = number_blocks(findings.model, summary["detection"], terms, withdrawn)
    return [Heading("Numbers"), *blocks]


def _check_names(drawings: list[Drawing]) -> None:
    """Raise InputError when figures would overwrite each other, or have names that are not ours to delete."""
    names = [drawing.name for drawing in drawings]
    for name in names:
        if not name.isidentifier() or names.count(name) > 1:
            raise InputError(
                f"A figure is named {name!r}; expected a name of its own, of letters, digits and "
                "underscores."
            )
