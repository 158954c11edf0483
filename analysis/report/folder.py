"""The folder of a report: its page, its summary, and its figures with their data.

It may have come from somebody else as part of a study: nothing in it may lead a write or a deletion
elsewhere.
"""

from __future__ import annotations

import csv
import io
import json
import os
from typing import Any, Literal

from etils import epath

from analysis import files
from analysis.errors import InputError
from analysis.measures.blocks import Block, Picture
from analysis.measures.drawing import Drawing
from analysis.report import markup

_KINDS = ("png", "svg", "csv")  # files of a figure
# Characters that begin a formula in spreadsheets; the wide ones in some locales.
_FORMULA = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")


def write(
    out: epath.Path,
    title: str,
    subtitle: str,
    blocks: list[Block],
    summary: dict[str, Any],
    format: Literal["html", "md"],
) -> dict[str, Any]:
    """Write page and summary, once the pictures in `blocks` are saved; return the summary as written.

    The summary lists the pictures under "figures". Those that an earlier summary here lists, and this one
    does not, are deleted; no other file is, as it may not be ours.
    """
    names = [block.drawing.name for block in blocks if isinstance(block, Picture)]
    page = markup.to_html if format == "html" else markup.to_markdown
    files.write_text(out / f"index.{format}", page(title, subtitle, blocks))
    figures = _figures(out)
    for name in set(_listed(out / "summary.json")) - set(names):
        for kind in _KINDS:
            (figures / f"{name}.{kind}").unlink(missing_ok=True)
    summary = summary | {"figures": names}
    text = json.dumps(summary, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    files.write_text(out / "summary.json", text)
    return summary


def save(drawing: Drawing, out: epath.Path) -> Picture:
    """Write a drawing into figures/ as PNG, SVG and CSV; return its picture."""
    figures = _figures(out)
    table = io.StringIO()
    lines = csv.writer(table, lineterminator="\n")
    lines.writerow(drawing.header)
    lines.writerows([_cell(value) for value in row] for row in drawing.rows)
    png, svg = drawing.image("png"), drawing.image("svg")
    for kind, content in zip(_KINDS, (png, svg, table.getvalue().encode()), strict=True):
        files.write_bytes(figures / f"{drawing.name}.{kind}", content)
    return Picture(drawing, svg)


def _cell(value: object) -> object:
    """Return the value, with an apostrophe before text that a spreadsheet would take for a formula."""
    if not isinstance(value, str) or not value.startswith(_FORMULA) or _is_number(value):
        return value
    return f"'{value}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.isascii() and text == text.strip()


def _figures(out: epath.Path) -> epath.Path:
    """Return the folder of the figures, made if missing; raises InputError when it is a link."""
    figures = out / "figures"
    if not files.in_bucket(out) and os.path.islink(figures):
        raise InputError(
            f"{figures}: it is a symbolic link, and figures would be written elsewhere; remove it, or "
            "give another --out."
        )
    figures.mkdir(parents=True, exist_ok=True)
    return figures


def _listed(summary: epath.Path) -> list[str]:
    """Return the figures that a summary lists; none when it is missing, or not a report's."""
    try:
        figures = files.read_json(summary).get("figures") if summary.exists() else []
    except InputError:
        figures = []
    if not isinstance(figures, list):
        return []
    # Our names are identifiers, which lead to no other folder.
    return [name for name in figures if isinstance(name, str) and name.isidentifier()]
