"""Runs on a slice of your own, one after the other: babysit.sh watches it and receives the runs from here.

babysit.sh deletes the slice when there is nothing left to do, when this process ends, and when it gives up.
So there is nothing to clean up here, however this process ends.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from pathlib import Path

from jobs import Job, require_tpus, settings
from slices import Place

from poison_scaling.runtime.errors import InputError, Interrupted

_BABYSIT = Path(__file__).with_name("babysit.sh")


def check(jobs: list[Job]) -> None:
    """Raise InputError if settings are missing or a place is not a TPU."""
    settings("PROJECT", "ZONE", "BUCKET", "SERVICE_ACCOUNT")
    require_tpus(jobs, "a slice of your own")
    for job in jobs:
        if not job.place.runtime_version:
            raise InputError(
                f"--slice {job.run.rung.size}={job.place}: {job.place.chip} comes with "
                "Kubernetes alone; take --engine kubernetes."
            )


def _by_place(jobs: list[Job]) -> dict[Place, list[Job]]:
    return {
        place: [j for j in jobs if j.place == place]
        for place in dict.fromkeys(j.place for j in jobs)
    }


def _babysit(place: Place, jobs: list[Job]) -> list[str]:
    """Return the command for a slice, whose name is the same if a killed sweep is started again."""
    runtime = os.environ.get("RUNTIME_VERSION") or place.runtime_version
    return [
        str(_BABYSIT),
        *("--name", f"{jobs[0].sweep}-{place.accelerator_type}"),
        *("--type", place.accelerator_type, "--slices", str(place.count)),
        *("--runtime-version", runtime, "--each", "--", *jobs[0].command, "--run"),
    ]


def describe(jobs: list[Job]) -> str:
    """Return the commands that would run, each with its runs as input."""
    return "\n".join(
        f"printf '%s\\n' {shlex.join(j.run.name for j in own)} | {shlex.join(_babysit(place, own))}"
        for place, own in _by_place(jobs).items()
    )


def run(jobs: list[Job]) -> int:
    """Train all runs, a slice at a time. Return 0 if all are done, 2 after bad input, and 1 otherwise.

    Raises Interrupted on SIGINT and SIGTERM, after the slice is deleted.
    """
    codes: dict[str, int] = {}
    for place, own in _by_place(jobs).items():
        clean = _serve(place, own, codes)
        if 2 in codes.values() or not clean:  # bad input is the same for all runs
            break
    done = sum(code == 0 for code in codes.values())
    print(f"{done} of {len(jobs)} runs are done now.")
    if failed := [name for name, code in codes.items() if code]:
        print(f"failed: {', '.join(failed)}; see the logs of their jobs with launch/pod.sh logs.")
    if done < len(jobs):
        print("The same command resumes with what is left.")
    return 0 if done == len(jobs) else 2 if 2 in codes.values() else 1


def _serve(place: Place, jobs: list[Job], codes: dict[str, int]) -> bool:
    """Train the runs of a place; note their exit codes. Return whether babysit.sh did not give up."""
    left = [job.run.name for job in jobs]
    process = subprocess.Popen(
        _babysit(place, jobs),
        env={
            "LOCK_SECONDS": "900",
            **os.environ,
        },  # that of a killed sweep may still be cleaning up
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C reaches it through `stop`
    )
    assert process.stdin and process.stdout
    stopped: list[int] = []

    def stop(number, frame) -> None:
        stopped.append(number)
        print("stopping; please wait while the slice is deleted.", flush=True)
        process.terminate()

    before = {n: signal.signal(n, stop) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        for line in process.stdout:
            word, _, rest = line.rstrip("\n").partition(" ")
            if word == "done":
                code, _, name = rest.partition(" ")
                codes[name] = int(code)
                print(f"{name}: {'done' if code == '0' else f'failed with {code}'}", flush=True)
            try:
                if word == "next" and left and 2 not in codes.values():
                    print(f"{left[0]}: begun on {place}", flush=True)
                    process.stdin.write(f"{left.pop(0)}\n")
                    process.stdin.flush()
                elif word == "next":
                    process.stdin.close()
            except BrokenPipeError:
                pass  # it has ended; its exit code says why
        code = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if stopped:
        raise Interrupted("The sweep was stopped, and its slice is deleted.")
    return code in (0, 1)
