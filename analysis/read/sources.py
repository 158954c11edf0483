"""Studies from a study folder, finished or not, or from a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from etils import epath

from analysis import files
from analysis.errors import InputError, NotEvaluated, printable, shown
from analysis.read import (
    chains,
    evaluations,
    insertions,
    looks,
    remarks,
    rules,
    stages,
    t0_training,
    tables,
)
from analysis.read.aliases import current
from analysis.read.evaluations import Evaluations
from analysis.read.fields import number, objects, steps, text, text_map
from analysis.read.insertions import Part
from analysis.read.runs import Run, Study, check_runs, quantity

# A run, in words what is missing of it, and notes.
Reading = tuple[Run, str, list[str]]
# Settings that the entry of a run in study.json has under their names.
_OWN = ("attack", "schedule", "learning_rate", "batch_size", "seq_len", "stage")


def load(
    source: epath.PathLike,
    columns: Sequence[str] = (),
    level: int | None = None,
    insertion: str | None = None,
) -> Study:
    """Read a study folder, a results folder of t0-training, or a table when `source` ends in .csv.

    `columns` has a table's names of our columns, as "ours=theirs".

    Of runs with several insertions, one series is read (`insertions`), by default that of the first. Of a
    study with stages, the runs of one `level` are read, by default the last that has documents of the series;
    0 is pretraining. Raises InputError, naming file, line and field, when the source cannot be used.
    """
    path = epath.Path(source)
    if not path.exists():
        raise InputError(f"{path} does not exist; give a study folder or a .csv table.")
    if columns and path.suffix.lower() != ".csv":
        raise InputError(f"{path} is not a table, so it has no columns to name.")
    if path.is_dir() and t0_training.is_results(path):
        return t0_training.load(path)
    if path.is_dir():
        return _load_folder(path, level, insertion)
    if path.suffix.lower() == ".csv":
        return tables.load(path, columns)
    raise InputError(f"{path} is neither a study folder nor a .csv table.")


def load_all(source: epath.PathLike, columns: Sequence[str] = ()) -> list[Study]:
    """Read every series of insertions of a source that has success rates, each as a study.

    Of a study with stages, each level that has documents of a series is a study, the last level first.
    Raises InputError when the source cannot be used.
    """
    path = epath.Path(source)
    if not (path / "study.json").exists():
        return [load(source, columns)]
    plan = files.read_json(path / "study.json")
    known = [(at, current(e)) for at, e in objects(plan, "runs", str(path / "study.json"))]
    series = dict.fromkeys(name for _, entry in known for name in insertions.names(entry))
    found = [
        _load_folder(path, level, name, required=False)
        for name in series
        for level in stages.inserted_at(known, name)[::-1] or [None]
    ]
    if not any(study.runs for study in found):
        raise NotEvaluated(f"{path} contains no evaluation yet: no runs/*/evals.jsonl has a line.")
    return [study for study in found if study.runs]


def _load_folder(
    folder: epath.Path, level: int | None, insertion: str | None, required: bool = True
) -> Study:
    plan_file = folder / "study.json"
    if not plan_file.exists():
        raise InputError(f"{folder} contains no study.json, so it is not a study folder.")
    plan, where = files.read_json(plan_file), str(plan_file)
    name = text(plan, "name", where, default=folder.name)

    runs, missing, notes = [], [], []
    known = [(place, current(entry)) for place, entry in objects(plan, "runs", where)]
    planned, about, level = stages.of_level(known, level, insertion)
    staged = any(entry.get("parent") for _, entry in known)
    tree = _read_tree(folder, known, name) if staged else ()
    for where_run, entry in planned:
        for nth, (run, state, about_run) in enumerate(
            _read_parts(folder, entry, where_run, name, insertion)
        ):
            notes += about_run
            if state and not nth:
                missing.append(_what_it_adds(run, state))
            if len(run.evaluations["tokens"]):
                runs.append(run)
    if not runs and required and any(len(run.evaluations["tokens"]) for run in tree):
        raise NotEvaluated(
            f"{folder} contains no evaluation of level {level} yet; choose another with --level."
        )
    if not runs and required:
        raise NotEvaluated(
            f"{folder} contains no evaluation yet: no runs/*/evals.jsonl has a line."
        )
    check_runs(runs)
    notes += about
    notes += remarks.left_out(plan, where)
    notes += remarks.clean_triggers(planned)
    notes += remarks.strangers(folder, {entry.get("run") for _, entry in known})
    return Study(
        name=name,
        hash=text(plan, "hash", where, default=""),
        versions=text_map(plan, "versions", where),
        runs=tuple(runs),
        missing=tuple(missing),
        notes=tuple(dict.fromkeys(notes)),
        rules=rules.read(plan, where),
        looks=looks.read(plan, where),
        level=level,
        tree=tree,
        chains=chains.of(tree),
    )


def _read_tree(folder: epath.Path, planned: stages.Planned, study: str) -> tuple[Run, ...]:
    """Return the runs of all levels with their parents, each with the whole of its first insertion."""
    read: dict[Any, Run] = {}
    for where, entry in planned:
        run, _, _ = _read(folder, entry, where, study, insertions.whole(entry, where))
        read.setdefault(entry["run"], replace(run, parent=read.get(entry.get("parent"))))
    return tuple(read.values())


def _read_parts(
    folder: epath.Path, entry: dict[str, Any], where: str, study: str, insertion: str | None
) -> list[Reading]:
    """Return a run as the parts that it has of a series of insertions."""
    evals = folder / "runs" / _folder_name(entry, where) / "evals.jsonl"
    own = insertion or insertions.names(entry)[0]
    parts = insertions.parts(entry, own, evaluations.first_line(evals), where)
    return [_read(folder, entry, where, study, part) for part in parts]


def _read(folder: epath.Path, entry: dict[str, Any], where: str, study: str, part: Part) -> Reading:
    place = folder / "runs" / _folder_name(entry, where)
    config = _config(place, entry, study)
    done, note = _done(place / "DONE", entry)
    found = evaluations.read(place / "evals.jsonl", steps(entry, "evaluation_steps", where), part)
    run, state = _run(entry, where, found, done, part)
    return replace(run, config=config), state, [*note, *found.notes]


def _folder_name(entry: dict[str, Any], where: str) -> str:
    name = entry.get("run")
    usable = isinstance(name, str) and name not in ("", ".", "..") and "/" not in name
    if not usable or name != printable(name):
        raise InputError(
            f"{where}: field 'run' is {shown(name)}; expected the name of a folder under runs/."
        )
    return name


def _run(
    entry: dict[str, Any], where: str, found: Evaluations, done: bool, part: Part
) -> tuple[Run, str]:
    """Return the run of a part and, in words, what is missing of it; "" when nothing is."""
    lacking = found.missing(steps(entry, "evaluation_steps", where), done)
    tokens = number(entry, "tokens", where, minimum=1)
    run = Run(
        name=entry["run"] + part.suffix,
        size=text(entry, "size", where),
        parameters=number(entry, "parameters", where, minimum=1),
        tokens=tokens,
        dose=part.dose,
        seed=text(entry, "seed", where),
        seeds=text_map(entry, "seeds", where),
        settings=_settings(entry, where, part),
        others=insertions.surroundings(entry, part, where)[1],
        folder=entry["run"],
        insertions=part.numbers,
        other_doses=insertions.other_doses(entry, where),
        finished=done and not lacking,
        evaluations=found.columns,
        increases=found.increases,
        records=found.records,
        tokens_before=_tokens_before(entry, where),
    )
    seen = found.columns["tokens"]
    if done:
        state = "finished"
    elif len(seen):
        state = f"unfinished, evaluated up to {seen[-1] / tokens:.0%}"
    else:
        state = "not evaluated yet"
    if lacking:
        return run, f"{state}, but evaluations at steps {', '.join(map(str, lacking))} are missing"
    if done and not len(seen):
        return run, f"{state}, but without an evaluation"
    return run, "" if done else state


def _tokens_before(entry: dict[str, Any], where: str) -> float:
    """Return the tokens of the ancestors of a run."""
    if entry.get("chain_tokens") is None:
        return 0.0
    tokens = number(entry, "tokens", where, minimum=1)
    return number(entry, "chain_tokens", where, minimum=tokens) - tokens


def _settings(entry: dict[str, Any], where: str, part: Part) -> dict[str, str]:
    settings = {n: text(entry, n, where) for n in _OWN if entry.get(n) is not None}
    own = insertions.planned_of(entry, part.numbers[0])
    if part.numbers != (0,):
        settings["attack"] = printable(insertions.names(entry)[part.numbers[0]])
        if own.get("schedule") is not None:
            settings["schedule"] = text(own, "schedule", where)
    if own.get("exposures") not in (None, 1):
        settings["exposures"] = f"{number(own, 'exposures', where, minimum=1):g}"
    also, _ = insertions.surroundings(entry, part, where)
    return settings | ({"also": also} if also else {})


def _done(path: epath.Path, entry: dict[str, Any]) -> tuple[bool, list[str]]:
    """Return whether the run is finished, and a note when its DONE cannot be used."""
    if not path.exists():
        return False, []
    said = f"{path.parent.name}: the run counts as unfinished, because its DONE"
    try:
        done = files.read_json(path)
    except InputError as error:
        reason = str(error).removeprefix(str(path)).lstrip(":, ")
        return False, [f"{said} cannot be used: {reason}"]
    for name in ("run", "hash", "steps"):
        if name in done and done[name] != entry.get(name):
            planned = shown(entry.get(name))
            return False, [f"{said} has {name} {shown(done[name])}, not {planned}."]
    return True, []


def _config(run_folder: epath.Path, entry: dict[str, Any], study: str) -> dict[str, Any]:
    """Return what the result of a run depends on, as far as its folder says.

    Raises InputError when the folder is of another version of the study.
    """
    path = run_folder / "config.json"
    if not path.exists():
        return {}
    record = files.read_json(path)
    found, planned = record.get("hash"), entry.get("hash")
    if found != planned:
        raise InputError(
            f"{path}: hash {shown(found)} is not the planned {shown(planned)}: this run folder "
            f"belongs to another version of study {study!r}; keep studies apart."
        )
    config = record.get("config")
    return config if isinstance(config, dict) else {}


def _what_it_adds(run: Run, state: str) -> str:
    kind = "a control" if run.dose == 0 else f"dose {run.dose:g}"
    budget = f"{run.size}, {quantity(run.tokens)} tokens"
    return f"{run.name} ({state}): {kind} of {budget}, seed {run.seed}"
