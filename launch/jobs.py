"""What an engine needs to know of a run: its command, its machines, and a name that stays the same."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import subprocess
from pathlib import Path

from slices import Place

from poison_scaling.runtime.errors import InputError
from poison_scaling.study.run import Run

ROOT = Path(__file__).resolve().parents[1]
INTERRUPTED = (75, 134)  # exit codes of a run that resumes: stopped, or aborted by JAX
GRACE_SECONDS = 300  # to save a checkpoint between SIGTERM and SIGKILL


@dataclasses.dataclass(frozen=True)
class Job:
    """A run as a job of an engine."""

    run: Run
    place: Place
    command: tuple[str, ...]  # without the run
    sweep: str  # name

    @property
    def name(self) -> str:
        """A unique name that every engine allows: at most 39 of a-z, 0-9 and -, starting with a letter."""
        plain = re.sub("[^a-z0-9]+", "-", f"{self.sweep}-{self.run.name}".lower()).strip("-")
        digest = hashlib.sha256(f"{self.sweep}/{self.run.name}".encode()).hexdigest()[:6]
        return f"p-{plain[:30].strip('-')}-{digest}"

    @property
    def argv(self) -> list[str]:
        return [*self.command, "--run", self.run.name]


def commit() -> str:
    """Return the commit whose code runs. Raises InputError if the working tree differs from it."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(ROOT), *arguments]
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        if found.returncode:
            raise InputError(
                f"{ROOT}: it is not a git repository, so that no commit can be pinned."
            )
        return found.stdout.strip()

    if git("status", "--porcelain"):
        raise InputError(
            "there are changes that are not committed (git status lists them): jobs run the code of a "
            "commit; commit them."
        )
    return git("rev-parse", "HEAD")


def settings(*needed: str) -> dict[str, str]:
    """Return these environment variables. Raises InputError if some are missing, naming all of them."""
    missing = [name for name in needed if not os.environ.get(name)]
    if missing:
        raise InputError(
            f"settings are missing: {', '.join(missing)}; give them as environment variables."
        )
    return {name: os.environ[name] for name in needed}


def require_tpus(jobs: list[Job], engine: str) -> None:
    """Raise InputError if a job is not for a TPU."""
    for job in jobs:
        if not job.place.is_tpu:
            raise InputError(
                f"--slice {job.run.rung.size}={job.place}: {engine} is for TPUs; take another --engine."
            )
