"""Exceptions for input that cannot be used, and how values are quoted in their messages."""

from __future__ import annotations

import reprlib
import unicodedata


class InputError(Exception):
    """A study, a file or an argument cannot be used as it is.

    The message is one sentence that names the place, the value and what is expected. Command lines print
    it and exit with 2.
    """


class NotEvaluated(InputError):
    """A study has no evaluation yet."""


class Damaged(InputError):
    """A file is not as it was written."""


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 200
_SHORT.maxlong = 60


def shown(value: object) -> str:
    """Return the `repr` of a value for a message: on one line, and shortened if it is long."""
    try:
        return _SHORT.repr(value).replace("\n", " ")
    except ValueError:  # Python refuses to format integers of thousands of digits
        return "a number of thousands of digits"


def printable(text: str) -> str:
    """Return the text with every control or invisible character replaced by its escape.

    "\\x1b[2J" becomes a backslash and six characters instead of clearing a terminal.
    """
    return "".join(
        c if c.isprintable() or unicodedata.category(c) == "Zs" else ascii(c)[1:-1] for c in text
    )
