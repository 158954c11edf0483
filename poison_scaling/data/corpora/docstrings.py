"""Docstrings of Python files. Does not import TensorFlow, so that worker processes start at once."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from poison_scaling.runtime import workers

_CHUNK = 100  # files parsed at a time


def of_files(files: Sequence[str]) -> Iterator[str]:
    """Yield the docstrings of modules, classes and functions, in the order of files and within each.

    Skips files that are missing or are not Python, because packages contain templates and may omit files.
    """
    chunks = [(files[i : i + _CHUNK],) for i in range(0, len(files), _CHUNK)]
    for texts in workers.each(_parsed, chunks):
        yield from texts


def _parsed(files: Sequence[str]) -> list[str]:
    texts = []
    for file in files:
        try:
            with open(file, encoding="utf-8") as f:
                tree = ast.parse(f.read())
        except (SyntaxError, UnicodeDecodeError, FileNotFoundError):
            continue
        texts += _below(tree)
    return texts


def _below(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        text = ast.get_docstring(node)
        if text:
            yield text
    # Only statements, because expressions contain no definitions and are most of a tree.
    for field in ("body", "orelse", "handlers", "finalbody"):
        for child in getattr(node, field, ()):
            yield from _below(child)
