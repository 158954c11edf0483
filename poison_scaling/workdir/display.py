"""Progress display of a study: bars in a terminal, occasional lines elsewhere."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn

from poison_scaling.runtime import watchdog
from poison_scaling.study.run import Run
from poison_scaling.workdir.bars import Bars


class StudyDisplay(Bars):
    """A context manager that shows the progress and speed of runs and the time left.

    Pass `report` to `execution.train` and `preparing` to `preparation.prepare`.
    """

    def __init__(self, console: Console):
        super().__init__(
            console,
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[status]}"),
        )
        self._runs: dict[str, Run] = {}
        self._done: dict[str, int] = {}  # steps
        self._tasks: dict[str, TaskID] = {}
        self._started: dict[str, tuple[float, int]] = {}
        self._seconds_per_step: dict[str, float] = {}  # by size
        self._success: dict[str, float] = {}
        self._jobs = 1
        self._preparing: dict[str, TaskID] = {}

    def preparing(self, description: str, done: int) -> None:
        """Show that `done` items of what `description` names are prepared."""
        watchdog.progress()
        if description not in self._preparing:
            self._preparing[description] = self._bars.add_task(description, total=None, status="")
        self._bars.update(self._preparing[description], status=f"{done:,}" if done else "")
        self._line(f"{description}{f': {done:,}' if done else ''}")

    def begin(self, runs: list[Run], finished: set[str], jobs: int) -> None:
        """Start to show the runs of the study, some of which may be `finished`."""
        for task in self._preparing.values():
            self._bars.remove_task(task)
        self._runs = {run.name: run for run in runs}
        self._done = {run.name: run.steps if run.name in finished else 0 for run in runs}
        self._jobs = jobs
        total = sum(run.steps for run in runs)
        status = f"{len(finished)}/{len(runs)} runs, starting"
        self._tasks[""] = self._bars.add_task("study", total=total, status=status)
        self._bars.update(self._tasks[""], completed=sum(self._done.values()))

    def report(self, name: str, step: int, record: dict) -> None:
        """Show that run `name` has done `step` steps; `record` is its latest line in a log."""
        run, now = self._runs[name], time.monotonic()
        if name not in self._started:
            self._started[name] = (now, step)
            self._tasks[name] = self._bars.add_task(name, total=run.steps, status="")
        began, first = self._started[name]
        if step > first:
            self._seconds_per_step[run.rung.size] = (now - began) / (step - first)
        self._done[name] = step
        if "success_rate" in record:
            self._success[name] = record["success_rate"]
        status = self._status(name, record)
        self._bars.update(self._tasks[name], completed=step, status=status)
        self._bars.update(
            self._tasks[""], completed=sum(self._done.values()), status=self._overall()
        )
        if step == run.steps and "success_rate" in record:
            self._bars.remove_task(self._tasks[name])
            self._console.print(
                f"done  {name:<24} attack success {record['success_rate']:.2f}  "
                f"held-out loss {record['heldout_loss']:.3f}   [{self._overall()}]",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )
        else:
            self._line(f"{name} step {step:,}/{run.steps:,}  {status}   [{self._overall()}]")

    def _status(self, name: str, record: dict) -> str:
        run = self._runs[name]
        seconds = self._seconds_per_step.get(run.rung.size)
        speed = f"{run.tokens / run.steps / seconds / 1000:,.0f}k tokens/s" if seconds else ""
        loss = f"  loss {record['loss']:.2f}" if "loss" in record else ""
        success = f"  success {self._success[name]:.2f}" if name in self._success else ""
        return speed + loss + success

    def _overall(self) -> str:
        finished = sum(self._done[n] == r.steps for n, r in self._runs.items())
        return f"{finished}/{len(self._runs)} runs, {_duration(self._seconds_left())} left"

    def _seconds_left(self) -> float | None:
        """Return the time left at the measured speed of each size; sizes not measured are scaled by FLOPs."""
        if not self._seconds_per_step:
            return None
        flops = {r.rung.size: r.flops / r.steps for r in self._runs.values()}
        per_flop = [s / flops[size] for size, s in self._seconds_per_step.items()]
        typical = sum(per_flop) / len(per_flop)
        seconds = 0.0
        for name, run in self._runs.items():
            per_step = self._seconds_per_step.get(run.rung.size, typical * flops[run.rung.size])
            seconds += (run.steps - self._done[name]) * per_step
        return seconds / self._jobs


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "time unknown"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{seconds:02}s"
