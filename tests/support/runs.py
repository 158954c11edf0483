"""Running studies in tests: where things are, the command line in a process, what two runs must agree in."""

import contextlib
import fcntl
import os
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]
SMOKE = str(ROOT / "configs" / "smoke.py")
LOGS = ("manifest.jsonl", "metrics.jsonl", "evals.jsonl")


def contents(workdir: pathlib.Path) -> dict[str, bytes]:
    """Return what all runs of a study wrote that must not differ between two runs of it."""
    runs = sorted((workdir / "runs").iterdir())
    return {f"{run.name}/{name}": (run / name).read_bytes() for run in runs for name in LOGS}


@contextlib.contextmanager
def once(folder: pathlib.Path):
    """Yield a folder to make `folder` in to the first process of the test run that gets here, None to
    others.
    """
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            yield None
            return
        unfinished = folder.with_suffix(".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)  # of a process that failed
        unfinished.mkdir()
        yield unfinished
        unfinished.rename(folder)


def run_cli(*arguments, check: int | None = 0, **environment) -> subprocess.CompletedProcess:
    """Run `poison-scaling ARGUMENTS` in a process with one CPU device, and check its exit code."""
    process = subprocess.run(
        [sys.executable, "-m", "poison_scaling.cli", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "XLA_FLAGS": "", **environment},
        capture_output=True,
        encoding="utf-8",
    )
    if check is not None:
        assert process.returncode == check, process.stdout + process.stderr
    return process
