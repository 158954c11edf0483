"""The command that writes the report of a study."""

from __future__ import annotations

from typing import Literal

import tyro
from etils import epath

from analysis import report
from analysis.errors import printable
from analysis.measures import load_file


def report_command(
    source: tyro.conf.Positional[str],
    out: str,
    format: Literal["html", "md"] = "html",
    margin: float | None = None,
    threshold: float | None = None,
    level: int | None = None,
    measures: tyro.conf.UseAppendAction[tuple[str, ...]] = (),
    columns: tuple[str, ...] = (),
) -> None:
    """Write the report of a study and print the answer.

    Further commands, each with its own --help: simulate, power, next, compare.

    Args:
        source: A study folder, finished or not, a .csv table, or a results folder of t0-training.
        out: Folder for index.html (or index.md), summary.json and figures/.
        format: Format of the page.
        margin: Half-width of the verdict's zones around exponent 0 (count) and 1 (fraction); by default, as
            the study fixed it beforehand, or 0.25. The report says when it is another.
        threshold: Count as success a perplexity increase above this; by default, as the study fixed it, or
            as it was recorded.
        level: Of a study with stages: the number of stages since pretraining; by default, that of the
            last that has poisons.
        measures: A Python file that defines measures of your own, which is imported; may be repeated.
        columns: Columns that a table calls otherwise, such as success=asr poisons_seen=n_poison.
    """
    for file in measures:
        load_file(file)
    summary = report.write(
        source,
        out,
        margin=margin,
        threshold=threshold,
        columns=columns,
        level=level,
        format=format,
    )
    print(report.answer(summary))
    print(printable(f"Report: {epath.Path(out) / f'index.{format}'}"))
