"""Preparation of a study: checks that every run fits, fills the cache, and writes study.json."""

from __future__ import annotations

import contextlib
import sys
from typing import Any

from etils import epath

from analysis.files import read_json, write_json
from poison_scaling.config import serialization
from poison_scaling.data import cache
from poison_scaling.evaluate.measure import Counted
from poison_scaling.evaluate.perplexity import PerplexityIncrease
from poison_scaling.model import sharding
from poison_scaling.runtime import processes, versions
from poison_scaling.runtime.errors import Damaged, InputError
from poison_scaling.runtime.reporting import Progress
from poison_scaling.study import grid
from poison_scaling.study.evaluation import detector_errors
from poison_scaling.study.inputs import Inputs
from poison_scaling.study.run import Run
from poison_scaling.study.settings import Analysis, Study
from poison_scaling.train import ancestry, provenance, state
from poison_scaling.workdir import folder


def prepare(
    study: Study,
    workdir: epath.Path,
    progress: Progress,
    adaptive: dict[str, Any] | None = None,
) -> Inputs:
    """Check that every run of a study fits, write study.json, and return the inputs of the runs.

    `adaptive` is what study.json says under that name, if the study is adaptive.
    Raises InputError, before anything is written, if a run does not fit or if the folder has one of them with
    other settings or other data.
    """
    runs = grid.runs(study)
    before = _before(workdir)
    if before.get("adaptive") is not None and adaptive is None:
        raise InputError(
            f"{workdir}: its study is adaptive; resume it with --adaptive --budget "
            f"{before['adaptive'].get('budget')}."
        )
    for run in runs:
        if run.is_exact:
            run.plan()  # raises InputError if its dose does not fit, which is known without the data
        provenance.check(folder.of_run(workdir, run), run)
    _check_mesh(study)
    _check_measures(study)
    # Each checkpoint has the parameters and two moments, in float32.
    left = [run for run in runs if not folder.is_done(workdir, run)]
    needed = sum(12 * run.parameters * _checkpoints(run) for run in left)
    cache.require_disk(workdir, needed, "the checkpoints of the study")
    with processes.one_a_folder(cache.folder()):
        inputs = Inputs(study, progress)
    runs = inputs.runs()
    for run in runs:
        inputs.probes(run)  # raises InputError now if the prompts do not fit
        provenance.check_data(folder.of_run(workdir, run), inputs.digests(run))
    _check_origins(runs, inputs)
    _check_parents([run for run in runs if not folder.is_done(workdir, run)], workdir)
    plans = [inputs.plan(run) for run in runs]
    record = {
        "name": study.name,
        "hash": study.hash,
        "versions": versions.installed(),
        "config": serialization.to_json(study),
        "analyses": _analyses(study, workdir, before),
        "data": inputs.digests(),
        "runs": plans,
        "clean_triggers": inputs.clean_triggers(),
    }
    if filtered := inputs.filtered():
        record["filtered"] = filtered
    if inputs.packed_sequences:
        record["packed_sequences"] = inputs.packed_sequences
        record["conversations_left_out"] = inputs.conversations_left_out
    if adaptive is not None:
        record["adaptive"] = adaptive
    if detectors := detector_errors(study, inputs):
        record["detectors"] = detectors
    _write(workdir / "study.json", record)
    if processes.first():
        for sentence in inputs.warnings(plans):
            print(f"warning: {sentence}", file=sys.stderr)
    return inputs


def _check_parents(left: list[Run], workdir: epath.Path) -> None:
    """Raise InputError if the parent of a run that is left is neither left itself nor as it must be."""
    waiting = {run.name for run in left}
    for run in left:
        parent = run.parent
        if parent and (parent is run.origin or parent.name not in waiting):
            ancestry.parent_of(run, folder.of_run(workdir, run))


def _check_origins(runs: tuple[Run, ...], inputs: Inputs) -> None:
    """Raise InputError if runs start from one that was trained on other data than its settings give now."""
    starts = {run.origin.name: run for run in runs if run.origin}
    for run in starts.values():
        origin, start = run.origin, run.study.start
        assert origin is not None and start is not None
        root = (origin, *origin.ancestors)[-1]
        if root.study != origin.study or root.data != run.study.data:
            continue  # its data is not prepared here
        place = epath.Path(start.folder) / "runs" / root.name
        try:
            provenance.check_data(place, inputs.digests())
        except InputError as e:
            raise InputError(
                f"start: {place} was trained on other text, or with another vocabulary, than the same "
                "settings give now; restore the corpus or the versions of packages."
            ) from e


def _checkpoints(run: Run) -> int:
    """Return the largest number of checkpoints that a run has at any time."""
    machine = run.study.machine
    never_deleted = run.steps // machine.keep_every if machine.keep_every else 0
    return machine.keep_checkpoints + never_deleted


def _check_mesh(study: Study) -> None:
    """Raise InputError unless the mesh fits the devices, the batch size and every model size."""
    mesh = sharding.mesh(study.machine.mesh)
    for batch_size in {run.train.batch_size for run in grid.runs(study)}:
        sharding.batch_sharding(mesh, batch_size)
    for size in {rung.size for rung in study.ladder}:
        state.parameter_shardings(size, study.data.vocabulary.vocab_size, study.model, mesh)


def _before(workdir: epath.Path) -> dict[str, Any]:
    """Return study.json as it is; empty if there is none, or a damaged one, which is written again."""
    file = workdir / "study.json"
    with contextlib.suppress(Damaged):
        return read_json(file, sealed=True) if file.exists() else {}
    return {}


def _analyses(study: Study, workdir: epath.Path, before: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rules of the study, oldest first, each with the number of runs begun before it."""
    # Studies of earlier versions were decided by what is the default now.
    older = [{"analysis": serialization.to_json(Analysis()), "runs_begun": 0}]
    known = before.get("analyses", older) if before else []
    runs = workdir / "runs"
    begun = len(list(runs.iterdir())) if runs.exists() else 0
    own = serialization.to_json(study.analysis)
    if not known or known[-1]["analysis"] != own:
        known = [*known, {"analysis": own, "runs_begun": begun}]
    return known


def _check_measures(study: Study) -> None:
    """Raise InputError if there is no success, or if it cannot be counted at `analysis.threshold`."""
    stages = study.named_stages().items()
    own = {f"{field}.attack": stage.attack for field, stage in stages if stage.attack is not None}
    for field, attack in {"attack": study.attack, **own}.items():
        if isinstance(attack.measure(), Counted):
            raise InputError(
                f"{field}={type(attack).__name__}: its documents are counted and nothing is measured, so it "
                "has no success; make it one of `also`, which pretraining has, and give another here."
            )
    threshold = study.analysis.threshold
    if threshold is None:
        return
    for field, attack in study.attacks().items():
        if not isinstance(attack.measure(), PerplexityIncrease):
            raise InputError(
                f"analysis.threshold={threshold:g}: {field}, the attack {type(attack).__name__}, records "
                "no increase of perplexity; set it to none."
            )


def _write(file: epath.Path, record: dict[str, Any]) -> None:
    """Write study.json in the first process. Raises InputError in the others if theirs differs."""
    if processes.first():
        write_json(file, record)
    processes.wait(f"{file.name} is written")
    if not processes.first():
        written = read_json(file, sealed=True) if file.exists() else None
        same = ("hash", "data", "versions")
        if written is None or any(written[name] != record[name] for name in same):
            raise InputError(
                f"{file}: a process does not see there what the first one wrote; give all the same "
                "study, the same versions of packages, and a --workdir that they share."
            )
