"""The folder of a report: its page, its summary, and its figures with their data.

It may have come from somebody else, as part of a study: nothing in it leads what is written or deleted here
to another place.
"""

import csv
import io
import json
import os
import secrets
from typing import Literal

from etils import epath

from analysis import pages
from analysis.drawing import Drawing
from analysis.errors import InputError
from analysis.pages import Block, Picture
from analysis.sealed import in_bucket, read_object

_KINDS = ("png", "svg", "csv")  # of files that a figure has
# What spreadsheets take for the beginning of a formula; the wide ones in some languages.
_FORMULA = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")


def write(
    out: epath.Path,
    title: str,
    subtitle: str,
    blocks: list[Block],
    numbers: dict,
    format: Literal["html", "md"],
) -> dict:
    """Writes page and summary, once the pictures in `blocks` are saved.

    The summary lists them under "figures". Those that an earlier summary here lists, and this one does
    not, are deleted; nothing else is, as it may be somebody's own.

    Returns:
      The summary, as in summary.json.
    """
    names = [block.drawing.name for block in blocks if isinstance(block, Picture)]
    page = pages.to_html if format == "html" else pages.to_markdown
    _write(out / f"index.{format}", page(title, subtitle, blocks).encode())
    figures = _figures(out)
    for name in set(_listed(out / "summary.json")) - set(names):
        for kind in _KINDS:
            (figures / f"{name}.{kind}").unlink(missing_ok=True)
    numbers = numbers | {"figures": names}
    text = json.dumps(numbers, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    _write(out / "summary.json", text.encode())
    return numbers


def save(drawing: Drawing, out: epath.Path) -> Picture:
    """Writes a drawing into figures/ as PNG, SVG and CSV."""
    figures = _figures(out)
    table = io.StringIO()
    lines = csv.writer(table, lineterminator="\n")
    lines.writerow(drawing.header)
    lines.writerows([_cell(value) for value in row] for row in drawing.rows)
    png, svg = drawing.image("png"), drawing.image("svg")
    for kind, content in zip(_KINDS, (png, svg, table.getvalue().encode()), strict=True):
        _write(figures / f"{drawing.name}.{kind}", content)
    return Picture(drawing, svg)


def _cell(value):
    """A text that a spreadsheet would take for a formula gets an apostrophe before it; numbers stay."""
    formula = isinstance(value, str) and value.startswith(_FORMULA)
    return f"'{value}" if formula and not _is_number(value) else value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.isascii() and text == text.strip()


def _figures(out: epath.Path) -> epath.Path:
    figures = out / "figures"
    if not in_bucket(out) and os.path.islink(figures):
        raise InputError(
            f"{figures}: it is a symbolic link, and figures would be written elsewhere; remove it, or "
            "give another --out."
        )
    figures.mkdir(parents=True, exist_ok=True)
    return figures


def _listed(summary: epath.Path) -> list[str]:
    """The figures of a summary; none where it is not there, or is not one of a report."""
    try:
        figures = read_object(summary).get("figures") if summary.exists() else []
    except InputError:
        figures = []
    if not isinstance(figures, list):
        return []
    # Names of ours are words, which lead to no other folder.
    return [name for name in figures if isinstance(name, str) and name.isidentifier()]


def _write(path: epath.Path, content: bytes) -> None:
    """All or nothing: a reader never meets half a file. An object in a bucket is so by itself."""
    if in_bucket(path):
        path.write_bytes(content)
        return
    # A random name that must be new, so that no link which lies there is followed; what has the name of
    # `path`, a link or a pipe perhaps, is replaced itself.
    temporary = path.parent / f".{path.name}.{secrets.token_hex(8)}"
    try:
        opened = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
        with os.fdopen(opened, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
