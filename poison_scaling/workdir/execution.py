"""Train the runs of a study on this machine, several at a time."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from typing import Any

import jax
from etils import epath

from poison_scaling.runtime import cores, failures, processes, versions
from poison_scaling.runtime.errors import InputError, Interrupted
from poison_scaling.study.inputs import Inputs
from poison_scaling.study.run import Run
from poison_scaling.study.settings import Study
from poison_scaling.train import loop
from poison_scaling.workdir import folder, pool
from poison_scaling.workdir.order import Queue
from poison_scaling.workdir.signals import StopSignals

# Called with the name of a run, the number of steps done, and the latest record.
Report = Callable[[str, int, dict[str, Any]], None]


def start(study: Study) -> None:
    """Join the other processes, if there are any. Call this before any other function of JAX."""
    processes.start(study.machine.stall_minutes)
    if processes.joined():
        cores.limit(study.machine.cores)


def jobs(study: Study, runs_left: int) -> int:
    """Return how many runs to train at a time: the study's machine.jobs, or as many as the CPU's cores allow.

    It is 1 with several processes, which train one run together, and by default on accelerators.
    """
    if processes.several():
        return 1
    wanted = study.machine.jobs
    if wanted is None:
        on_cpu = jax.default_backend() == "cpu"
        wanted = max(1, (os.cpu_count() or 1) // study.machine.cores) if on_cpu else 1
    return max(1, min(wanted, runs_left))


def train(
    study: Study,
    workdir: epath.Path,
    inputs: Inputs,
    left: list[Run],
    report: Report,
    lost: threading.Event,
) -> None:
    """Train runs, several at a time, each after the runs that it needs (`order.needs`).

    On SIGINT or SIGTERM, or when `lost` says that the lock of the folder is lost, saves the runs in progress
    and raises Interrupted. If a run fails, the others continue, and its error is raised at the end.
    """
    with StopSignals() as stop:
        errors = _train_all(
            study, left, workdir, inputs, report, lambda: stop.is_set() or lost.is_set()
        )
        if lost.is_set():
            raise Interrupted(f"{workdir}: another process has taken the lock of this folder.")
        _raise_worst(errors, workdir, interrupted=stop.is_set())


def _train_all(
    study: Study,
    left: list[Run],
    workdir: epath.Path,
    inputs: Inputs,
    report: Report,
    stopping: Callable[[], bool],
) -> dict[str, Exception]:
    """Train the runs and return errors by the name of the run. What needs a failed run is not begun."""
    at_a_time, queue = jobs(study, len(left)), Queue(left)
    if at_a_time > 1:
        return pool.train(_work, (study, str(workdir)), queue, at_a_time, report, stopping)
    if not processes.joined():
        cores.limit(study.machine.cores)
    errors: dict[str, Exception] = {}
    while run := queue.next():
        try:
            _train_one(run, inputs, workdir, report, stopping)
            queue.done(run)
        except Exception as e:
            errors[run.name] = e
            if stopping() or processes.several():  # several processes have to stop together
                break
    return errors


def _work(study: Study, workdir: str) -> pool.Work:
    """Return the function that a worker of `pool` applies to each run; its inputs are prepared once."""
    cores.limit(study.machine.cores)
    inputs = Inputs(study)

    def work(run: Run, report: Report, stopping: Callable[[], bool]) -> None:
        def brief(name: str, step: int, record: dict[str, Any]) -> None:
            kept = ("loss", "success_rate", "heldout_loss")
            report(name, step, {k: v for k, v in record.items() if k in kept})

        _train_one(run, inputs, epath.Path(workdir), brief, stopping)

    return work


def _train_one(
    run: Run, inputs: Inputs, workdir: epath.Path, report: Report, stopping: Callable[[], bool]
) -> None:
    loop.train(
        run,
        inputs,
        folder.of_run(workdir, run),
        versions.installed(),
        report=lambda step, record: report(run.name, step, record),
        stopping=stopping,
    )


def _raise_worst(errors: dict[str, Exception], workdir: epath.Path, interrupted: bool) -> None:
    """Raise the most informative error, if any: bad input, then a failure, then an interruption."""

    def rank(e: Exception) -> int:
        return 2 if isinstance(e, Interrupted) else 0 if isinstance(e, InputError) else 1

    if interrupted and all(rank(e) == 2 for e in errors.values()):
        raise Interrupted("The study was interrupted.")
    if errors:
        worst = min(errors.values(), key=rank)
        if failures.disk_full(worst):  # the error seldom names the disk
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(workdir)) from worst
        raise worst
