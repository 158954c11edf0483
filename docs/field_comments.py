"""For the API reference: the comment beside or above a field of a class is its description."""

import ast
import io
import tokenize
from typing import Any

import griffe


class FieldComments(griffe.Extension):
    """Gives every field that has a comment, and no docstring, the comment as its docstring."""

    def on_attribute_instance(
        self,
        *,
        node: ast.AST | griffe.ObjectNode,
        attr: griffe.Attribute,
        agent: griffe.Visitor | griffe.Inspector,
        **kwargs: Any,
    ) -> None:
        if attr.docstring or attr.parent is None or not attr.parent.is_class or not attr.lineno:
            return
        lines = attr.lines_collection[attr.filepath]
        first, last = attr.lineno - 1, attr.endlineno or attr.lineno
        text = _beside(lines[first:last]) or _above(lines[:first])
        if text:
            attr.docstring = griffe.Docstring(text, lineno=attr.lineno, parent=attr)


def _beside(lines: list[str]) -> str:
    """The comment at the end of the last line of a statement."""
    source = io.StringIO(
        "\n".join(line.lstrip() if i == 0 else line for i, line in enumerate(lines))
    )
    try:
        comments = [
            t.string
            for t in tokenize.generate_tokens(source.readline)
            if t.type == tokenize.COMMENT
        ]
    except tokenize.TokenError:
        return ""
    return comments[-1].lstrip("# ") if comments else ""


def _above(lines: list[str]) -> str:
    """The lines of comment directly above a statement."""
    comments = []
    for line in reversed(lines):
        if not line.strip().startswith("# "):
            break
        comments.append(line.strip().removeprefix("# "))
    return " ".join(reversed(comments))
