"""Progress display of an audit: one bar in a terminal, occasional lines elsewhere."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn

from poison_scaling.runtime import watchdog
from poison_scaling.workdir import audit
from poison_scaling.workdir.bars import Bars


class AuditDisplay(Bars):
    """A context manager that shows the filter at work, documents per second, and the time left."""

    def __init__(self, console: Console):
        super().__init__(
            console,
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[status]}"),
            TimeRemainingColumn(),
            transient=True,
        )
        self._task = self._bars.add_task("preparing", total=None, status="")
        self._last_line = time.monotonic()

    def preparing(self, description: str, done: int) -> None:
        """Show that `done` items of what `description` names are prepared."""
        watchdog.progress()
        self._bars.update(self._task, description=description, status=f"{done:,}" if done else "")
        self._line(f"{description}: {done:,}")

    def begin(self, prepared: audit.Audit) -> audit.Progress:
        """Return what to call with the progress of an audit."""
        each = min(prepared.documents, prepared.inputs.documents.training_size)
        each += len(audit.submitted(prepared.inputs))
        chains, started = len(prepared.chains), time.monotonic()
        self._bars.update(self._task, total=each * chains)

        def report(number: int, name: str, done: int) -> None:
            watchdog.progress()
            total = number * each + done
            seconds = max(time.monotonic() - started, 1e-9)
            left = seconds * (chains * each - total) / total
            status = f"filter {number + 1} of {chains}, {total / seconds:,.0f} documents/s"
            self._bars.update(self._task, completed=total, description=name, status=status)
            self._line(f"{name}: {status}, {left:.0f} s left")

        return report
