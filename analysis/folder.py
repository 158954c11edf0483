"""The folder of a report: its page, its summary, and its figures with their data."""

import csv
import io
import json
from typing import Literal

from etils import epath

from analysis import pages
from analysis.drawing import Drawing
from analysis.pages import Block, Picture

_KINDS = ("png", "svg", "csv")  # of files that a figure has


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
    for name in set(_listed(out / "summary.json")) - set(names):
        for kind in _KINDS:
            (out / "figures" / f"{name}.{kind}").unlink(missing_ok=True)
    numbers = numbers | {"figures": names}
    text = json.dumps(numbers, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    _write(out / "summary.json", text.encode())
    return numbers


def save(drawing: Drawing, out: epath.Path) -> Picture:
    """Writes a drawing into figures/ as PNG, SVG and CSV."""
    figures = out / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    table = io.StringIO()
    lines = csv.writer(table, lineterminator="\n")
    lines.writerow(drawing.header)
    lines.writerows(drawing.rows)
    png, svg = drawing.image("png"), drawing.image("svg")
    for kind, content in zip(_KINDS, (png, svg, table.getvalue().encode()), strict=True):
        _write(figures / f"{drawing.name}.{kind}", content)
    return Picture(drawing, svg)


def _listed(summary: epath.Path) -> list[str]:
    """The figures of a summary; none where it is not there, or is not one of a report."""
    try:
        figures = json.loads(summary.read_text())["figures"] if summary.exists() else []
    except (ValueError, LookupError, TypeError):
        figures = []
    if not isinstance(figures, list):
        return []
    # Names of ours are words, which lead to no other folder.
    return [name for name in figures if isinstance(name, str) and name.isidentifier()]


def _write(path: epath.Path, content: bytes) -> None:
    """All or nothing: a reader never meets half a file. An object in a bucket is so by itself."""
    if "://" in str(path):
        path.write_bytes(content)
        return
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(content)
    partial.replace(path)
