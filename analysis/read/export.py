"""Studies written as tables, which hold everything that the fits need and are read back by `tables`."""

from __future__ import annotations

import csv
import io

from etils import epath

from analysis import files
from analysis.read.runs import COUNTS, SETTINGS, Study

_HEAD = ("study", "run", "size", "params", "tokens", "dose", "seed", "others")
_NAMES = {"poisons": "poisons_seen"}  # columns of tables that have another name here


def write(study: Study, path: epath.Path) -> None:
    """Write one line for each evaluation of a study; measures of single prompts are left out."""
    settings = [name for name in SETTINGS if any(name in run.settings for run in study.runs)]
    recorded = [name for name in COUNTS if all(name in run.evaluations for run in study.runs)]
    table = io.StringIO()
    lines = csv.writer(table, lineterminator="\n")
    counts = (_NAMES.get(name, name) for name in recorded)
    lines.writerow([*_HEAD, *settings, "tokens_seen", *counts, "prompts", "success"])
    for run in study.runs:
        head = (
            study.name,
            run.name,
            run.size,
            run.parameters,
            run.tokens,
            run.dose,
            run.seed,
            run.others,
        )
        own = [run.settings.get(name, "") for name in settings]
        for i, success in enumerate(run.success):
            seen = [run.evaluations[name][i] for name in ("tokens", *recorded, "prompts")]
            lines.writerow([*map(_cell, head), *own, *map(_cell, seen), f"{success:.6g}"])
    files.write_text(path, table.getvalue())


def _cell(value: object) -> object:
    return f"{value:.12g}" if isinstance(value, float) else value
