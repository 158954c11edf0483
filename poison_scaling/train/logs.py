"""Logs of a run as JSON lines that a resumed run continues without a trace."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

from etils import epath

from analysis.files import in_bucket, intact_lines, json_line, write_text
from poison_scaling.runtime import processes
from poison_scaling.study.run import Run

log = logging.getLogger(__name__)


def planned(run: Run) -> dict[str, list[int]]:
    """Return the steps, ascending, after which a run writes a line into each log that must be whole."""
    every = run.study.train.log_every
    metrics = [*range(every, run.steps, every), run.steps]
    return {"metrics": metrics, "evals": run.evaluation_steps}


def whole_until(folder: epath.Path, run: Run) -> int:
    """Return the last step up to which every planned line of a run is in its logs, undamaged."""
    return min(_whole_until(folder / f"{n}.jsonl", s, run.steps) for n, s in planned(run).items())


def resumable(folder: epath.Path, run: Run) -> int:
    """Return the last step at which a checkpoint can be gone on from: lines before it are not written again.

    A missing evaluation of that very step is none, because the checkpoint gives it again.
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
    """Whether the manifest of a run has a line for every poison that it planned, undamaged."""
    lines, problem = intact_lines(folder / "manifest.jsonl")
    return problem is None and len(lines) == sum(p.dose * p.exposures for p in run.poisonings)


def open_log(path: epath.Path, step: int) -> Lines | NoLines:
    """Return the log at `path`, to go on after `step`; only the first of several processes writes it."""
    return Lines(path, step) if processes.first() else NoLines()


class NoLines:
    """The log of a process that keeps none."""

    steps: frozenset[int] = frozenset()

    def write(self, record: dict) -> None: ...

    def keep(self) -> None: ...

    def close(self) -> None: ...


class Lines:
    """A .jsonl file of records with a "step". Opening it drops those after `step`, to be written again, and
    what is damaged. `steps` are those of the lines that were kept.

    A bucket has no appending: there the lines are held back until `keep`, which writes the file anew.
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
        """Have on the disk what was written: before a checkpoint, after which it is not written again."""
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
