"""The command that compares two studies."""

from __future__ import annotations

from typing import Literal

import tyro
from etils import epath

from analysis.errors import printable
from analysis.report import comparison


def compare_command(
    first: tyro.conf.Positional[str],
    second: tyro.conf.Positional[str],
    out: str,
    format: Literal["html", "md"] = "html",
    margin: float | None = None,
    threshold: float | None = None,
    columns: tuple[str, ...] = (),
    across: tuple[str, ...] = (),
) -> None:
    """Compare two studies: N50 of each size and budget with the same settings, their ratios, both verdicts.

    Args:
        first: A study folder or table.
        second: The study to compare it with.
        out: Folder for index.html (or index.md), summary.json and figures/.
        format: Format of the page.
        margin: Half-width of the verdict's zones; by default, as each study fixed it beforehand, or 0.25.
        threshold: Count as success a perplexity increase above this; by default, as each study fixed it, or
            as it was recorded.
        columns: Columns that the tables call otherwise, such as success=asr poisons_seen=n_poison.
        across: Settings that may differ, such as attack data.seq_len, because the comparison is about them.
    """
    summary = comparison.write(
        first,
        second,
        out,
        margin=margin,
        threshold=threshold,
        columns=columns,
        across=across,
        format=format,
    )
    print(comparison.answer(summary))
    print(printable(f"Report: {epath.Path(out) / f'index.{format}'}"))
