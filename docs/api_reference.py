"""Extensions of griffe for the API reference.

The comment beside or above a field of a class is its description, and the public interface of a package that
loads its names when they are first used is what it imports under TYPE_CHECKING.
"""

import ast
import io
import tokenize
from typing import Any

import griffe


class LazyExports(griffe.Extension):
    """Exports what a package with a `__getattr__` of its own imports from itself for type checkers."""

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        if "__getattr__" not in pkg.members:
            return
        pkg.exports = [
            name
            for name, member in pkg.members.items()
            if isinstance(member, griffe.Alias) and member.target_path.startswith(f"{pkg.name}.")
        ]
        for name in ("__all__", "__getattr__", "__dir__"):
            pkg.members.pop(name, None)


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
