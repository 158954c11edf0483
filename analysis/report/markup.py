"""Blocks as one self-contained page of HTML, or as Markdown."""

from __future__ import annotations

import base64
import html
import re
from urllib.parse import quote

from analysis.measures.blocks import Block, Bullets, Heading, Paragraph, Picture, Table

_STYLE = """
:root { --ink: #1c1e21; --soft: #5b6168; --line: #dfe2e6; --accent: #0072b2; }
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: var(--ink); font: 16px/1.55 system-ui, -apple-system,
  "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 3rem 1.5rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .3rem; letter-spacing: -.01em; }
h2 { font-size: 1.2rem; margin: 2.8rem 0 .7rem; padding-top: .9rem;
  border-top: 1px solid var(--line); break-after: avoid; }
p { margin: .5rem 0; max-width: 46rem; }
p.subtitle { color: var(--soft); margin: 0 0 1.6rem; }
p.lead { font-size: 1.15rem; border-left: 4px solid var(--accent); padding: .1rem 0 .1rem 1rem; }
ul { max-width: 46rem; padding-left: 1.2rem; }
figure { margin: 2rem 0; break-inside: avoid; }
figure h3 { font-size: 1rem; margin: 0 0 .5rem; }
figure img { max-width: 100%; height: auto; display: block; }
figcaption { color: var(--soft); font-size: .9rem; max-width: 46rem; margin-top: .4rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; margin: .8rem 0; }
th, td { text-align: left; padding: .32rem 1.1rem .32rem 0; vertical-align: top; }
th { font-weight: 600; border-bottom: 1.5px solid var(--ink); }
td { border-bottom: 1px solid var(--line); font-variant-numeric: tabular-nums; }
@media print { main { padding: 0; max-width: none; } body { font-size: 10.5pt; } }
"""


def to_html(title: str, subtitle: str, blocks: list[Block]) -> str:
    """Return a page of HTML that refers to nothing outside itself."""
    body = "\n".join(_html(block) for block in blocks)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        f'<h1>{html.escape(title)}</h1>\n<p class="subtitle">{html.escape(subtitle)}</p>\n'
        f"{body}\n</main>\n</body>\n</html>\n"
    )


def to_markdown(title: str, subtitle: str, blocks: list[Block]) -> str:
    """Return Markdown whose pictures are files under figures/."""
    parts = [f"# {_inline(title)}", _line(subtitle), *(_markdown(block) for block in blocks)]
    return "\n\n".join(parts) + "\n"


def _html(block: Block) -> str:
    match block:
        case Heading(text):
            return f"<h2>{html.escape(text)}</h2>"
        case Paragraph(text, lead):
            kind = ' class="lead"' if lead else ""
            return f"<p{kind}>{html.escape(text)}</p>"
        case Bullets(items):
            return "<ul>" + "".join(f"<li>{html.escape(item)}</li>" for item in items) + "</ul>"
        case Table(header, rows):
            head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
            lines = [
                "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
                for row in rows
            ]
            table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
            return f'<div class="scroll">{table}</div>'
        case Picture(drawing, svg):
            # As an image, so that ids of one SVG do not clash with those of another.
            data = base64.b64encode(svg).decode()
            caption = html.escape(drawing.caption)
            return (
                f"<figure><h3>{html.escape(drawing.title)}</h3>"
                f'<img alt="{caption}" src="data:image/svg+xml;base64,{data}">'
                f"<figcaption>{caption}</figcaption></figure>"
            )


def _markdown(block: Block) -> str:
    match block:
        case Heading(text):
            return f"## {_inline(text)}"
        case Paragraph(text, lead):
            said = _line(text)
            return f"**{said}**" if lead and said else said
        case Bullets(items):
            return "\n".join(f"- {_line(item)}" for item in items)
        case Table(header, rows):
            lines = [tuple(map(_inline, line)) for line in (header, *rows)]
            lines.insert(1, ("---",) * len(header))
            return "\n".join("| " + " | ".join(line) + " |" for line in lines)
        case Picture(drawing, _):
            title, file = _inline(drawing.title), quote(f"figures/{drawing.name}.png")
            return f"### {title}\n\n![{title}]({file})\n\n{_line(drawing.caption)}"


# Characters with a meaning in Markdown: escaped by an entity where HTML is parsed, else by a backslash.
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;"}
_MARKS = str.maketrans(_ENTITIES | {mark: f"\\{mark}" for mark in "\\`*_[]#~$"})
# Addresses become links without any markup.
_ADDRESS = re.compile(r"://|www\.", re.IGNORECASE)
# Characters that make a list, a rule or a heading at the beginning of a paragraph.
_BEGINNING = re.compile(r"[-+=]|\d+(?=[.)])")


def _inline(text: str) -> str:
    """Return text escaped for the middle of a line of Markdown: no markup, no HTML, no line break."""
    marked = " ".join(text.replace("\0", "\ufffd").split()).translate(_MARKS)
    return _ADDRESS.sub(lambda found: found[0][:-1] + "\\" + found[0][-1], marked)


def _line(text: str) -> str:
    """Return text escaped for the beginning of a paragraph or an item."""
    said = _inline(text)
    begins = _BEGINNING.match(said)
    if not begins:
        return said
    end = begins.end() if begins[0].isdigit() else 0
    return f"{said[:end]}\\{said[end:]}"
