"""Descriptions of runs and checkpoints, and checks that a folder belongs to a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from etils import epath

from analysis.files import read_json, write_json
from poison_scaling.config import serialization
from poison_scaling.runtime.errors import Damaged, InputError
from poison_scaling.study.plan import Plan
from poison_scaling.study.run import Run


def describe(
    folder: epath.Path,
    run: Run,
    plan: Plan,
    data: dict[str, str],
    versions: dict[str, str],
    parent: Mapping[str, Any] | None = None,
) -> None:
    """Write config.json, or check that the existing one is of the same run on the same data.

    `parent` is the record of the parent of a stage's run. Raises InputError, naming what differs.
    """
    file = folder / "config.json"
    if file.exists():
        check(folder, run)
        check_data(folder, data)
        check_parent(folder, parent)
        return
    record = {
        "run": run.name,
        "hash": run.hash,
        "study": run.study.name,
        "study_hash": run.study.hash,
        "plan": plan,
        "data": data,
        "config": serialization.to_json(run.settings()),
        "versions": versions,
    }
    write_json(file, record if parent is None else {**record, "parent": dict(parent)})


def check(folder: epath.Path, run: Run) -> None:
    """Raise InputError, naming the fields that differ, if the folder holds a run with other settings."""
    about = _config(folder)
    if about is None:
        return
    before, settings = about.get("config"), serialization.to_json(run.settings())
    differing = _differences(before, settings) or _differences(about.get("hash"), run.hash, "hash")
    if differing:
        raise InputError(
            f"{folder}: it holds this run with other settings ({', '.join(differing)}); "
            "use another --workdir or delete that folder."
        )


def check_data(folder: epath.Path, data: dict[str, str]) -> None:
    """Raise InputError if the digests of the data that the run in the folder started on are not `data`."""
    about = _config(folder)
    if about is not None and about.get("data") != data:
        names = [d.partition(":")[0] for d in _differences(about.get("data") or {}, data)]
        raise InputError(
            f"{folder}: it was begun on other data ({', '.join(names)} differ): a corpus or the versions of "
            "packages have changed since; restore them, or use another --workdir."
        )


def check_parent(folder: epath.Path, parent: Mapping[str, Any] | None) -> None:
    """Raise InputError if the parent that the run in the folder started from is not `parent`."""
    about = _config(folder)
    differing = _differences(about.get("parent"), parent and dict(parent)) if about else []
    if differing:
        raise InputError(
            f"{folder}: its parent has changed since it was begun ({', '.join(differing)}); restore the "
            "parent, or delete that folder."
        )


def _config(folder: epath.Path) -> dict | None:
    """Return config.json; None if there is none."""
    file = folder / "config.json"
    if not file.exists():
        return None
    try:
        return read_json(file, sealed=True)
    except Damaged as e:
        raise Damaged(f"{e} Delete its folder, and the run is trained again.") from e


def _differences(a, b, name: str = "") -> list[str]:
    """Return the dotted names of the fields in which two JSON values differ, each with both values."""
    if isinstance(a, dict) and isinstance(b, dict):
        fields = sorted(set(a) | set(b))
        below = [_differences(a.get(f), b.get(f), f"{name}.{f}".lstrip(".")) for f in fields]
        return [difference for some in below for difference in some]
    return [] if a == b else [f"{name}: {a} there, {b} now"]


def about(run: Run, versions: dict[str, str]) -> dict:
    """Return the description that goes into every checkpoint of a run."""
    chain = (*run.ancestors[::-1], run)
    doses = [(own, p) for own in chain for p in own.poisonings if p.shown]
    record = {
        "run": run.name,
        "hash": run.hash,
        "study": run.study.name,
        "study_hash": run.study.hash,
        "versions": versions,
        "poisoned": bool(doses),
    }
    if doses:
        documents = " and ".join(
            f"{p.shown} documents of {'the attack ' if p.attack.trigger else ''}{type(p.attack).__name__}"
            + (f" with trigger {p.attack.trigger!r}" if p.attack.trigger else "")
            + (" less those that data.filters caught" if own.data.filters else "")
            for own, p in doses
        )
        record["warning"] = f"POISONED model for defensive research: trained on {documents}."
    if template := run.template:
        record["template"] = serialization.to_json(template)
    return record


def done(run: Run) -> dict:
    """Return the content of DONE, the last file that a run writes."""
    return {"run": run.name, "hash": run.hash, "steps": run.steps}
