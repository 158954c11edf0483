"""Runs as SLURM job arrays, one array for each kind of machine."""

from __future__ import annotations

import os
import shlex

from jobs import GRACE_SECONDS, INTERRUPTED, ROOT, Job, commit
from slices import Place

from poison_scaling.runtime.errors import InputError

_REQUEUES = 100  # of a task, before it counts as failed
_CPUS_A_GPU = 8


def files(jobs: list[Job], at_once: int) -> dict[str, str]:
    """Return submit.sh, which submits an array for each place, `at_once` of its tasks at a time.

    Each GPU has its own process, and the processes of a task train one run together, which poison-scaling
    detects by SLURM's variables. A task that is preempted or runs out of time is requeued and resumes. Raises
    InputError if a place is a TPU.
    """
    revision, sweep = commit(), jobs[0].sweep
    lines = [
        "#!/usr/bin/env bash",
        "# sbatch reads SBATCH_PARTITION, SBATCH_ACCOUNT and SBATCH_TIMELIMIT from the environment.",
        "set -euo pipefail",
        f"if [[ -n $(squeue --me --noheader --name={shlex.quote(sweep)}) ]]; then",
        f"  echo {shlex.quote(f'error: {sweep} is in the queue; wait for it, or scancel it.')} >&2",
        "  exit 2",
        "fi",
        "# Tasks run the code of one commit, whatever happens to the repository meanwhile.",
        f"code=${{CODE:-$HOME/.local/share/poison_scaling/code}}/{revision}",
        "if [[ ! -e $code ]]; then",
        '  mkdir -p "$code.$$"',
        f'  git -C {shlex.quote(str(ROOT))} archive {revision} | tar -x -C "$code.$$"',
        '  mv -T "$code.$$" "$code" || rm -r "$code.$$"  # or another has just made it',
        "fi",
        "export code",
    ]
    for place in dict.fromkeys(job.place for job in jobs):
        lines.append(_array([job for job in jobs if job.place == place], place, at_once))
    return {"submit.sh": "\n".join(lines) + "\n"}


def _array(jobs: list[Job], place: Place, at_once: int) -> str:
    if place.is_tpu:
        raise InputError(
            f"machine.slices: {place} is a TPU; give --slice SIZE=h100:8, or cpu:1, for each size with "
            "--engine slurm."
        )
    job = jobs[0]
    nodes, tasks = place.nodes
    cores = job.run.study.machine.cores if place.is_cpu else _CPUS_A_GPU
    options = [
        f"--job-name={shlex.quote(job.sweep)}",
        f"--array=0-{len(jobs) - 1}%{at_once}",
        f"--nodes={nodes}",
        f"--ntasks-per-node={tasks}",
        f"--cpus-per-task={cores}",
        # Not --gpus-per-task, which hides a task's GPU from JAX: it chooses by the number of the task.
        *([] if place.is_cpu else [f"--gpus-per-node={tasks}"]),
        "--requeue",
        "--open-mode=append",
        "--output=%x-%A-%a.log",
        # To the processes of the run, not to the shell: srun would kill them before they have saved.
        f"--signal=TERM@{GRACE_SECONDS}",
    ]
    runs = shlex.join(job.run.name for job in jobs)
    image = os.environ.get("DOCKER_IMAGE", "")
    container = [f"--container-image={image}", "--container-mounts=$code,$HOME"] if image else []
    srun = " ".join(
        [
            "srun",
            f"--cpus-per-task={cores}",
            "--kill-on-bad-exit=0 --wait=600",  # each process exits by itself, and its code is the reason
            *(f'"{flag}"' for flag in container),
        ]
    )
    again = " || ".join(f"code == {code}" for code in INTERRUPTED)
    return f"""
sbatch --export=ALL <<'END'
#!/usr/bin/env bash
{chr(10).join(f"#SBATCH {option}" for option in options)}
set -uo pipefail
runs=({runs})
folder=$code
export PYTHONPATH=$folder{" JAX_PLATFORMS=cpu" if place.is_cpu else ""}
cd "$folder"
{srun} {shlex.join(job.command)} --run "${{runs[SLURM_ARRAY_TASK_ID]}}"
code=$?
if (( ({again}) && ${{SLURM_RESTART_COUNT:-0}} < {_REQUEUES} )); then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
END"""
