"""The evaluations of one run, from its evals.jsonl: none that was planned is missing unsaid."""

from dataclasses import dataclass

import numpy as np
from etils import epath

from analysis import measures, sealed
from analysis.errors import InputError
from analysis.fields import number
from analysis.measures import Measured
from analysis.runs import COUNTS, columns
from analysis.words import shown


@dataclass(frozen=True)
class Evaluations:
    """What one evals.jsonl holds.

    Attributes:
      columns: see `Run.evaluations`.
      measured: what else each evaluation recorded.
      steps: of every line, also of those that have no success rate; None where no steps were planned.
      notes: what was left out.
    """

    columns: dict[str, np.ndarray]
    measured: tuple[Measured, ...]
    steps: list[int] | None
    notes: list[str]

    @property
    def rises(self) -> tuple[np.ndarray, ...]:
        """Rise of perplexity of each prompt, at each evaluation; none unless all are recorded."""
        logs = [m.log_perplexity for m in self.measured]
        if any(log is None for log in logs):
            return ()
        return tuple(np.exp(triggered) - np.exp(clean) for clean, triggered in logs)

    def missing(self, planned: list[int] | None, finished: bool) -> list[int]:
        """The planned steps that have no line: all where the run is finished, else those before the last."""
        if planned is None:
            return []
        last = max(self.steps, default=0)
        return [s for s in planned if s not in self.steps and (finished or s < last)]


def read(path: epath.Path, planned: list[int] | None) -> Evaluations:
    """Read one evals.jsonl; `planned` are the steps of its evaluations, None where the study has none.

    Evaluations without a success rate are noted and left out.

    Raises:
      InputError: naming file, line and field, where it cannot be used.
    """
    lines, cut = sealed.read_lines(path)
    run = path.parent.name
    notes = [f"{run}: the last line of evals.jsonl is cut off; left out."] if cut else []
    rows, measured, steps = [], [], []
    for where, record in lines:
        if planned is not None:
            steps.append(_step(record, where, planned, steps))
        row = {"tokens": number(record, "tokens", where, minimum=0)}
        row["prompts"] = number(record, "prompts", where, minimum=1)
        for name in COUNTS:
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
        measured.append(measures.read(record, where))
    found = steps if planned is not None else None
    return Evaluations(columns(rows), tuple(measured), found, notes)


def _step(record: dict, where: str, planned: list[int], before: list[int]) -> int:
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
