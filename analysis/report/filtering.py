"""What corpus filters do to the poisons of a study: its own page, and a section of the study's report."""

from __future__ import annotations

from typing import Any

import matplotlib
from etils import epath

from analysis.errors import InputError, NotEvaluated, printable
from analysis.fit import findings as findings_lib
from analysis.fit.estimates import Estimate, as_json
from analysis.fit.findings import Findings
from analysis.fit.words import documents, rounded
from analysis.measures.blocks import Block, Heading, Paragraph, Table
from analysis.measures.drawing import STYLE, Drawing
from analysis.read import audits
from analysis.read.audits import Audit, Chain, Tally
from analysis.read.runs import Run, counted_by
from analysis.read.sources import load
from analysis.report import filter_figures, folder
from analysis.report.filter_figures import Joined, removed

# Of documents that an attacker can submit.
BUDGETS = (1_000, 10_000, 100_000)


def write(out: epath.PathLike, source: epath.PathLike | None = None) -> dict[str, Any]:
    """Write the page, the summary and the figures of the audit in the folder `out`; return the summary.

    `source` is the folder of the study, whose N50 is joined with the audit if it has been trained. Raises
    InputError when the audit or the study cannot be used.
    """
    out = epath.Path(out)
    audit = audits.read(out)
    if audit is None:
        raise InputError(f"{out}: it holds no audit (there is no audit.json).")
    joined, left_out = _joined(audit, source)
    with matplotlib.rc_context(STYLE):
        drawings = figures(audit, joined)
    pictures = [folder.save(drawing, out) for drawing in drawings]
    of = f"{audit.chains[0].clean.documents:,} of {audit.corpus:,} clean documents"
    names = ", ".join(map(audit.title, audit.attacks))
    subtitle = f"{names}; {of}; study hash {audit.hash}"
    sections = blocks(audit, joined, left_out)
    page: list[Block] = [*sections[:1], *pictures, *sections[1:], *_rule_blocks(audit)]
    about = summarise(audit, joined)
    return folder.write(out, f"Corpus filters: {audit.study}", subtitle, page, about, "html")


def join(audit: Audit, findings: Findings) -> tuple[list[Joined], list[str]]:
    """Return the groups for which N50 is known, each with the attacks of its runs as the audit has them.

    Beside them, a sentence on those that the audit does not have.
    """
    study = findings.study
    if not study.terms.submitted:
        return [], []
    labels = {chain.run: chain.labels[-1] for chain in study.chains} if study.level else {}
    found, unknown = [], []
    for n50 in findings.n50s:
        if n50.withdrawn is not None or n50.censored is not None or n50.poisons.value is None:
            continue
        runs = [run for run in n50.group.runs if run.dose]
        fields = {field for run in runs for field in _fields(audit, run, labels.get(run.folder))}
        if None in fields:
            unknown.append(n50.group.label)
            continue
        exposures = n50.group.exposures
        in_documents = n50.poisons.map(lambda value, each=exposures: value / each)
        own = tuple(sorted(field for field in fields if field is not None))
        found.append(Joined(n50.group.label, exposures, in_documents, own))
    left_out = [
        f"N50 submitted of {', '.join(unknown)} is not known, because the audit does not have the attack of "
        "these runs; repeat it."
    ]
    return found, left_out if unknown else []


def _fields(audit: Audit, run: Run, stage: str | None) -> list[str | None]:
    """Return the field of each insertion that a run of the analysis consists of; None if not audited."""
    kind = run.settings.get("attack", "")
    return [audit.field(number, stage, kind) for number in run.insertions]


def _joined(audit: Audit, source: epath.PathLike | None) -> tuple[list[Joined], list[str]]:
    if source is None:
        return [], []
    try:
        study = load(source)
    except NotEvaluated as error:
        return [], [f"N50 submitted is not known yet: {error}"]
    study = counted_by(study, study.rule)
    return join(audit, findings_lib.find(study, study.rule.margin))


def figures(audit: Audit, joined: list[Joined]) -> list[Drawing]:
    """Return the figures of an audit; called within the style of the report."""
    found = [filter_figures.draw_recall(audit)]
    if joined:
        found.append(filter_figures.draw_submitted(audit, joined))
    if len({own.fields for own in joined}) > 1:
        found.append(filter_figures.draw_trade_off(audit, joined))
    return found


def blocks(audit: Audit, joined: list[Joined], left_out: list[str]) -> list[Block]:
    """Return the section of an audit: what is caught, and how many documents an attacker must submit.

    `left_out` are sentences on the N50 that are missing.
    """
    sample = audit.chains[0].clean.documents
    found: list[Block] = [
        Paragraph(
            "Of each attack, every poison of the study was passed through corpus filters as the text that "
            f"an attacker would submit, and so were {sample:,} of its {audit.corpus:,} clean documents. A "
            "poison is caught if it is removed, or if it loses its trigger. Pipelines are chains of filters, "
            "as published; duplicates are those among these documents. Intervals are Wilson's, 95%."
        )
    ]
    for field in audit.attacks:
        found.append(_caught_table(audit, field))
    if joined:
        found += _submitted_blocks(audit, joined)
    return [*found, *map(Paragraph, left_out)]


def summarise(audit: Audit, joined: list[Joined]) -> dict[str, Any]:
    """Return the numbers of an audit, for summary.json."""
    return {
        "study": audit.study,
        "hash": audit.hash,
        "chains": [
            {
                "name": chain.name,
                "kind": chain.kind,
                "clean": as_json(removed(chain.clean)),
                "caught": {field: as_json(removed(own)) for field, own in chain.attacks.items()},
                "submitted": {own.label: as_json(own.submitted(chain)) for own in joined},
            }
            for chain in audit.chains
        ],
    }


def answer(out: epath.PathLike) -> str:
    """Return the table of an audit for a terminal."""
    audit = audits.read(out)
    assert audit is not None
    header = [
        "filter",
        "clean removed",
        *(f"{audit.title(field)} caught" for field in audit.attacks),
    ]
    rows = [header]
    for chain in audit.chains:
        tallies = [chain.clean, *(chain.attacks[field] for field in audit.attacks)]
        rows.append([chain.title, *(share(removed(tally)) for tally in tallies)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    lines.append(f"Report: {epath.Path(out) / 'index.html'}")
    return "\n".join(map(printable, lines))


def share(of: Estimate) -> str:
    """Return a share with its interval, in percent with one digit."""
    ends = (of.value, of.low, of.high)
    value, low, high = ("-" if end is None else f"{100 * end:.1f}" for end in ends)
    return f"{value}% ({low} to {high})"


def _caught_table(audit: Audit, field: str) -> Table:
    rows = tuple(
        (
            chain.title,
            share(removed(chain.clean)),
            share(removed(chain.attacks[field])),
            _most(chain.attacks[field]),
            _most(chain.clean),
        )
        for chain in audit.chains
    )
    name = audit.title(field)
    header = ("filter", "clean removed", f"{name} caught", "poisons by rule", "clean by rule")
    return Table(header, rows)


def _most(tally: Tally, at_most: int = 3) -> str:
    """Return the rules that remove most, with their counts."""
    some = list(tally.rules.items())[:at_most]
    return ", ".join(f"{rule.partition('.')[2] or rule} {count:,}" for rule, count in some) or "-"


def _submitted_blocks(audit: Audit, joined: list[Joined]) -> list[Block]:
    def said(own: Joined, chain: Chain) -> str:
        found = own.submitted(chain)
        if found.value is None:
            return "-" if found.low is None else f"over {rounded(found.low)}; none passed"
        low = "0" if found.low is None else rounded(found.low)
        high = "∞" if found.high is None else rounded(found.high)
        return f"{rounded(found.value)} ({low} to {high})"

    without = ("no filter", "0%", *(documents(own.n50) for own in joined))
    rows = tuple(
        (chain.title, share(removed(chain.clean)), *(said(own, chain) for own in joined))
        for chain in audit.chains
    )
    header = ("filter", "clean removed", *(f"N50 submitted, {own.label}" for own in joined))
    repeated = [f"{own.exposures:g} in {own.label}" for own in joined if own.exposures != 1]
    shown = (
        " N50 counts exposures, and a document is submitted once however often it is shown, so N50 is "
        f"divided by the exposures of each document: {', '.join(repeated)}."
    )
    needed = tuple(
        (
            f"{budget:,}",
            *(
                f"{max(0.0, 1 - own.n50.value / budget):.2%}"
                for own in joined
                if own.n50.value is not None
            ),
        )
        for budget in BUDGETS
    )
    return [
        Heading("How many documents an attacker must submit"),
        Paragraph(
            "N50 submitted is N50 divided by the share of poisons that survive; its interval joins both "
            "(variance recovery on the logarithmic scale, Zou & Donner 2008). It assumes that survivors work "
            "as well as the others, and that an attacker does not choose what passes."
            + (shown if repeated else "")
        ),
        Table(header, (without, *rows)),
        Paragraph("The share that a filter must catch so that N50 submitted exceeds a budget:"),
        Table(("budget, documents", *(own.label for own in joined)), needed),
    ]


def _rule_blocks(audit: Audit) -> list[Block]:
    """Return the rules with thresholds, sources and examples, and what pipelines leave out."""
    rules: dict[str, tuple[str, str]] = {}
    caught: dict[str, str] = {}
    for chain in audit.chains:
        if chain.kind == "filter":
            rules |= {name: (removes, source) for name, removes, source in chain.rules}
            for tally in (*chain.attacks.values(), chain.clean):
                for rule, some in tally.examples.items():
                    caught.setdefault(rule, some[0] if some else "")
    rows = tuple((name, *about, caught.get(name, "-")[:160]) for name, about in rules.items())
    listed = tuple(
        (chain.name, ", ".join(chain.filters), chain.about)
        for chain in audit.chains
        if chain.kind == "pipeline"
    )
    return [
        Heading("Rules"),
        Table(("rule", "removes", "source", "an example"), rows),
        *(
            [Heading("Pipelines"), Table(("pipeline", "filters", "source"), listed)]
            if listed
            else []
        ),
    ]
