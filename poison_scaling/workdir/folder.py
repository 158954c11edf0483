"""The folder of a study: where its runs lie, what it says of itself, and whether the two fit together."""

from __future__ import annotations

from etils import epath

from analysis.files import read_json
from poison_scaling.config import serialization
from poison_scaling.runtime.errors import Damaged, InputError
from poison_scaling.study import grid
from poison_scaling.study.run import Run
from poison_scaling.study.settings import Study
from poison_scaling.train import logs, provenance


def of_run(workdir: epath.Path, run: Run) -> epath.Path:
    return workdir / "runs" / run.name


def record(workdir: epath.Path) -> dict:
    """Return study.json; raises InputError where there is none, or it is damaged."""
    file = workdir / "study.json"
    if not file.exists():
        raise InputError(f"{workdir}: it holds no study (there is no study.json).")
    try:
        return read_json(file)
    except Damaged as e:
        raise Damaged(f"{e} Delete it, and `poison-scaling study` writes it anew.") from e


def read(workdir: epath.Path) -> Study:
    """Return the study of a folder; raises InputError where it holds none that can be read."""
    config = record(workdir).get("config")
    where = f"{workdir / 'study.json'}: it is not a study of this version"
    return serialization.from_json(config, Study, where)


def trained(workdir: epath.Path, name: str) -> tuple[Study, Run]:
    """Return the study of a folder and its run of that name.

    Raises InputError where there is no such run, or its own folder is of another one.
    """
    study = read(workdir)
    run = grid.run_named(study, name)
    provenance.check(of_run(workdir, run), run)
    return study, run


def is_done(workdir: epath.Path, run: Run) -> bool:
    """Whether the run says that it is finished, with these very settings. A damaged DONE says nothing."""
    file = of_run(workdir, run) / "DONE"
    try:
        return file.exists() and read_json(file).get("hash") == run.hash
    except Damaged:
        return False


def is_whole(workdir: epath.Path, run: Run) -> bool:
    """Whether the run is finished, and every line that it planned to write is there and undamaged."""
    own = of_run(workdir, run)
    return (
        is_done(workdir, run)
        and logs.whole_until(own, run) == run.steps
        and logs.has_manifest(own, run)
    )
