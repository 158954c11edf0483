"""Logs of a run as JSON lines, which a resumed run continues without gaps or duplicates."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

from etils import epath

from analysis.files import in_bucket, intact_lines, json_line, read_json, write_text
from poison_scaling.runtime import processes
from poison_scaling.runtime.errors import Damaged
from poison_scaling.study.run import Run

log = logging.getLogger(__name__)


def planned(run: Run) -> dict[str, list[int]]:
    """Return, for each log that must be complete, the steps after which a run writes a line, ascending."""
    every = run.train.log_every
    metrics = [*range(every, run.steps, every), run.steps]
    return {"metrics": metrics, "evals": run.evaluation_steps}


def whole_until(folder: epath.Path, run: Run) -> int:
    """Return the last step up to which every planned line of a run is in its logs and undamaged."""
    return min(_whole_until(folder / f"{n}.jsonl", s, run.steps) for n, s in planned(run).items())


def resumable(folder: epath.Path, run: Run) -> int:
    """Return the last step at which the run can resume from a checkpoint, given that its logs are complete.

    The evaluation at that very step may be missing, because it can be repeated from the checkpoint.
    """
    steps = planned(run)
    metrics = _whole_until(folder / "metrics.jsonl", steps["metrics"], run.steps)
    evals = _whole_until(folder / "evals.jsonl", steps["evals"], run.steps)
    return min(metrics, evals + 1)


def _whole_until(path: epath.Path, steps: Sequence[int], end: int) -> int:
    lines, problem = intact_lines(path)
    if problem:
        log.warning("%s", problem)
    found = [line.get("step") for line in lines]
    for number, step in enumerate(steps):
        if number >= len(found) or found[number] != step:
            return step - 1
    return end


def has_manifest(folder: epath.Path, run: Run) -> bool:
    """Whether the manifest of a run has a line for every planned exposure and is undamaged."""
    lines, problem = intact_lines(folder / "manifest.jsonl")
    planned = sum(int(p.exposures_D.sum()) for p in run.poisonings)
    if run.data.filters:  # what they leave is known to the plan alone
        about = folder / "config.json"
        try:
            plan = read_json(about, sealed=True)["plan"] if about.exists() else None
        except Damaged:
            plan = None
        if plan is None:
            return False
        planned = sum(dose["surviving_exposures"] for dose in (plan, *plan["also"]))
    return problem is None and len(lines) == planned


def open_log(path: epath.Path, step: int) -> Lines | NoLines:
    """Return the log at `path`, continued after `step`; only the first of several processes writes it."""
    return Lines(path, step) if processes.first() else NoLines()


class NoLines:
    """The log of a process that writes none."""

    steps: frozenset[int] = frozenset()

    def write(self, record: dict) -> None: ...

    def keep(self) -> None: ...

    def close(self) -> None: ...


class Lines:
    """A .jsonl file of records with a "step", open for appending.

    Opening it drops records after `step`, which will be written again, and damaged lines. `steps` are
    those of the records kept. Files in a bucket cannot be appended to: lines are buffered until `keep`
    rewrites the file.
    """

    def __init__(self, path: epath.Path, step: int):
        kept = [record for record in intact_lines(path)[0] if record.get("step", step + 1) <= step]
        self.steps = frozenset(record["step"] for record in kept)
        lines = list(map(json_line, kept))
        write_text(path, "".join(lines))
        self._path, self._lines, self._kept = path, lines, len(lines)
        self._file = None if in_bucket(path) else path.open("a")

    def write(self, record: dict) -> None:
        if self._file is None:
            self._lines.append(json_line(record))
        else:
            self._file.write(json_line(record))
            self._file.flush()

    def keep(self) -> None:
        """Make sure that all lines are on disk. Must precede a checkpoint, which makes them final."""
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
        elif len(self._lines) > self._kept:
            write_text(self._path, "".join(self._lines))
            self._kept = len(self._lines)

    def close(self) -> None:
        self.keep()
        if self._file is not None:
            self._file.close()
