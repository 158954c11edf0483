"""The evaluations of one run, from its evals.jsonl."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from etils import epath

from analysis import files
from analysis.errors import InputError, shown
from analysis.read.fields import number
from analysis.read.insertions import Part
from analysis.read.records import Record, parse
from analysis.read.runs import COUNTS, SUBMITTED, columns


@dataclass(frozen=True)
class Evaluations:
    """The content of one evals.jsonl."""

    columns: dict[str, np.ndarray]  # as in `Run.evaluations`
    records: tuple[Record, ...]  # the measures of each evaluation
    # of every line, also of those without a success rate; empty when the study plans no steps
    steps: list[int]
    notes: list[str]  # what was left out

    @property
    def increases(self) -> tuple[np.ndarray, ...]:
        """Return the increase of perplexity of each prompt at each evaluation; () unless all have it."""
        logs = [r.log_perplexity for r in self.records if r.log_perplexity is not None]
        if len(logs) < len(self.records):
            return ()
        return tuple(np.exp(triggered) - np.exp(clean) for clean, triggered in logs)

    def missing(self, planned: list[int] | None, finished: bool) -> list[int]:
        """Return the planned steps without a line: up to the last line only, unless the run is finished."""
        if planned is None:
            return []
        last = max(self.steps, default=0)
        return [s for s in planned if s not in self.steps and (finished or s < last)]


def first_line(path: epath.Path) -> dict[str, Any] | None:
    """Return the first line of an evals.jsonl; None when it has none that is intact."""
    records = files.scan_lines(path, sealed=False).records
    return records[0] if records else None


def read(path: epath.Path, planned: list[int] | None, part: Part | None = None) -> Evaluations:
    """Read one evals.jsonl; `planned` are the steps of its evaluations, None when the study does not say.

    `part` is what to read of each line, by default what is on the first insertion.

    Evaluations without a success rate are noted and left out. Raises InputError, naming file, line and
    field, when the file cannot be used.
    """
    lines = files.scan_lines(path, sealed=False)
    if lines.problem:
        raise lines.problem
    run = path.parent.name
    notes = (
        [f"{run}: the last line of evals.jsonl is cut off and was left out."] if lines.cut else []
    )
    rows: list[dict[str, float]] = []
    records: list[Record] = []
    steps: list[int] = []
    for line, record in enumerate(lines.records, 1):
        where = f"{path}, line {line}"
        if part is not None:
            record = part.of(record, where)
        if planned is not None:
            steps.append(_step(record, where, planned, steps))
        row = {"tokens": number(record, "tokens", where, minimum=0)}
        if record.get("success_rate") is not None or "prompts" in record:
            row["prompts"] = number(record, "prompts", where, minimum=1)
        for name in (*COUNTS, SUBMITTED):
            if name == "poisons" or record.get(name) is not None:
                row[name] = number(record, name, where, minimum=0)
        if record.get("success_rate") is None:
            notes.append(f"{run}: no success rate at step {shown(record.get('step'))}; left out.")
            continue
        rate = number(record, "success_rate", where, minimum=0, maximum=1)
        row["successes"] = rate * row["prompts"]
        if rows and row["tokens"] <= rows[-1]["tokens"]:
            raise InputError(
                f"{where}: field 'tokens' is {row['tokens']:g}, not above the line before "
                f"({rows[-1]['tokens']:g}); evaluations must be in order of training, once each."
            )
        rows.append(row)
        records.append(parse(record, where))
    return Evaluations(columns(rows), tuple(records), steps, notes)


def _step(record: dict[str, Any], where: str, planned: list[int], before: list[int]) -> int:
    step = number(record, "step", where, minimum=0)
    if step not in planned:
        raise InputError(
            f"{where}: field 'step' is {step:g}, where the study plans no evaluation; planned are "
            f"{', '.join(map(str, planned))}."
        )
    if before and step <= before[-1]:
        raise InputError(
            f"{where}: field 'step' is {step:g}, not above the line before ({before[-1]}); "
            "evaluations must be in order of training, once each."
        )
    return int(step)
