"""How long work reports its progress."""

from __future__ import annotations

from collections.abc import Callable

# Called with what is being done and the number of items done so far.
Progress = Callable[[str, int], None]


def silent(description: str, done: int) -> None:
    """Report nothing."""
