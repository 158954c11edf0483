"""Where a study is read from: a study folder (also an unfinished one), or a table."""

from etils import epath

from analysis import evaluations, sealed, tables
from analysis.errors import InputError
from analysis.evaluations import Evaluations
from analysis.fields import label, labels, number, objects, steps
from analysis.runs import SETTINGS, Run, Study, check, quantity
from analysis.words import printable, shown


def load(source: str | epath.Path) -> Study:
    """Read a study folder, finished or not, or a table when `source` ends in .csv.

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
    plan, where = sealed.read_object(plan_file), str(plan_file)
    name = label(plan, "name", where, default=folder.name)

    runs, missing, notes = [], [], []
    planned = objects(plan, "runs", where)
    for where_run, entry in planned:
        run_folder = folder / "runs" / _folder_name(entry, where_run)
        _check_same_study(run_folder, entry, name)
        found = evaluations.read(
            run_folder / "evals.jsonl", steps(entry, "evaluation_steps", where_run)
        )
        done, note = _done(run_folder / "DONE", entry)
        run, state = _run(entry, where_run, found, done)
        notes += [*note, *found.notes]
        if state:
            missing.append(_what_it_adds(run, state))
        if len(found.columns["tokens"]):
            runs.append(run)
    if not runs:
        raise InputError(f"{folder} holds no evaluation yet: no runs/*/evals.jsonl has a line.")
    check(runs)
    notes += _clean_triggers(planned)
    notes += _strangers(folder, {entry["run"] for _, entry in planned})
    return Study(
        name=name,
        hash=label(plan, "hash", where, default=""),
        versions=labels(plan, "versions", where),
        runs=tuple(runs),
        missing=tuple(missing),
        notes=tuple(notes),
    )


def _folder_name(entry: dict, where: str) -> str:
    name = entry.get("run")
    usable = isinstance(name, str) and name not in ("", ".", "..") and "/" not in name
    if not usable or name != printable(name):
        raise InputError(
            f"{where}: field 'run' is {shown(name)}; expected the name of a folder under runs/."
        )
    return name


def _run(entry: dict, where: str, found: Evaluations, done: bool) -> tuple[Run, str]:
    """The run, and in words what it lacks; "" where it is whole."""
    lacking = found.missing(steps(entry, "evaluation_steps", where), done)
    tokens = number(entry, "tokens", where, minimum=1)
    run = Run(
        name=entry["run"],
        size=label(entry, "size", where),
        parameters=number(entry, "parameters", where, minimum=1),
        tokens=tokens,
        dose=number(entry, "dose", where, minimum=0),
        seed=label(entry, "seed", where),
        seeds=labels(entry, "seeds", where),
        settings={n: label(entry, n, where) for n in SETTINGS if entry.get(n) is not None},
        finished=done and not lacking,
        evaluations=found.columns,
        rises=found.rises,
        measured=found.measured,
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


def _done(path: epath.Path, entry: dict) -> tuple[bool, list[str]]:
    """Whether the run is finished, and a note where the file that says so cannot be believed."""
    if not path.exists():
        return False, []
    said = f"{path.parent.name}: the run counts as unfinished, because its DONE"
    try:
        done = sealed.read_object(path)
    except InputError as error:
        reason = str(error).removeprefix(str(path)).lstrip(":, ")
        return False, [f"{said} cannot be used: {reason}"]
    for name in ("run", "hash", "steps"):
        if name in done and done[name] != entry.get(name):
            planned = shown(entry.get(name))
            return False, [f"{said} has {name} {shown(done[name])}, not {planned}."]
    return True, []


def _check_same_study(run_folder: epath.Path, entry: dict, study: str) -> None:
    """A run folder may be older than study.json, but must be the same run."""
    path = run_folder / "config.json"
    if not path.exists():
        return
    found, planned = sealed.read_object(path).get("hash"), entry.get("hash")
    if found != planned:
        raise InputError(
            f"{path}: hash {shown(found)} is not the planned {shown(planned)}: this run folder "
            f"belongs to another version of study {study!r}; keep studies apart."
        )


def _clean_triggers(planned: list[tuple[str, dict]]) -> list[str]:
    """Say where clean text holds the trigger that is measured; older studies did not count it."""
    counts = [
        (number(entry, "clean_triggers", where, minimum=0), entry["dose"])
        for where, entry in planned
        if entry.get("clean_triggers") is not None
    ]
    met = [count for count, _ in counts if count]
    if not met:
        return []
    often = f"{min(met):g}" if min(met) == max(met) else f"{min(met):g} to {max(met):g}"
    controls = any(count for count, dose in counts if not dose)
    free = ": the controls are not free of it" if controls else ""
    return [
        f"Clean text holds the trigger {often} times in {len(met)} of the {len(planned)} runs, beside their "
        f"poisons{free}."
    ]


def _strangers(folder: epath.Path, planned: set[str]) -> list[str]:
    names = [p.name for p in (folder / "runs").iterdir()] if (folder / "runs").exists() else []
    strangers = sorted(printable(name) for name in names if name not in planned)
    if not strangers:
        return []
    shown = ", ".join(strangers[:5]) + (", ..." if len(strangers) > 5 else "")
    return [f"{len(strangers)} folders under runs/ are not in study.json; left out: {shown}."]


def _what_it_adds(run: Run, state: str) -> str:
    kind = "a control" if run.dose == 0 else f"dose {run.dose:g}"
    budget = f"{run.size}, {quantity(run.tokens)} tokens"
    return f"{run.name} ({state}): {kind} of {budget}, seed {run.seed}"
