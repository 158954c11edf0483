"""The base class of progress displays: bars in a terminal, occasional lines elsewhere."""

from __future__ import annotations

import time
from typing import Self

from rich.console import Console
from rich.progress import Progress, ProgressColumn

_LINE_SECONDS = 15.0  # between lines if there is no terminal


class Bars:
    """A context manager that shows bars with these columns."""

    def __init__(self, console: Console, *columns: ProgressColumn, transient: bool = False):
        self._console = console
        self._bars = Progress(
            *columns, console=console, disable=not console.is_terminal, transient=transient
        )
        self._last_line = 0.0

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_) -> None:
        self._bars.stop()

    def _line(self, text: str) -> None:
        """Print a line now and then if there is no terminal for the bars."""
        if self._console.is_terminal or time.monotonic() - self._last_line < _LINE_SECONDS:
            return
        self._last_line = time.monotonic()
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)
