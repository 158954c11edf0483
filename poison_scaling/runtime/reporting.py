"""Progress reports of long computations."""

from __future__ import annotations

from collections.abc import Callable

from poison_scaling.runtime import watchdog

# Called with a description of the work and the number of items done so far.
Progress = Callable[[str, int], None]


def silent(description: str, done: int) -> None:
    """Show nothing; the watchdog is told, as by every report."""
    watchdog.progress()
