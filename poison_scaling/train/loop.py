"""Training one run, from its stream of rows to DONE."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
from etils import epath
from flax import nnx

from poison_scaling import processes
from poison_scaling.config import Study
from poison_scaling.data.batches import batches
from poison_scaling.errors import InputError, Interrupted
from poison_scaling.evaluate.evaluation import evaluate
from poison_scaling.evaluate.judge import Judge
from poison_scaling.files import json_line, write_json, write_text
from poison_scaling.model import sharding
from poison_scaling.runs import Run
from poison_scaling.train import checkpoints, logs, metrics, optimizer, provenance, state, step
from poison_scaling.train.clock import Clock

if TYPE_CHECKING:  # the loop itself runs where TensorFlow is not installed
    from poison_scaling.data.prepared import Prepared


def train(
    run: Run,
    prepared: Prepared,
    folder: epath.Path,
    versions: dict[str, str],
    *,
    report: Callable[[int, dict], None] = lambda step, record: None,
    stopping: Callable[[], bool] = lambda: False,
) -> None:
    """Train `run` into `folder`, from its last checkpoint if it has one, until DONE is written.

    `report` is called with the steps done and the newest record of metrics or evaluation. When
    `stopping()` turns true, in any process that takes part, the state is saved and Interrupted raised.
    Raises InputError when the folder holds a run of other settings, and RuntimeError when the poisons
    counted on the devices are not those of the plan, or the loss is no longer finite.
    """
    from poison_scaling.data.prepared import manifest

    # ------------------------------------------------------------------------ what will be trained on
    study, B = run.study, run.study.train.batch_rows
    batch_tokens = B * study.data.row_tokens
    stream = prepared.stream(run)
    plan, data = prepared.plan(run), prepared.digests()
    if study.evaluation.judge == "control" and run.dose:
        control = folder.parent / run.control.name
        if not (control / "DONE").exists():
            raise InputError(
                f"evaluation.judge='control': {control} is not trained to its end; train it first."
            )
    if processes.first():
        provenance.describe(folder, run, plan, data, versions)
        lines = [json_line(poison) for poison in manifest(stream, B)]
        write_text(folder / "manifest.jsonl", "".join(lines))
    processes.wait(f"{run.name} is described")
    provenance.describe(
        folder, run, plan, data, versions
    )  # by now it is there, and must be of this run

    # ------------------------------------------------------------------------------ model and devices
    rate = optimizer.schedule(study.train, run.learning_rate, run.steps)
    compiled = compiled_for(run, prepared)
    machine = study.machine
    checkpoint = checkpoints.Checkpoints(
        folder / "checkpoints",
        provenance.about(run, versions),
        keep=machine.keep_checkpoints,
        keep_every=machine.keep_every,
    )
    usable = logs.resumable(folder, run) if processes.first() else run.steps
    restored = checkpoint.restore(compiled.abstract, at_most=usable)
    current, start = restored or (compiled.initial(run.seeds.weights), 0)

    # ------------------------------------------------------------------------------------------ train
    evaluation_steps = set(run.evaluation_steps)
    clock = Clock(run.flops / run.tokens, compiled.mesh)
    wishes = processes.Wishes()
    every = [n for n in (machine.checkpoint_steps, machine.keep_every) if n is not None]
    pending = None  # a step whose metrics are read after the next step is under way
    with contextlib.ExitStack() as stack:
        stack.callback(checkpoint.close)
        log_files = {
            name: stack.enter_context(
                contextlib.closing(logs.open_log(folder / f"{name}.jsonl", start))
            )
            for name in ("metrics", "evals", "timing")
        }
        feed = batches(stream, compiled.batch, B, start, run.steps, machine.prefetch_batches)
        stack.enter_context(contextlib.closing(feed))

        def log_pending() -> None:
            nonlocal pending
            if pending is None:
                return
            done, on_device = pending
            pending = None
            values = jax.device_get(on_device)
            record = metrics.logged(values, done, batch_tokens, rate(done - 1))
            if record["loss"] is None:
                raise RuntimeError(f"{run.name}: the loss is not finite at step {done}.")
            log_files["metrics"].write(record)
            report(done, record)

        def keep_logs() -> None:
            for log_file in log_files.values():
                log_file.keep()

        def save(done: int) -> None:
            log_pending()  # a run that resumes after this step will not write its line
            keep_logs()
            checkpoint.save(current, done)
            clock.saved()

        def evaluate_now(done: int) -> None:
            log_pending()
            seen = jax.device_get(current.seen)
            clock.lap("training")
            check_against_plan(run, stream.placement, done, seen)
            judge = _judge_at(run, prepared, folder, done, compiled.graph, current.params)
            record = evaluate(
                run, prepared, stream.placement, compiled.graph, current.params, done, judge
            )
            log_files["evals"].write(record)
            clock.lap("evaluation")
            log_files["timing"].write(clock.record(done, (done - start) * batch_tokens))
            keep_logs()  # reports are made while runs are still going
            report(done, record)

        lost = start in evaluation_steps and start not in log_files["evals"].steps
        if processes.agreed([lost])[0]:  # its line, and not the checkpoint after it
            evaluate_now(start)
        for done, batch in enumerate(feed, start + 1):
            current, on_device = compiled.step(current, batch)
            log_pending()
            due = done % study.train.log_every == 0 or done == run.steps
            pending = (done, on_device) if due else None

            if done in evaluation_steps:
                evaluate_now(done)

            if done == run.steps:
                break
            stop, overdue = wishes.settle(
                stopping(), clock.minutes_since_save() >= machine.checkpoint_minutes
            )
            if stop or overdue or any(done % n == 0 for n in every):
                save(done)
            if stop:
                raise Interrupted(f"{run.name} stopped after step {done} of {run.steps}.")

        save(run.steps)
    if processes.first():
        whole = logs.whole_until(folder, run)
        if whole < run.steps:
            raise RuntimeError(
                f"{folder}: its logs are whole only up to step {whole} of {run.steps}: something else has "
                "changed them; the same command goes on from there."
            )
        write_json(folder / "DONE", provenance.done(run))
    processes.wait(f"{run.name} is done")


# ---------------------------------------------------------------------------------------- compilation


class Compiled:
    """What runs that differ only in seed and dose share: compiled once in a process."""

    def __init__(self, size, learning_rate, steps, study: Study, end: int, mesh):
        vocabulary, train = study.data.vocabulary.pieces, study.train
        self.mesh = mesh
        transform = optimizer.optimizer(train, learning_rate, steps)
        self.graph = state.graph(size, vocabulary, study.model, mesh)
        shardings = state.shardings(size, vocabulary, study.model, transform, mesh)

        def initial(seed):
            return state.initial(size, vocabulary, study.model, transform, seed)

        self.initial = jax.jit(initial, out_shardings=shardings)
        self.abstract = checkpoints.abstract(jax.eval_shape(initial, 0), shardings)
        self.batch = sharding.batch_sharding(mesh, train.batch_rows)
        self.step = jax.jit(
            step.train_step(self.graph, transform, end, study.model.segment_mask, train),
            in_shardings=(shardings, self.batch),
            out_shardings=(shardings, sharding.replicated(mesh)),
            donate_argnums=0,
            compiler_options=sharding.compiler_options(mesh),
        )


_compiled = functools.lru_cache(maxsize=8)(Compiled)


def compiled_for(run: Run, prepared: Prepared) -> Compiled:
    """The compiled functions of a run, shared with the runs that they serve as well."""
    study, mesh = run.study, sharding.mesh(run.study.machine.mesh)
    # Without what compiled code does not depend on, so that equal ones share it.
    own = Study(name="", ladder=(), doses=(), data=study.data, model=study.model, train=study.train)
    return _compiled(run.rung.size, run.learning_rate, run.steps, own, prepared.end, mesh)


# --------------------------------------------------------------------------------------- once again


def trained(
    run: Run, prepared: Prepared, folder: epath.Path, step: int | None = None
) -> tuple[nnx.GraphDef, dict, int]:
    """The model of a checkpoint of the run, the last one unless `step` is given: structure, parameters, step.

    Raises InputError when there is no such checkpoint.
    """
    saved = checkpoints.steps(folder / "checkpoints")
    if not saved or (step is not None and step not in saved):
        have = f"has checkpoints of the steps {saved}" if saved else "has no checkpoint"
        raise InputError(f"{folder}: it {have}{f', not of {step}' if step is not None else ''}.")
    compiled = compiled_for(run, prepared)
    checkpoint = checkpoints.Checkpoints(folder / "checkpoints", read_only=True)
    with contextlib.closing(checkpoint):
        state_and_step = checkpoint.restore(compiled.abstract, step)
    if state_and_step is None:
        raise InputError(f"{folder}: none of its checkpoints can be read.")
    return compiled.graph, state_and_step[0].params, state_and_step[1]


def judging(run: Run, prepared: Prepared, folder: epath.Path) -> Judge:
    """The model at the end of `run`, in `folder`, as a judge. Raises InputError when it is not trained."""
    if not (folder / "DONE").exists():
        raise InputError(
            f"{folder}: it is to judge, and is not trained to its end; train it first."
        )
    graph, params, _ = trained(run, prepared, folder, run.steps)
    return Judge(run.name, graph, params)


def evaluate_again(
    run: Run, prepared: Prepared, folder: epath.Path, step: int | None, judge: Judge | None = None
) -> dict:
    """The record of an evaluation of a checkpoint, the last one unless `step` is given: what evals.jsonl
    has where training evaluated at that step. With a `judge`, what that judge says, too.

    Raises InputError when there is no such checkpoint.
    """
    graph, params, done = trained(run, prepared, folder, step)
    placement = prepared.stream(run).placement
    judge = judge or _judge_at(run, prepared, folder, done, graph, params)
    return evaluate(run, prepared, placement, graph, params, done, judge)


def _judge_at(
    run: Run, prepared: Prepared, folder: epath.Path, done: int, graph: nnx.GraphDef, params: dict
) -> Judge | None:
    """The judge of the evaluation at step `done`: at the end the control, if the study says so.

    A control is its own judge.
    """
    if run.study.evaluation.judge is None or done < run.steps:
        return None
    if run.dose == 0:
        return Judge(run.name, graph, params)
    return judging(run.control, prepared, folder.parent / run.control.name)


# ------------------------------------------------------------------------------------------- measures


def check_against_plan(run: Run, placement, done: int, seen: dict) -> None:
    """Raise RuntimeError unless the devices saw exactly the poisons planned for the first `done` steps."""
    B = run.study.train.batch_rows
    shown = placement.before(done * B)
    planned = {
        "poisons": shown.showings,
        "poison_tokens": shown.tokens,
        "poisoned_steps": shown.steps(B),
    }
    counted = {name: int(seen[name]) for name in planned}
    if counted != planned:
        raise RuntimeError(
            f"{run.name}: at step {done} the devices have counted {counted}, and the plan is {planned}."
        )
