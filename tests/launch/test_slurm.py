"""A study on a real SLURM: two processes a run, one run requeued by the cluster, one by its time limit."""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from tests.launch import slurm_cluster
from tests.launch.cloud import wait_until
from tests.support.runs import LOGS, SMOKE, run_cli

pytest_plugins = ["tests.launch.launching"]
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(bool(slurm_cluster.missing()), reason=slurm_cluster.missing()),
]

# The checkpoints of a run are few, so that a run that is stopped has something left to do.
SLOW = ("--set", "machine.checkpoint_steps=5")


def jobs(environment) -> list[tuple[str, str, str]]:
    """Task of the array, state and number of restarts of every job."""
    text = subprocess.run(
        ["scontrol", "--oneliner", "show", "job"], env=environment, capture_output=True, text=True
    ).stdout
    found = []
    for line in text.splitlines():
        fields = dict(item.split("=", 1) for item in line.split() if "=" in item)
        if "-" not in fields.get("ArrayTaskId", "-"):
            found.append((fields["ArrayTaskId"], fields["JobState"], fields["Restarts"]))
    return found


def processes_of(run: str) -> list[int]:
    """The numbers of the processes that train a run."""
    found = []
    for process in pathlib.Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes().split(b"\0")
            if b"poison_scaling.cli" in words and run.encode() in words:
                found.append(int(process.name))
    return found


def told_to_stop(number: int) -> bool:
    """Whether a process has a SIGTERM to come, or has ended of one."""
    try:
        status = pathlib.Path(f"/proc/{number}/status").read_text()
    except OSError:
        return True
    lines = (line.split() for line in status.splitlines())
    pending = [int(line[1], 16) for line in lines if line[0] in ("SigPnd:", "ShdPnd:")]
    return any(bits >> (signal.SIGTERM - 1) & 1 for bits in pending)


def test_the_smoke_study_as_an_array(repository, cache, tmp_path, tmp_path_factory):
    workdir, out = tmp_path / "study", tmp_path / "jobs"
    shared = {**os.environ, "POISON_SCALING_CACHE": str(cache), "XLA_FLAGS": ""}
    places = ("--slice", "40k=cpu:2", "--slice", "60k=cpu:2", "--at-once", "2")
    command = [sys.executable, repository / "launch" / "sweep.py", "configs/smoke.py"]
    sweep = [*command, "--engine=slurm", "--workdir", workdir, "--out", out, *places, *SLOW]
    python = {
        "PYTHONPATH": str(repository),
        **{k: v for k, v in shared.items() if k != "PYTHONPATH"},
    }
    subprocess.run(sweep, cwd=repository, env=python, check=True)
    programs = tmp_path / "bin"
    programs.mkdir()
    program = programs / "poison-scaling"
    program.write_text(f'#!/bin/bash\nexec {sys.executable} -m poison_scaling.cli "$@"\n')
    program.chmod(0o755)
    with slurm_cluster.cluster(tmp_path_factory.mktemp("slurm")) as environment:
        environment |= {
            "XLA_FLAGS": "",
            "POISON_SCALING_CACHE": str(cache),
            "CODE": str(tmp_path / "code"),
            "PATH": f"{programs}:{environment['PATH']}",
        }

        def slurm(*arguments: str) -> str:
            return subprocess.run(
                arguments, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
            ).stdout

        slurm("bash", str(out / "submit.sh"))
        runs = (out / "submit.sh").read_text().split("runs=(")[1].split(")")[0].split()
        (array,) = set(slurm("squeue", "--noheader", "--format=%F").split())
        again = subprocess.run(["bash", out / "submit.sh"], env=environment, capture_output=True)
        assert again.returncode == 2 and b"smoke is in the queue" in again.stderr

        def begun(task: int) -> bool:
            log = workdir / "runs" / runs[task] / "metrics.jsonl"
            return log.exists() and log.stat().st_size > 0

        def restarts() -> dict[str, int]:
            return {task: int(count) for task, _, count in jobs(environment)}

        wait_until(lambda: begun(0), 1800)
        slurm("scontrol", "requeue", f"{array}_0")  # as a preemption does
        wait_until(lambda: begun(1), 1800)
        # Held where they are until SLURM finds that less than 300 s are left, however fast the machine is.
        held = processes_of(runs[1])
        for number in held:
            os.kill(number, signal.SIGSTOP)
        elapsed = slurm("squeue", "--noheader", "--format=%M", f"--jobs={array}_1").strip()
        minutes = sum(60**place * int(x) for place, x in enumerate(elapsed.split(":")[-2::-1]))
        slurm("scontrol", "update", f"JobId={array}_1", f"TimeLimit={minutes + 4}")
        wait_until(lambda: all(map(told_to_stop, held)), 600)
        slurm("scontrol", "update", f"JobId={array}_1", "TimeLimit=UNLIMITED")
        for number in held:
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGCONT)
        wait_until(lambda: len(list(workdir.glob("runs/*/DONE"))) == len(runs), 7200)
        wait_until(lambda: all(state == "COMPLETED" for _, state, _ in jobs(environment)), 600)
        counts = restarts()
    assert len(counts) == len(runs) and {t for t, count in counts.items() if count} == {"0", "1"}
    log = (tmp_path / f"smoke-{array}-1.log").read_text()
    assert "The study was interrupted." in log and "Exited with exit code 75" in log
    reference = tmp_path / "reference"
    two = "--xla_force_host_platform_device_count=2"  # as the two processes have
    run_cli("study", SMOKE, "--workdir", reference, "--jobs", 1, XLA_FLAGS=two)
    for run in sorted((reference / "runs").iterdir()):
        assert (workdir / "runs" / run.name / "DONE").exists()
        for name in LOGS:
            ours = (workdir / "runs" / run.name / name).read_bytes()
            assert ours == (run / name).read_bytes(), f"{run.name}/{name}"
