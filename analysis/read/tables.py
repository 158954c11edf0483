"""Studies as tables: one CSV line per evaluation; `columns` has what they hold."""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import math
from collections.abc import Sequence

import numpy as np
from etils import epath

from analysis import files
from analysis.errors import InputError, printable, shown
from analysis.read import runs as runs_lib
from analysis.read.aliases import current
from analysis.read.budgets import settle_budgets
from analysis.read.columns import OPTIONAL_COUNTS, check_header, find_names, parse_mapping
from analysis.read.fields import LARGEST

THRESHOLD = 50.0  # the increase of perplexity that Souly et al. 2025 call clear degradation
ASSUMED_PROMPTS = 100.0

# A line of the table by column, with its number in the file.
Numbered = tuple[int, dict[str, str]]


def load(path: epath.Path, columns: Sequence[str] = ()) -> runs_lib.Study:
    """Read a table; `columns` has its names of our columns, as "ours=theirs".

    Raises InputError, naming line and column, when the table cannot be used.
    """
    mapping = parse_mapping(columns)
    text = files.read_text(path)
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise InputError(f"{path}, line {line}: it contains a NUL byte, so it is not a table.")
    header, rows = _cells(path, text.removeprefix("\ufeff"))
    names = find_names(f"{path}, line 1", header, mapping)
    # A column with one of our names is ignored if another is mapped to that name.
    check_header(f"{path}, line 1", [*(h for h in header if h not in mapping), *names])
    lines: dict[str, list[Numbered]] = {}
    for number, line in rows:
        where = f"{path}, line {number}"
        if None in line or None in line.values():
            raise InputError(f"{where}: expected {len(header)} columns, as in the header.")
        line |= {ours: line[theirs] for ours, theirs in names.items()}
        if not line["run"].strip():
            raise InputError(f"{where}, column 'run' is empty; expected the run's name.")
        lines.setdefault(line["run"], []).append((number, line))
    if not lines:
        raise InputError(f"{path} has a header but no lines.")
    _check_one_study(path, lines)

    notes = []
    header = [*header, *names]
    if names:
        taken = ", ".join(f"{theirs!r} as {ours!r}" for ours, theirs in names.items())
        notes.append(printable(f"Columns of the table are taken under other names: {taken}."))
    if "prompts" not in header and "success" in header:
        notes.append(
            f"No column 'prompts': {ASSUMED_PROMPTS:g} prompts per evaluation are assumed; the "
            "fitted over-dispersion compensates for a wrong guess."
        )
    inferred = False
    # If the tokens of one run grow, those of every run are tokens seen, even if it has one line.
    growing = "tokens_seen" not in header and any(
        len({line["tokens"] for _, line in entries}) > 1 for entries in lines.values()
    )
    runs = []
    for name, entries in lines.items():
        run, guessed = _run(path, name, entries, growing)
        inferred |= guessed
        runs.append(run)
    runs, missing = settle_budgets(runs, growing)
    if inferred:
        notes.append(
            "No column 'tokens_seen': progress is taken as poisons seen / dose, which holds for "
            "poisons spread uniformly over training."
        )
    runs_lib.check_runs(runs)
    return runs_lib.Study(
        name=printable(path.stem),
        hash=hashlib.sha256(text.encode()).hexdigest()[:16],
        versions={},
        runs=tuple(runs),
        missing=tuple(missing),
        notes=tuple(notes),
    )


def _cells(path: epath.Path, text: str) -> tuple[list[str], list[Numbered]]:
    """Return the header, and each line with its number."""
    # Strict, so that a quote left open is an error instead of a very long cell.
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        return list(reader.fieldnames or []), [(reader.line_num, line) for line in reader]
    except csv.Error as error:
        line = max(reader.line_num, 1)
        raise InputError(f"{path}, line {line}: not valid CSV ({error}).") from None


def _check_one_study(path: epath.Path, lines: dict[str, list[Numbered]]) -> None:
    first = None
    for entries in lines.values():
        for number, line in entries:
            label = line.get("study")
            first = label if first is None else first
            if label != first:
                raise InputError(
                    f"{path}, line {number}, column 'study': {label!r} after {first!r}; two "
                    "studies are mixed up, give each its own table (see `compare`)."
                )


def _run(
    path: epath.Path, name: str, entries: list[Numbered], growing: bool
) -> tuple[runs_lib.Run, bool]:
    """Return one run, and whether its progress had to be inferred from the poisons.

    `growing` is whether its tokens are those seen so far.
    """
    rows: list[dict[str, float]] = []
    for number, line in entries:
        where = f"{path}, line {number}"
        row = {
            "tokens": _number(line, "tokens", where, minimum=1),
            "poisons": _number(line, "poisons_seen", where, minimum=0),
            "params": _number(line, "params", where, minimum=1),
            "dose": _number(line, "dose", where, minimum=0),
        }
        for column in OPTIONAL_COUNTS:
            if column in line:
                row[column] = _number(line, column, where, minimum=0)
        if "tokens_seen" in line:
            row["seen"] = _number(line, "tokens_seen", where, minimum=0)
        row.update(_outcome(line, where))
        row["line"] = number
        rows.append(row)
    _check_constant(path, entries, rows)

    guessed = False
    budget = max(row["tokens"] for row in rows)
    dose = rows[0]["dose"]
    for row in rows:
        if "seen" not in row and growing:
            row["seen"] = row["tokens"]
        elif "seen" not in row:
            guessed |= dose > 0 and row["poisons"] != dose
            row["seen"] = budget * row["poisons"] / dose if dose else budget
    rows.sort(key=lambda row: row["seen"])
    for before, row in itertools.pairwise(rows):
        if row["seen"] == before["seen"]:
            first, second = sorted((before["line"], row["line"]))
            raise InputError(
                f"{path}, line {second}: repeats line {first} (run {name!r} at "
                f"{row['seen']:g} tokens seen); an evaluation must appear once."
            )

    line = current(entries[0][1])
    if line.get("exposures"):  # a label, like other settings, but of a number
        _number(line, "exposures", f"{path}, line {entries[0][0]}", minimum=1)
    evaluations = runs_lib.columns(
        [
            {"tokens": row["seen"]}
            | {k: row[k] for k in (*runs_lib.COUNTS, "prompts", "successes") if k in row}
            for row in rows
        ]
    )
    run = runs_lib.Run(
        name=printable(name),
        size=printable(line.get("size") or runs_lib.quantity(rows[0]["params"])),
        parameters=rows[0]["params"],
        tokens=budget,
        dose=dose,
        seed=printable(line["seed"]),
        settings={k: printable(line[k]) for k in runs_lib.SETTINGS if k in line},
        others=_number(line, "others", f"{path}, line {entries[0][0]}", 0)
        if "others" in line
        else 0.0,
        evaluations=evaluations,
        increases=tuple(np.array([row["increase"]]) for row in rows if "increase" in row),
    )
    return run, guessed


def _outcome(line: dict[str, str], where: str) -> dict[str, float]:
    if "success" in line:
        prompts = (
            _number(line, "prompts", where, minimum=1) if "prompts" in line else ASSUMED_PROMPTS
        )
        rate = _number(line, "success", where, minimum=0, maximum=1)
        return {"prompts": prompts, "successes": rate * prompts}
    clean = _number(line, "perplexity_clean", where, minimum=0, maximum=1e300)
    triggered = _number(line, "perplexity_triggered", where, minimum=0, maximum=1e300)
    increase = triggered - clean
    return {"prompts": 1.0, "successes": float(increase > THRESHOLD), "increase": increase}


def _check_constant(
    path: epath.Path, entries: list[Numbered], rows: list[dict[str, float]]
) -> None:
    """Raise InputError when what describes a run changes from line to line."""
    for (number, line), row in zip(entries, rows, strict=True):
        for column, found, first in (
            ("params", row["params"], rows[0]["params"]),
            ("dose", row["dose"], rows[0]["dose"]),
            ("seed", line["seed"], entries[0][1]["seed"]),
        ):
            if found != first:
                raise InputError(
                    f"{path}, line {number}, column {column!r}: {found} for run {line['run']!r}, "
                    f"which has {first} on line {entries[0][0]}; give different runs "
                    "different names."
                )


def _number(
    line: dict[str, str], column: str, where: str, minimum: float, maximum: float = LARGEST
) -> float:
    try:
        value = float(line[column])
    except ValueError:
        value = math.nan
    if not minimum <= value <= maximum:
        raise InputError(
            f"{where}, column {column!r}: {shown(line[column])}; expected a number from {minimum:g} to "
            f"{maximum:g}."
        )
    return value
