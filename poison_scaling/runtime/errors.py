"""What can go wrong, for people: each message is one sentence with the field, its value and what is right."""

from __future__ import annotations

from analysis.errors import Damaged, InputError, shown

__all__ = ["Damaged", "Difference", "InputError", "Interrupted", "Signalled", "shown"]


class Interrupted(Exception):
    """Work was stopped from outside and can be resumed. The command line exits with 75."""


class Signalled(KeyboardInterrupt):
    """SIGINT or SIGTERM arrived: an interruption, not a KeyboardInterrupt that a user's code raised."""


class Difference(Exception):
    """Something is not as the study says: the first such thing. The command line exits with 1."""
