"""The command that writes the report of a study."""

from __future__ import annotations

from typing import Literal

import tyro
from etils import epath

from analysis import report
from analysis.errors import InputError, printable
from analysis.measures import load_file
from analysis.report import laws


def report_command(
    sources: tyro.conf.Positional[tuple[str, ...]],
    out: str,
    format: Literal["html", "md"] = "html",
    margin: float | None = None,
    threshold: float | None = None,
    level: int | None = None,
    insertion: str | None = None,
    submitted: bool = False,
    measures: tyro.conf.UseAppendAction[tuple[str, ...]] = (),
    columns: tuple[str, ...] = (),
) -> None:
    """Write the report of a study and print the answer; of several studies, the figure of their laws.

    Further commands, each with its own --help: simulate, power, next, compare, table.

    Args:
        sources: A study folder, finished or not, a .csv table, or results of t0-training; or several.
        out: Folder for index.html (or index.md), summary.json and figures/.
        format: Format of the page.
        margin: Half-width of the verdict's zones around exponent 0 (count) and 1 (fraction); by default, as
            the study fixed it beforehand, or 0.25. The report says when it is another.
        threshold: Count as success a perplexity increase above this; by default, as the study fixed it, or
            as it was recorded.
        level: Of a study with stages: the number of stages since pretraining; by default, the last that has
            documents of the insertion.
        insertion: Of runs with several insertions, the one to report on; by default the first.
        submitted: Of a study with data.filters, count exposures as submitted: N50 submitted is then measured.
        measures: A Python file that defines measures of your own, which is imported; may be repeated.
        columns: Columns that a table calls otherwise, such as success=asr poisons_seen=n_poison.
    """
    for file in measures:
        load_file(file)
    if not sources:
        raise InputError("Give a study folder or a .csv table, or several.")
    if len(sources) > 1:
        if submitted or threshold is not None or level is not None or insertion is not None:
            raise InputError(
                "--threshold, --level, --insertion and --submitted are for a report on one study."
            )
        found = laws.write(sources, out, margin=margin, columns=columns, format=format)
        print(laws.answer(found))
        print(printable(f"Report: {epath.Path(out) / f'index.{format}'}"))
        return
    summary = report.write(
        sources[0],
        out,
        margin=margin,
        threshold=threshold,
        columns=columns,
        level=level,
        insertion=insertion,
        submitted=submitted,
        format=format,
    )
    print(report.answer(summary))
    print(printable(f"Report: {epath.Path(out) / f'index.{format}'}"))
