"""Verification that a study trained on what it says: derives everything again and compares.

The comparisons are, in this order: the settings and plans in the folder with those that follow from its
config; the prepared tokens on disk with their checksums and with the digests that the study recorded; each
run's manifest with the derived placement, and its documents with the sequences as they are read; the steps
and counts in metrics and evaluations with the plan. The parent of a stage's run is compared with what the run
says of it, and runs of another study from which chains start are verified in their own folder.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Set
from typing import Any

import numpy as np
from etils import epath

from analysis.files import read_json, read_lines
from poison_scaling.data.vocabularies import preparation
from poison_scaling.runtime.errors import Damaged, Difference, InputError
from poison_scaling.study import grid, manifest
from poison_scaling.study.imported_model import imported
from poison_scaling.study.inputs import Inputs
from poison_scaling.study.run import Run
from poison_scaling.train import ancestry, checkpoints, imports, logs, provenance
from poison_scaling.workdir import folder


def verify(workdir: epath.Path, progress: Callable[[str], None] = lambda name: None) -> int:
    """Verify every run that has begun, and return their number. Calls `progress` with the name of each run.

    Raises Difference for the first disagreement, and InputError if there is no study or no run to verify.
    """
    try:
        return _verify(workdir, progress)
    except Damaged as e:
        raise Difference(str(e)) from e


def _verify(
    workdir: epath.Path, progress: Callable[[str], None], only: Set[str] | None = None
) -> int:
    """Verify the runs that have begun, or `only` those of these names."""
    record, recorded = folder.record(workdir), folder.read(workdir)
    where = workdir / "study.json"
    if recorded.hash != record.get("hash"):
        raise Difference(
            f"{where}: its config hashes to {recorded.hash}, and it says {record.get('hash')}."
        )
    if recorded.imported is not None:
        return _verify_import(workdir, progress)
    wanted = [run for run in grid.runs(recorded) if only is None or run.name in only]
    begun = [run for run in wanted if folder.of_run(workdir, run).exists()]
    if not begun:
        raise InputError(f"{workdir}: none of its runs has begun, so there is nothing to verify.")
    verified = _verify_origins(begun, progress)
    inputs = Inputs(recorded)
    inputs.check()
    begun = [inputs.run_named(run.name) for run in begun]
    for name, digest in inputs.digests().items():
        before = str((record.get("data") or {}).get(name))
        if before != digest:
            raise Difference(
                f"{name}: the prepared data has digest {digest[:16]}, and the study was trained on "
                f"{before[:16]}; other versions of its packages or files?"
            )
    plans = {plan.get("run"): plan for plan in record.get("runs") or []}
    for run in inputs.runs():
        if plans.get(run.name) != inputs.plan(run):
            raise Difference(
                f"{where}: the plan of {run.name} is not the one that its config gives."
            )
    if record.get("clean_triggers") != (counted := inputs.clean_triggers()):
        raise Difference(
            f"{where}: its clean_triggers are not those of the prepared data, {counted}."
        )
    if record.get("filtered", {}) != (filtered := inputs.filtered()):
        raise Difference(
            f"{where}: what its filters removed is not what they remove now, {filtered}."
        )
    for run in begun:
        progress(run.name)
        for difference in _differences(run, inputs, folder.of_run(workdir, run)):
            raise Difference(difference)
    return verified + len(begun)


def _verify_import(workdir: epath.Path, progress: Callable[[str], None]) -> int:
    """Verify the weights and the tokenizer of an imported model, and return 1."""
    study = folder.read(workdir)
    [run] = grid.runs(study)
    own = folder.of_run(workdir, run)
    progress(run.name)
    try:
        provenance.check(own, run)
        imports.check(run, own)
        preparation.imported(imported(workdir).vocabulary)
    except InputError as e:
        raise Difference(str(e)) from e
    return 1


def _verify_origins(begun: list[Run], progress: Callable[[str], None]) -> int:
    """Verify the runs of another study from which the runs start, and return their number."""
    origins = {run.origin.name: run.origin for run in begun if run.origin}
    if not origins:
        return 0
    start = begun[0].study.start
    assert start is not None
    names = {
        run.name
        for origin in origins.values()
        for run in (origin, *origin.ancestors)
        if run.study == origin.study
    }
    return _verify(epath.Path(start.folder), lambda name: progress(f"{name} (start)"), names)


def _differences(run: Run, inputs: Inputs, own: epath.Path) -> Iterator[str]:
    """Yield the differences found in a run, the most fundamental first."""
    try:
        provenance.check(own, run)
        provenance.check_data(own, inputs.digests(run))
        provenance.check_parent(own, ancestry.parent_of(run, own))
    except InputError as e:
        yield str(e)

    B = run.train.batch_size
    stream, submitted = inputs.stream(run), inputs.submitted(run)
    planned, written = manifest.exposures(stream, B), read_lines(own / "manifest.jsonl")
    for number, (expected, found) in enumerate(zip(planned, written, strict=False), 1):
        if expected != found:
            yield f"{own / 'manifest.jsonl'}, line {number}: it says {found}, derived is {expected}."
    if len(planned) != len(written):
        yield f"{own / 'manifest.jsonl'}: it has {len(written)} lines, derived are {len(planned)}."

    for entry in planned:
        tokens, *_ = stream.read(np.array([entry["sequence"]]))
        span = tokens[0, entry["offset"] : entry["offset"] + entry["tokens"]]
        digest = hashlib.sha256(span.astype("<i4").tobytes()).hexdigest()
        if digest != entry["document"]:
            yield f"{run.name}: sequence {entry['sequence']} does not hold document {entry['document'][:16]}."

    # An unfinished run must have all lines up to its last checkpoint, because it will not write them again.
    done = (own / "DONE").exists()
    if done and read_json(own / "DONE", sealed=True) != provenance.done(run):
        yield f"{own / 'DONE'}: it is not of {run.name} as planned."
    until = run.steps if done else max(checkpoints.steps(own / "checkpoints"), default=0)
    for name, steps in logs.planned(run).items():
        file = own / f"{name}.jsonl"
        lines = read_lines(file)
        found = [line.get("step") for line in lines]
        least = [step for step in steps if step <= until]
        if found != steps[: max(len(found), len(least))]:
            yield f"{file}: it has steps {_brief(found)}, planned are {_brief(steps)}."
        for number, line in enumerate(lines, 1):
            shown = stream.placement.before(line["step"] * B)
            if name == "evals":
                shown = shown.of_attack(0)
            expected = {"tokens": line["step"] * B * run.data.seq_len, **shown.counts(B)}
            if name == "metrics":  # the devices cannot tell documents apart
                del expected["distinct_poisons"]
            elif run.data.filters:
                expected["submitted"] = submitted.before(line["step"] * B).of_attack(0).exposures
            for field, value in expected.items():
                if line.get(field) != value:
                    yield (
                        f"{file}, line {number}: {field} is {line.get(field)}, and by the plan {value}."
                    )
            measured = "loss" if name == "metrics" else "heldout_loss"
            if not _finite(line.get(measured)):
                yield f"{file}, line {number}: {measured} is {line.get(measured)!r}, not a finite number."


def _brief(steps: list) -> str:
    """Return steps for a message, abbreviated if there are many."""
    if len(steps) <= 12:
        return str(steps)
    return f"[{steps[0]}, {steps[1]}, ... {steps[-2]}, {steps[-1]}] ({len(steps)})"


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
