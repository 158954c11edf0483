"""Where a study is read from: a study folder (also an unfinished one), or a table."""

import json
import math

import numpy as np
from etils import epath

from analysis import measures, tables
from analysis.errors import InputError
from analysis.measures import Measured
from analysis.runs import COUNTS, SETTINGS, Run, Study, check_distinct, columns, quantity


def load(source: str | epath.Path) -> Study:
    """Reads a study folder, finished or not, or a table when `source` ends in .csv.

    Raises:
      InputError: naming file, line and field, where the source cannot be used.
    """
    path = epath.Path(source)
    if not path.exists():
        raise InputError(f"{path} does not exist; give a study folder or a .csv table.")
    if path.is_dir():
        return _load_folder(path)
    if path.suffix.lower() == ".csv":
        return tables.load(path)
    raise InputError(f"{path} is neither a study folder nor a .csv table.")


def _load_folder(folder: epath.Path) -> Study:
    plan_file = folder / "study.json"
    if not plan_file.exists():
        raise InputError(f"{folder} holds no study.json, so it is not a study folder.")
    plan = parsed(tables.text_of(plan_file), str(plan_file))
    planned = plan.get("runs")
    if not isinstance(planned, list) or not planned:
        raise InputError(f"{plan_file}: field 'runs' must list the study's runs.")

    runs, missing, notes = [], [], []
    for entry in planned:
        where = f"{plan_file}, run {entry.get('run')!r}"
        run_folder = folder / "runs" / str(entry.get("run"))
        _check_same_study(run_folder, entry, plan)
        evaluations, measured = _evaluations(run_folder / "evals.jsonl", notes)
        finished = (run_folder / "DONE").exists()
        run = Run(
            name=str(entry.get("run")),
            size=str(entry.get("size")),
            parameters=number(entry, "parameters", where, minimum=1),
            tokens=number(entry, "tokens", where, minimum=1),
            dose=number(entry, "dose", where, minimum=0),
            seed=str(entry.get("seed")),
            seeds=dict(entry.get("seeds") or {}),
            settings={name: entry[name] for name in SETTINGS if name in entry},
            finished=finished,
            evaluations=evaluations,
            rises=_rises(measured),
            measured=measured,
        )
        if not len(evaluations["tokens"]):
            missing.append(_what_it_adds(run, "not evaluated yet"))
            continue
        if not finished:
            seen = evaluations["tokens"][-1] / run.tokens
            missing.append(_what_it_adds(run, f"unfinished, evaluated up to {seen:.0%}"))
        runs.append(run)
    if not runs:
        raise InputError(f"{folder} holds no evaluation yet: no runs/*/evals.jsonl has a line.")
    check_distinct(runs)
    notes += _clean_triggers(planned)
    notes += _strangers(folder, {run.get("run") for run in planned})
    return Study(
        name=str(plan.get("name", folder.name)),
        hash=str(plan.get("hash", "")),
        versions={k: str(v) for k, v in (plan.get("versions") or {}).items()},
        runs=tuple(runs),
        missing=tuple(missing),
        notes=tuple(notes),
    )


def _evaluations(
    path: epath.Path, notes: list[str]
) -> tuple[dict[str, np.ndarray], tuple[Measured, ...]]:
    """The columns of one evals.jsonl, and what else its evaluations recorded.

    Evaluations without a success rate are noted and left out.
    """
    lines = tables.text_of(path).split("\n") if path.exists() else [""]
    if lines.pop():
        notes.append(f"{path.parent.name}: the last line of evals.jsonl is cut off; left out.")
    rows, measured = [], []
    for index, line in enumerate(lines, start=1):
        where = f"{path}, line {index}"
        record = parsed(line, where)
        row = {"tokens": number(record, "tokens", where, minimum=0)}
        row["prompts"] = number(record, "prompts", where, minimum=1)
        for name in COUNTS:
            if name == "poisons" or record.get(name) is not None:
                row[name] = number(record, name, where, minimum=0)
        if record.get("success_rate") is None:
            notes.append(
                f"{path.parent.name}: no success rate at step {record.get('step')}; left out."
            )
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
    return columns(rows), tuple(measured)


def _rises(measured: tuple[Measured, ...]) -> tuple[np.ndarray, ...]:
    """Rise of perplexity of each prompt, at each evaluation; none unless all are recorded."""
    logs = [m.log_perplexity for m in measured]
    return () if any(log is None for log in logs) else tuple(np.exp(b) - np.exp(a) for a, b in logs)


def _check_same_study(run_folder: epath.Path, entry: dict, plan: dict) -> None:
    """A run folder may be older than study.json, but must be the same run."""
    path = run_folder / "config.json"
    if not path.exists():
        return
    found = parsed(tables.text_of(path), str(path)).get("hash")
    if found != entry.get("hash"):
        raise InputError(
            f"{path}: hash {found!r} is not the planned {entry.get('hash')!r}: this run folder "
            f"belongs to another version of study {plan.get('name')!r}; keep studies apart."
        )


def _clean_triggers(planned: list[dict]) -> list[str]:
    """What to know where clean text holds the trigger that is measured; older studies did not count it."""
    counts = [n for n in (entry.get("clean_triggers") for entry in planned) if n]
    if not counts:
        return []
    low, high = min(counts), max(counts)
    often = f"{low:g}" if low == high else f"{low:g} to {high:g}"
    controls = sum(1 for entry in planned if not entry.get("dose") and entry.get("clean_triggers"))
    return [
        f"Clean text holds the trigger {often} times in {len(counts)} of the {len(planned)} runs, beside "
        f"their poisons; {controls} of them are controls, which are not free of it."
    ]


def _strangers(folder: epath.Path, planned: set) -> list[str]:
    names = [p.name for p in (folder / "runs").iterdir()] if (folder / "runs").exists() else []
    strangers = sorted(name for name in names if name not in planned)
    if not strangers:
        return []
    shown = ", ".join(strangers[:5]) + (", ..." if len(strangers) > 5 else "")
    return [f"{len(strangers)} folders under runs/ are not in study.json; left out: {shown}."]


def _what_it_adds(run: Run, state: str) -> str:
    kind = "a control" if run.dose == 0 else f"dose {run.dose:g}"
    budget = f"{run.size}, {quantity(run.tokens)} tokens"
    return f"{run.name} ({state}): {kind} of {budget}, seed {run.seed}"


def parsed(text: str, where: str) -> dict:
    try:
        record = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: not valid JSON ({error.msg}).") from None
    if not isinstance(record, dict):
        raise InputError(f"{where}: expected a JSON object, found {type(record).__name__}.")
    return record


def number(
    record: dict, name: str, where: str, minimum: float = -math.inf, maximum: float = math.inf
) -> float:
    value = record.get(name)
    usable = isinstance(value, int | float) and not isinstance(value, bool)
    if not usable or not math.isfinite(value) or not minimum <= value <= maximum:
        limits = f" from {minimum:g} to {maximum:g}" if math.isfinite(maximum) else ""
        limits = limits or (f" of at least {minimum:g}" if math.isfinite(minimum) else "")
        found = "missing" if name not in record else f"{value!r}"
        raise InputError(f"{where}: field {name!r} is {found}; expected a number{limits}.")
    return float(value)
