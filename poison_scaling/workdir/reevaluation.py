"""Evaluation of a single checkpoint of a study, as during training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from etils import epath

from poison_scaling.data.settings import Data
from poison_scaling.runtime import cores, processes
from poison_scaling.runtime.errors import InputError
from poison_scaling.study import study_file
from poison_scaling.study.inputs import Inputs
from poison_scaling.study.settings import Study
from poison_scaling.train import provenance, trained
from poison_scaling.workdir import execution, folder


def located(
    place: epath.Path, run: str | None, step: int | None
) -> tuple[epath.Path, str, int | None]:
    """Return the study's folder, the run's name and the checkpoint's step that `place` stands for.

    `place` is DIR, the folder of a study, if `run` is given; or DIR/runs/RUN; or
    DIR/runs/RUN/checkpoints/STEP. Raises InputError if it is none of these.
    """
    if run is not None:
        return place, run, step
    if step is None and place.parent.name == "checkpoints" and place.name.isdigit():
        place, step = place.parent.parent, int(place.name)
    if place.parent.name != "runs":
        if (place / "study.json").exists():
            folder.trained_here(place)
        raise InputError(
            f"{place}: give the folder of a run (DIR/runs/RUN) or of a checkpoint "
            "(DIR/runs/RUN/checkpoints/STEP), or the folder of a study with --run."
        )
    return place.parent.parent, place.name, step


def evaluate_again(
    workdir: epath.Path,
    name: str,
    step: int | None,
    judge: str | None = None,
    overrides: Sequence[str] = (),
) -> dict[str, Any]:
    """Evaluate a checkpoint of a run and return the record; see `trained.evaluate_again`.

    `overrides` may set fields of `evaluation`. `judge` is "control", or the folder of a run of a study with
    the same vocabulary. Raises InputError if these conditions are not met.
    """
    for override in overrides:
        if not override.startswith("evaluation."):
            raise InputError(
                f"--set {override!r}: the run is trained; only fields of evaluation can change."
            )
    folder.trained_here(workdir)
    recorded, _ = folder.trained(workdir, name)
    study = study_file.override(recorded, overrides)
    execution.start(study)
    if not processes.joined():
        cores.limit(study.machine.cores)
    inputs = Inputs(study)
    run = inputs.run_named(name)
    provenance.check_data(folder.of_run(workdir, run), inputs.digests(run))
    chosen = None
    if judge == "control":
        chosen = trained.judge(run.control, inputs, folder.of_run(workdir, run.control))
    elif judge is not None:
        other_workdir, other_name, _ = located(epath.Path(judge), None, None)
        folder.trained_here(other_workdir)
        _, other = folder.trained(other_workdir, other_name)
        if _vocabulary(other.study) != _vocabulary(study):
            raise InputError(f"--judge {judge!r}: its study has another corpus or vocabulary.")
        own = folder.of_run(other_workdir, other)
        its_inputs = Inputs(other.study)
        other = its_inputs.run_named(other_name)
        provenance.check_data(own, its_inputs.digests(other))
        chosen = trained.judge(other, inputs, own)
    return trained.evaluate_again(run, inputs, folder.of_run(workdir, run), step, chosen)


def _vocabulary(study: Study) -> tuple[Data, str | None, list]:
    """Return everything that the token ids of a text depend on."""
    return study.data, study.attack.trigger, study.corpora
