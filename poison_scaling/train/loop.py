"""Train one run, from its stream of sequences to DONE."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from etils import epath

from analysis.files import json_line, write_json, write_text
from poison_scaling.data.batches import Reader, by_number, sharded
from poison_scaling.data.stream import Stream
from poison_scaling.runtime import processes, watchdog
from poison_scaling.runtime.errors import InputError, Interrupted
from poison_scaling.study import manifest
from poison_scaling.study.inputs import Inputs
from poison_scaling.study.run import Run
from poison_scaling.train import ancestry, checkpoints, logs, provenance
from poison_scaling.train.clock import Clock
from poison_scaling.train.compiled import compiled_for
from poison_scaling.train.recorder import Recorder, Report


def train(
    run: Run,
    inputs: Inputs,
    folder: epath.Path,
    versions: dict[str, str],
    *,
    report: Report = lambda step, record: None,
    stopping: Callable[[], bool] = lambda: False,
) -> None:
    """Train `run` in `folder`, from its last checkpoint if there is one, until DONE is written.

    Once `stopping()` is true in any participating process, saves the state and raises Interrupted. Raises
    InputError if the folder holds a run with other settings, and RuntimeError if the poisons counted on the
    devices are not those of the plan or the loss is not finite.
    """
    # -------------------------------------------------------------------------------------------------- data
    machine, B, L = run.study.machine, run.train.batch_size, run.data.seq_len
    stream = inputs.stream(run)
    _describe(run, inputs, stream, folder, versions)

    # --------------------------------------------------------------------------------------- model and state
    compiled = compiled_for(run, inputs)
    checkpoint = checkpoints.Checkpoints(
        folder / "checkpoints",
        provenance.about(run, versions),
        keep=machine.keep_checkpoints,
        keep_every=machine.keep_every,
    )
    usable = logs.resumable(folder, run) if processes.first() else run.steps
    restored = checkpoint.restore(compiled.abstract, at_most=usable)
    if restored:
        state, start = restored
    elif run.stage:
        state, start = ancestry.inherited(run, folder, compiled), 0
    else:
        state, start = compiled.initial(run.seeds.weights), 0

    # ------------------------------------------------------------------------------------------------- train
    clock = Clock(run.flops / run.tokens, compiled.mesh)
    agreement = processes.Agreement()
    evaluation_steps = set(run.evaluation_steps)
    save_every = [n for n in (machine.checkpoint_steps, machine.keep_every) if n is not None]
    with contextlib.ExitStack() as stack:
        stack.callback(checkpoint.close)
        recorder = Recorder(run, inputs, stream.placement, folder, start, clock, report)
        stack.enter_context(recorder)
        reader = _reader(run, inputs, stream)
        feed = sharded(reader, compiled.batch, (B, L), start, run.steps, machine.prefetch_batches)
        stack.enter_context(contextlib.closing(feed))

        lost = start in evaluation_steps and start not in recorder.evaluated
        if processes.agreed([lost])[0]:  # damaged logs may lack the evaluation at the checkpoint
            recorder.evaluate(start, state, compiled.graph)
        for done, batch in enumerate(feed, start + 1):
            state, metrics = compiled.step(state, batch)
            recorder.step(done, metrics)
            if done in evaluation_steps:
                recorder.evaluate(done, state, compiled.graph)
            if done == run.steps:
                break
            overdue = clock.minutes_since_save() >= machine.checkpoint_minutes
            stop, overdue = agreement.settle(stopping(), overdue)
            watchdog.progress()
            if stop or overdue or any(done % n == 0 for n in save_every):
                recorder.flush()
                checkpoint.save(state, done)
                clock.saved()
            if stop:
                raise Interrupted(f"{run.name} stopped after step {done} of {run.steps}.")
        recorder.flush()
        checkpoint.save(state, run.steps)
    _finish(run, folder)


def _describe(
    run: Run, inputs: Inputs, stream: Stream, folder: epath.Path, versions: dict[str, str]
) -> None:
    """Write config.json and the manifest of the run to its folder, or check that they are of the same run."""
    plan, data = inputs.plan(run), inputs.digests(run)
    parent = ancestry.parent_of(run, folder)
    if run.study.evaluation.judge == "control" and not run.is_control:
        control = folder.parent / run.control.name
        if not (control / "DONE").exists():
            raise InputError(
                f"evaluation.judge='control': {control} is not trained to its end; train it first."
            )
    if processes.first():
        provenance.describe(folder, run, plan, data, versions, parent)
        lines = [json_line(dict(line)) for line in manifest.exposures(stream, run.train.batch_size)]
        write_text(folder / "manifest.jsonl", "".join(lines))
    processes.wait(f"{run.name} is described")
    # By now config.json exists; every process checks that it is of this run.
    provenance.describe(folder, run, plan, data, versions, parent)


def _reader(run: Run, inputs: Inputs, stream: Stream) -> Reader:
    B = run.train.batch_size
    if run.study.machine.reader == "number":
        return by_number(stream, B)
    from poison_scaling.data.mixture import from_mixture  # TensorFlow takes seconds to import

    return from_mixture(stream, B, inputs.vocabulary)


def _finish(run: Run, folder: epath.Path) -> None:
    """Write DONE, once every planned line is in the logs."""
    if processes.first():
        whole = logs.whole_until(folder, run)
        if whole < run.steps:
            raise RuntimeError(
                f"{folder}: its logs are complete only up to step {whole} of {run.steps}: something else has "
                "changed them; the same command resumes from there."
            )
        write_json(folder / "DONE", provenance.done(run))
    processes.wait(f"{run.name} is done")
