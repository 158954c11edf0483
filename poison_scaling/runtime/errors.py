"""What went wrong, for people: one sentence with the field, its value and what would be right."""

from __future__ import annotations

import reprlib
from typing import Any


class InputError(Exception):
    """A study, a file or an argument cannot be used as it is. The command line exits with 2."""


class Damaged(InputError):
    """A file that this project wrote is not as it was written."""


class Interrupted(Exception):
    """Work was stopped from outside and can be resumed. The command line exits with 75."""


class Signalled(KeyboardInterrupt):
    """SIGINT or SIGTERM arrived: an interruption, and not a KeyboardInterrupt that a user's code raised."""


class Difference(Exception):
    """Something is not as the study says: the first such thing. The command line exits with 1."""


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 200
_SHORT.maxlong = 60


def shown(value: Any) -> str:
    """The `repr` of a value for a sentence: on one line, and shortened where it is long."""
    try:
        return _SHORT.repr(value).replace("\n", " ")
    except ValueError:  # Python does not spell whole numbers of thousands of digits
        return "a number of thousands of digits"
