"""The parent of a stage's run: where it lies, whether it is still the one that is meant, and its state."""

from __future__ import annotations

import contextlib
import hashlib
from typing import TypedDict

from etils import epath

from analysis.files import read_json
from poison_scaling.runtime.errors import Damaged, InputError
from poison_scaling.study.imported import Imported
from poison_scaling.study.run import Run
from poison_scaling.train import checkpoints, imports, provenance
from poison_scaling.train.compiled import Compiled
from poison_scaling.train.state import TrainState


class Parent(TypedDict):
    """The parent of a run, in its config.json."""

    run: str
    hash: str
    step: int  # of the checkpoint that the run starts from
    # SHA-256 of the fingerprint of that checkpoint, or of the weights of an imported model
    state: str


def folder_of_parent(run: Run, folder: epath.Path) -> epath.Path:
    """Return the folder of the parent of `run`, whose own folder is `folder`."""
    parent = run.parent
    assert parent is not None
    if parent is run.origin and run.study.start:
        return epath.Path(run.study.start.folder) / "runs" / parent.name
    return folder.parent / parent.name


def parent_of(run: Run, folder: epath.Path) -> Parent | None:
    """Return what config.json says of the parent of a run; None if the run is pretraining.

    Raises InputError, in one sentence, if the parent is missing, unfinished or has other settings, or if the
    checkpoint to start from is missing.
    """
    if (parent := run.parent) is None:
        return None
    own = folder_of_parent(run, folder)
    if not (own / "config.json").exists():
        raise InputError(f"{run.name}: its parent {own} is missing; train it first.")
    provenance.check(own, parent)
    step = run.starts_at or parent.steps
    if (imported := _imported(parent)) is not None:
        if run.starts_at is not None:
            raise InputError(
                f"start.step={step}: {own} is an imported model, which has no steps; leave it out."
            )
        imports.opened(own)  # raises InputError if it has no weights
        return {"run": parent.name, "hash": parent.hash, "step": 0, "state": imported.digest}
    if run.starts_at is None and _done(own) != parent.hash:
        raise InputError(f"{run.name}: its parent {own} is not trained to its end; train it first.")
    with _opened(own) as saved:
        known = sorted(saved.steps)
        fingerprint = saved.about(step).get("fingerprint") if step in known else None
    if run.starts_at is not None and step not in known:
        raise InputError(
            f"start.step={step}: {own} has no checkpoint of that step; it has those of "
            f"{', '.join(map(str, known)) or 'none'}."
        )
    if fingerprint is None:
        raise InputError(
            f"{run.name}: its parent {own} has no checkpoint of step {step}; delete that folder, "
            "and train it again."
        )
    digest = hashlib.sha256(repr(fingerprint).encode()).hexdigest()
    return {"run": parent.name, "hash": parent.hash, "step": step, "state": digest}


def inherited(run: Run, folder: epath.Path, compiled: Compiled) -> TrainState:
    """Return the state before the first step of a stage. Raises InputError if the checkpoint is damaged."""
    parent = run.parent
    assert parent is not None
    own, step = folder_of_parent(run, folder), run.starts_at or parent.steps
    if _imported(parent) is not None:
        return compiled.begun(imports.load(parent, own, run.study.model, compiled.mesh))
    with _opened(own) as saved:
        restored = saved.restore(compiled.abstract, only=step)
    if restored is None:
        raise InputError(
            f"{run.name}: the checkpoint of step {step} of its parent {own} cannot be read; delete that "
            "folder, and train it again."
        )
    return compiled.inherited(restored[0])


def _imported(parent: Run) -> Imported | None:
    """Return what a run stands for if it is an imported model, and not a stage of a study from one."""
    return None if parent.path else parent.study.imported


def _done(own: epath.Path) -> str | None:
    """Return the hash in the DONE of a run; None if it is unfinished."""
    try:
        return read_json(own / "DONE", sealed=True).get("hash") if (own / "DONE").exists() else None
    except Damaged:
        return None


def _opened(own: epath.Path) -> contextlib.closing[checkpoints.Checkpoints]:
    return contextlib.closing(checkpoints.Checkpoints(own / "checkpoints", read_only=True))
