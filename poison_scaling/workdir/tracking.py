"""Copies of metrics.jsonl and evals.jsonl for a tracker: TensorBoard, Weights & Biases, Trackio.

The files stay the truth. A thread reads what was added to them, so runs in other processes are tracked as
well, and a tracker that is slow or fails disturbs no run. What was sent is noted in DIR/tracking, so a run
that resumes sends each line once.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import sys
import threading
from collections.abc import Callable
from typing import Any

from etils import epath

from analysis.files import intact_lines, write_text
from poison_scaling.runtime.errors import InputError, first_line
from poison_scaling.study.run import Run
from poison_scaling.workdir import folder

# Sends the scalars of a run at a step.
Send = Callable[[Run, int, dict[str, float]], None]

_SECONDS = 5.0
_PACKAGES = {"tensorboard": "tensorboardX", "wandb": "wandb", "trackio": "trackio"}
_LOGS = ("metrics", "evals")


class Mirror:
    """A context manager that copies the logs of runs to a tracker until the end of the block.

    Raises InputError if the package of the tracker is not installed. Whatever else goes wrong ends the
    copying, with a warning.
    """

    def __init__(self, tracker: str, workdir: epath.Path, runs: list[Run]):
        package = _PACKAGES[tracker]
        if importlib.util.find_spec(package) is None:
            raise InputError(f"--track {tracker}: it needs {package}; pip install {package}.")
        self._tracker, self._workdir, self._runs = tracker, workdir, runs
        self._noted = workdir / "tracking" / f"{tracker}.json"
        self._sent: dict[str, int] = {}  # lines, by run and log
        self._send: Send | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="tracking", daemon=True)

    def __enter__(self) -> Mirror:
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._ended.set()
        self._thread.join(60)  # a tracker that does not answer must not hold up the end

    def _follow(self) -> None:
        try:
            with contextlib.suppress(OSError, ValueError):
                self._sent = json.loads(self._noted.read_text())
            with _SENDERS[self._tracker](self._workdir) as self._send:
                while not self._ended.wait(_SECONDS):
                    self._copy()
                self._copy()
        except BaseException as e:  # trackers raise all kinds, SystemExit too
            reason = first_line(e if isinstance(e, Exception) else Exception(repr(e)))
            print(
                f"warning: --track {self._tracker} has failed ({reason}); runs go on without it, and their "
                "files are complete.",
                file=sys.stderr,
            )

    def _copy(self) -> None:
        """Send the lines that were added to the logs."""
        before = dict(self._sent)
        for run in self._runs:
            for log in _LOGS:
                lines = intact_lines(folder.of_run(self._workdir, run) / f"{log}.jsonl")[0]
                name = f"{run.name}/{log}"
                for line in lines[self._sent.get(name, 0) :]:
                    assert self._send
                    self._send(run, line["step"], _scalars(log, line))
                # A run that resumes writes lines again that it has lost, and they are the same.
                self._sent[name] = max(len(lines), self._sent.get(name, 0))
        if self._sent != before:
            self._noted.parent.mkdir(parents=True, exist_ok=True)
            write_text(self._noted, json.dumps(self._sent) + "\n")


def _scalars(log: str, line: dict[str, Any]) -> dict[str, float]:
    return {
        f"{log}/{name}": value
        for name, value in line.items()
        if name != "step" and isinstance(value, int | float) and not isinstance(value, bool)
    }


# ------------------------------------------------------------------------------------------- trackers


@contextlib.contextmanager
def _tensorboard(workdir: epath.Path):
    """Write event files to DIR/tracking/tensorboard/RUN."""
    writers: dict[str, Any] = {}

    def send(run: Run, step: int, scalars: dict[str, float]) -> None:
        if run.name not in writers:
            place = str(workdir / "tracking" / "tensorboard" / run.name)
            writers[run.name] = importlib.import_module("tensorboardX").SummaryWriter(place)
        for name, value in scalars.items():
            writers[run.name].add_scalar(name, value, step)
        writers[run.name].flush()

    yield send
    for writer in writers.values():
        writer.close()


@contextlib.contextmanager
def _like_wandb(package: str, workdir: epath.Path):
    """Send to a run of the same name in the study's project; a run that resumes continues there."""
    module = importlib.import_module(package)
    current: list[str] = []  # one run can be open at a time

    def send(run: Run, step: int, scalars: dict[str, float]) -> None:
        if current != [run.name]:
            if current:
                module.finish()
            named = {"id": run.hash, "dir": str(workdir / "tracking")} if package == "wandb" else {}
            module.init(project=run.study.name, name=run.name, resume="allow", **named)
            current[:] = [run.name]
        # Not the tracker's own step, which may not go back: evaluations follow metrics.
        module.log({**scalars, "training_step": step})

    yield send
    if current:
        module.finish()


_SENDERS: dict[str, Callable[[epath.Path], contextlib.AbstractContextManager[Send]]] = {
    "tensorboard": _tensorboard,
    "wandb": lambda workdir: _like_wandb("wandb", workdir),
    "trackio": lambda workdir: _like_wandb("trackio", workdir),
}
