"""A whole study on this machine: prepare the data, train every run, keep the books of its folder.

DIR/study.json, DIR/runs/RUN/..., DIR/report/... as README describes them.
"""

from __future__ import annotations

import errno
import importlib.metadata
import os
import platform
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

from etils import epath

from poison_scaling import files, folder, pool, processes, runs, serialization, study_file
from poison_scaling.config import Study
from poison_scaling.data import cache
from poison_scaling.data.cache import require_disk
from poison_scaling.data.quiet import quiet
from poison_scaling.errors import InputError, Interrupted
from poison_scaling.files import read_json, write_json
from poison_scaling.runs import Run
from poison_scaling.train import provenance

_PACKAGES = (
    "poison_scaling",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "seqio",
    "numpy",
)

# How one run tells of itself: (run, steps done, record).
Report = Callable[[str, int, dict], None]


def versions() -> dict[str, str]:
    """Of Python and of the packages that results depend on."""
    return {"python": platform.python_version()} | {
        name: importlib.metadata.version(name) for name in _PACKAGES
    }


def prepare(study: Study, workdir: epath.Path, progress) -> Any:
    """Prepare the data, check that every run fits, and write study.json. Returns the Prepared data.

    Raises InputError before anything of the study is written, also where one of its runs is there already
    with other settings or other data.
    """
    from poison_scaling.evaluate import evaluation

    all_runs = runs.of(study)
    for run in all_runs:
        run.plan()  # whether its dose fits does not need the data
        provenance.check(folder.of_run(workdir, run), run)
    _check_mesh(study)
    # Parameters and two moments in float32, in each checkpoint of each run.
    needed = sum(
        12 * run.parameters * _checkpoints(run)
        for run in all_runs
        if not folder.is_done(workdir, run)
    )
    require_disk(workdir, needed, "the checkpoints of the study")
    with processes.one_a_folder(cache.folder()):
        data = prepared(study, progress)
    data.prompts  # noqa: B018 - so that what does not fit is said now
    for run in all_runs:
        provenance.check_data(folder.of_run(workdir, run), data.digests())
    record = {
        "name": study.name,
        "hash": study.hash,
        "versions": versions(),
        "config": serialization.to_json(study),
        "data": data.digests(),
        "runs": [data.plan(run) for run in all_runs],
        "clean_triggers": data.clean_triggers(),
    }
    if detectors := evaluation.detector_errors(study, data):
        record["detectors"] = detectors
    _write(workdir / "study.json", record)
    if processes.first():
        for sentence in data.warnings(record["runs"]):
            print(f"warning: {sentence}", file=sys.stderr)
    return data


def _checkpoints(run: Run) -> int:
    """How many checkpoints of a run there are at most at a time."""
    machine = run.study.machine
    for_good = run.steps // machine.keep_every if machine.keep_every else 0
    return machine.keep_checkpoints + for_good


def _write(file: epath.Path, record: dict) -> None:
    """By the first process. Raises InputError in the others where they have another study or other data."""
    if processes.first():
        write_json(file, record)
    processes.wait(f"{file.name} is written")
    if not processes.first():
        written = read_json(file) if file.exists() else None
        same = ("hash", "data", "versions")
        if written is None or any(written[name] != record[name] for name in same):
            raise InputError(
                f"{file}: a process does not see there what the first one wrote; give all the same "
                "study, the same versions of packages, and a --workdir that they share."
            )


def prepared(study: Study, progress=lambda description, done: None):
    """Its Prepared data; fills the cache where that is missing."""
    with quiet():  # seconds, and TensorFlow's notes on the machine
        from poison_scaling.data.prepared import Prepared
    return Prepared(study, progress)


def _check_mesh(study: Study) -> None:
    """Raise InputError unless the mesh fits the devices, the batch, and every size."""
    from poison_scaling.model import sharding
    from poison_scaling.train import state

    mesh = sharding.mesh(study.machine.mesh)
    sharding.batch_sharding(mesh, study.train.batch_rows)
    for size in {rung.size for rung in study.ladder}:
        state.parameter_shardings(size, study.data.vocabulary.pieces, study.model, mesh)


def jobs(study: Study, runs_left: int) -> int:
    """How many runs to train at a time: as the study says, else one a share of a CPU's cores.

    Several processes train one run together, so they train one at a time.
    """
    import jax

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
    prepared,
    left: list[Run],
    report: Report,
    lost: threading.Event,
) -> None:
    """Train runs, several at a time, the longest first; where controls are to judge, all controls before the
    others.

    SIGINT and SIGTERM save what is under way, and so does losing the lock of the folder, which `lost` says;
    Interrupted is raised then. When a run fails, the others go on, and its error is raised at the end.
    """
    left = sorted(left, key=lambda run: -run.flops)
    phases = [left]
    if study.evaluation.judge == "control":
        phases = [[run for run in left if not run.dose], [run for run in left if run.dose]]
    with _stop_signals() as stop:
        for phase in phases:
            errors = _train_phase(
                study, phase, workdir, prepared, report, lambda: stop.is_set() or lost.is_set()
            )
            if lost.is_set():
                raise Interrupted(f"{workdir}: another process has taken the lock of this folder.")
            _raise_worst(errors, workdir, interrupted=stop.is_set())


def _train_phase(
    study: Study,
    left: list[Run],
    workdir: epath.Path,
    prepared,
    report: Report,
    stopping: Callable[[], bool],
) -> dict[str, Exception]:
    """What went wrong, by the name of the run."""
    at_a_time = jobs(study, len(left))
    if at_a_time > 1:
        given = (study, str(workdir))
        return pool.train(_work, given, left, at_a_time, report, stopping)
    if not processes.joined():
        limit_cpu(study.machine.cores)
    errors: dict[str, Exception] = {}
    for run in left:
        try:
            _train_one(run, prepared, workdir, report, stopping)
        except Exception as e:
            errors[run.name] = e
            if stopping() or processes.several():  # several have to end together
                break
    return errors


def _raise_worst(errors: dict[str, Exception], workdir: epath.Path, interrupted: bool) -> None:
    """Raise the error that says most: bad input, then a failure, then an interruption."""

    def rank(e: Exception) -> int:
        return 2 if isinstance(e, Interrupted) else 0 if isinstance(e, InputError) else 1

    if interrupted and all(rank(e) == 2 for e in errors.values()):
        raise Interrupted("The study was interrupted.")
    if errors:
        worst = min(errors.values(), key=rank)
        if files.disk_full(worst):  # it seldom says of which disk
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(workdir)) from worst
        raise worst


def limit_cpu(cores: int) -> None:
    """Have XLA compute on this many cores, where it computes on a CPU.

    It splits sums by the number of its threads, so the last bits of a result depend on that number: it is
    the same for every run, whether one trains alone or many at a time. (Small models gain next to nothing
    from a second core; a second run gains all of it.) XLA takes as many threads as the process may use
    cores when its client is made; systems that cannot restrict that keep all cores.
    """
    import jax
    import jax.extend

    # Several processes make their client together, and once: it is not here yet, and what it will be made
    # for must be said.
    joined = processes.joined()
    on_cpu = jax.config.jax_platforms == "cpu" if joined else jax.default_backend() == "cpu"
    if not on_cpu or not hasattr(os, "sched_setaffinity"):
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, set(sorted(allowed)[:cores]))
    try:
        if not joined:
            jax.extend.backend.clear_backends()
        jax.devices()
    finally:
        for thread in os.listdir("/proc/self/task"):  # XLA's threads, too, may run on any core
            os.sched_setaffinity(int(thread), allowed)


def _train_one(run: Run, prepared, workdir: epath.Path, report: Report, stopping) -> None:
    from poison_scaling.train import loop

    loop.train(
        run,
        prepared,
        folder.of_run(workdir, run),
        versions(),
        report=lambda step, record: report(run.name, step, record),
        stopping=stopping,
    )


def start(study: Study) -> None:
    """Join the other processes, if there are any. Before anything else of JAX's."""
    processes.start()
    if processes.joined():
        limit_cpu(study.machine.cores)


def located(
    place: epath.Path, run: str | None, step: int | None
) -> tuple[epath.Path, str, int | None]:
    """Folder of the study, name of the run and step of the checkpoint that are meant by a path.

    `place` is a study's folder, with `run`; or DIR/runs/RUN; or DIR/runs/RUN/checkpoints/STEP. Raises
    InputError when it is none of these.
    """
    if run is not None:
        return place, run, step
    if step is None and place.parent.name == "checkpoints" and place.name.isdigit():
        place, step = place.parent.parent, int(place.name)
    if place.parent.name != "runs":
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
) -> dict:
    """An evaluation of a checkpoint of a run, computed as training would; see `loop.evaluate_again`.

    `overrides` may set fields of `evaluation`. The `judge` is "control", or the folder of a run of a study
    with the same vocabulary. Raises InputError where that is not so.
    """
    from poison_scaling.train import loop

    for override in overrides:
        if not override.startswith("evaluation."):
            raise InputError(
                f"--set {override!r}: the run is trained; only fields of evaluation can change."
            )
    recorded, _ = folder.trained(workdir, name)
    study = study_file.override(recorded, overrides)
    run = runs.named(study, name)
    start(study)
    if not processes.joined():
        limit_cpu(study.machine.cores)
    data = prepared(study)
    provenance.check_data(folder.of_run(workdir, run), data.digests())
    chosen = None
    if judge == "control":
        chosen = loop.judging(run.control, data, folder.of_run(workdir, run.control))
    elif judge is not None:
        place, other, _ = located(epath.Path(judge), None, None)
        _, other_run = folder.trained(place, other)
        if _vocabulary(other_run.study) != _vocabulary(study):
            raise InputError(f"--judge {judge!r}: its study has another corpus or vocabulary.")
        provenance.check_data(folder.of_run(place, other_run), data.digests())
        chosen = loop.judging(other_run, data, folder.of_run(place, other_run))
    return loop.evaluate_again(run, data, folder.of_run(workdir, run), step, chosen)


def _vocabulary(study: Study) -> tuple:
    """What the ids of a text depend on."""
    corpora = [poisoning.attack.corpora for poisoning in study.poisonings(0)]
    return study.data, study.attack.trigger, corpora


class _stop_signals:
    """Within the block, the first SIGINT or SIGTERM sets the event; a second one acts as usual."""

    def __enter__(self) -> threading.Event:
        self._event, self._before = threading.Event(), {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._stop)
        return self._event

    def _stop(self, number, frame):
        self._event.set()
        signal.signal(number, self._before[number])

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)


def _work(study: Study, workdir: str) -> pool.Work:
    """What a worker process of `pool` does: its data is prepared once."""
    limit_cpu(study.machine.cores)
    data = prepared(study)

    def work(run: Run, report: Callable[..., None], stopping: Callable[[], bool]) -> None:
        def brief(name: str, step: int, record: dict) -> None:
            kept = ("loss", "success_rate", "heldout_loss")
            report(name, step, {k: v for k, v in record.items() if k in kept})

        _train_one(run, data, epath.Path(workdir), brief, stopping)

    return work
