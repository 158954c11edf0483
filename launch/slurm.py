"""Runs as SLURM job arrays, one per kind of machine, for GPU clusters.

The script is printed, not submitted, because clusters differ too much.
"""

from __future__ import annotations

import shlex

from slices import Place

from poison_scaling.runtime.errors import InputError
from poison_scaling.study.run import Run

_GPUS_A_NODE = 8


def script(
    left: list[Run], place_of: dict[str, Place], command: list[str], name: str, at_once: int
) -> str:
    """Return a bash script that submits an array for each place, `at_once` of its tasks at a time.

    Each GPU has its own process, and the processes of a task train one run together, which poison-scaling
    detects by SLURM's variables. A task that is preempted or runs out of time is requeued and resumes. Raises
    InputError if a place is not of GPUs.
    """
    lines = ["#!/usr/bin/env bash", "set -euo pipefail"]
    for place in dict.fromkeys(place_of[run.rung.size] for run in left):
        names = [run.name for run in left if place_of[run.rung.size] == place]
        lines.append(_array(names, place, command, name, at_once))
    return "\n".join(lines)


def _array(names: list[str], place: Place, command: list[str], name: str, at_once: int) -> str:
    if place.is_tpu:
        raise InputError(
            f"machine.slices: {place} is a TPU; give --slice SIZE=h100:8 for each size with --backend slurm."
        )
    nodes, rest = divmod(place.chips, _GPUS_A_NODE)
    if nodes and rest:
        raise InputError(
            f"--slice {place}: above {_GPUS_A_NODE}, GPUs come in multiples of {_GPUS_A_NODE}."
        )
    gpus = _GPUS_A_NODE if nodes else rest
    return f"""
sbatch <<'END'
#!/usr/bin/env bash
#SBATCH --job-name={shlex.quote(name)}
#SBATCH --array=0-{len(names) - 1}%{at_once}
#SBATCH --nodes={max(nodes, 1)}
#SBATCH --ntasks-per-node={gpus}
#SBATCH --gpus-per-node={gpus}
#SBATCH --gpus-per-task=1
#SBATCH --exclusive
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%A-%a.log
#SBATCH --signal=B:TERM@300
set -euo pipefail
runs=({shlex.join(names)})
# SIGTERM comes 300 s before the time limit or a preemption: save, and requeue the task.
requeue() {{
  kill -TERM "$work" 2>/dev/null || true
  wait "$work" || true
  scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"
  exit 0
}}
trap requeue TERM
srun --kill-on-bad-exit=1 {shlex.join(command)} --run "${{runs[SLURM_ARRAY_TASK_ID]}}" &
work=$!
code=0
wait "$work" || code=$?
if ((code == 75)); then
  scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"
fi
exit "$code"
END"""
