"""The folder of a study: its layout, its study.json, and whether its runs are complete."""

from __future__ import annotations

from typing import Any

from etils import epath

from analysis.files import read_json, write_json
from poison_scaling.config import serialization
from poison_scaling.runtime.errors import Damaged, InputError
from poison_scaling.study import grid
from poison_scaling.study.run import Run
from poison_scaling.study.settings import Study
from poison_scaling.train import logs, provenance


def of_run(workdir: epath.Path, run: Run) -> epath.Path:
    return workdir / "runs" / run.name


def record(workdir: epath.Path) -> dict:
    """Return study.json. Raises InputError if there is none, Damaged if it cannot be read."""
    file = workdir / "study.json"
    if not file.exists():
        raise InputError(f"{workdir}: it holds no study (there is no study.json).")
    try:
        return read_json(file, sealed=True)
    except Damaged as e:
        raise Damaged(f"{e} Delete it, and `poison-scaling study` writes it again.") from e


def update(workdir: epath.Path, **fields: Any) -> None:
    """Write study.json again, with these fields changed or added."""
    write_json(workdir / "study.json", record(workdir) | fields)


def read(workdir: epath.Path) -> Study:
    """Return the study of a folder. Raises InputError if it holds none, or one of another version."""
    config = record(workdir).get("config")
    where = f"{workdir / 'study.json'}: it is not a study of this version"
    return serialization.from_json(config, Study, where)


def trained_here(workdir: epath.Path) -> Study:
    """Return the study of a folder. Raises InputError if it stands for an imported model."""
    study = read(workdir)
    if study.imported is not None:
        raise InputError(
            f"{workdir}: it holds an imported model, which was not trained here; give the folder of a study "
            "that starts from it, or, to measure it alone, `poison-scaling evaluate MODEL --attack ATTACK` "
            "with the model as it was published."
        )
    return study


def trained(workdir: epath.Path, name: str) -> tuple[Study, Run]:
    """Return the study of a folder and its run of that name.

    Raises InputError if there is no such run or its folder holds a run with other settings.
    """
    study = read(workdir)
    run = grid.run_named(study, name)
    provenance.check(of_run(workdir, run), run)
    return study, run


def is_done(workdir: epath.Path, run: Run) -> bool:
    """Whether the run has a DONE file, undamaged and with the same settings."""
    file = of_run(workdir, run) / "DONE"
    try:
        return file.exists() and read_json(file, sealed=True).get("hash") == run.hash
    except Damaged:
        return False


def is_whole(workdir: epath.Path, run: Run) -> bool:
    """Whether the run is done and every planned line of its logs is present and undamaged."""
    own = of_run(workdir, run)
    return (
        is_done(workdir, run)
        and logs.whole_until(own, run) == run.steps
        and logs.has_manifest(own, run)
    )
