"""What started this process: how many processes train one run together, and which one this is.

Wherever a launcher says that it has started several processes, they are joined, or refused with a sentence
that says what is missing. No launcher may start several processes that each take themselves for the only one.
"""

from __future__ import annotations

import glob
import importlib.util
import os
from typing import Any

from poison_scaling.runtime.errors import InputError

_EXPLICIT = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
_SLURM = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID")
# What started the processes, and its variables for their number and for the number of this one. Kubernetes
# does not say how many pods an indexed Job has. What may have been started by another comes before it: within
# the processes of srun, for example, mpirun or torchrun starts more.
_LAUNCHERS = (
    ("mpirun", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
    ("mpiexec", "PMI_SIZE", "PMI_RANK"),
    ("torchrun", "WORLD_SIZE", "RANK"),
    ("srun", "SLURM_NTASKS", "SLURM_PROCID"),
    ("SkyPilot", "SKYPILOT_NUM_NODES", "SKYPILOT_NODE_RANK"),
    ("Kubernetes", "", "JOB_COMPLETION_INDEX"),
)


def arguments() -> dict[str, Any] | None:
    """Return the arguments of jax.distributed.initialize that JAX cannot detect; None for a single process.

    Raises InputError if a launcher started several processes and does not say enough to join them.
    """
    given = {name: os.environ.get(name, "") for name in _EXPLICIT}
    if any(given.values()):
        return _explicit(given)
    launcher, count, number = _launched()
    if count.isdigit() and int(count) > 1:
        if launcher == "srun":
            return {"cluster_detection_method": "slurm"}
        if launcher == "mpirun" and "OMPI_MCA_orte_hnp_uri" in os.environ:
            return {"cluster_detection_method": "ompi"}
        raise InputError(
            f"{launcher} has started {count} processes, of which this is number {number}: say where they "
            "meet, with JAX_COORDINATOR_ADDRESS=HOST:PORT of number 0, or start one; "
            "JAX_NUM_PROCESSES=1 means that each is to work alone."
        )
    if _on_tpu():
        return {}
    if launcher == "Kubernetes":
        raise InputError(
            f"JOB_COMPLETION_INDEX={number}: Kubernetes may have started this process as one of several; "
            "give JAX_COORDINATOR_ADDRESS=HOST:PORT of the first and JAX_NUM_PROCESSES, or "
            "JAX_NUM_PROCESSES=1 if each is to work alone."
        )
    return None


def _explicit(given: dict[str, str]) -> dict[str, Any] | None:
    """Return what JAX's variables say, completed by what the launcher knows."""
    if given == {**dict.fromkeys(_EXPLICIT, ""), "JAX_NUM_PROCESSES": "1"}:
        return None
    said = ", ".join(f"{name}={value!r}" for name, value in given.items())
    address, count, number = given.values()
    _, launched, rank = _launched()
    count, number = count or launched, number or rank
    host, _, port = address.rpartition(":")
    if not (host and port.isdigit() and count.isdigit() and number.isdigit()):
        raise InputError(
            f"{said}: give all three, the host:port of process 0, how many processes there are, and "
            "which this one is, from 0."
        )
    if int(number) >= int(count):
        raise InputError(f"JAX_PROCESS_ID={number}: it must be below JAX_NUM_PROCESSES={count}.")
    return {
        "coordinator_address": address,
        "num_processes": int(count),
        "process_id": int(number),
        "cluster_detection_method": "deactivate",
    }


def _launched() -> tuple[str, str, str]:
    """Return the name of the launcher, the number of processes, and which this one is; empty if unknown.

    It is the first that started several processes, or the first of all if none did.
    """
    in_srun = all(name in os.environ for name in _SLURM)  # sbatch alone sets some of them
    step = os.environ.get("SLURM_NTASKS", ""), os.environ.get("SLURM_PROCID", "")
    found = []
    for launcher, count, number in _LAUNCHERS:
        values = os.environ.get(count, ""), os.environ.get(number, "")
        is_known = values[1].isdigit() and (values[0].isdigit() or not count)
        if launcher == "srun":
            is_known = in_srun
        if launcher == "mpiexec" and in_srun and values == step:
            is_known = False  # srun sets the variables of mpiexec, too, where MpiDefault is pmi2
        if is_known:
            found.append((launcher, *values))
    several = [one for one in found if not one[1] or int(one[1]) > 1]
    return [*several, *found, ("", "", "")][0]


def _on_tpu() -> bool:
    wanted = os.environ.get("JAX_PLATFORMS", "")
    chips = glob.glob("/dev/accel*") or glob.glob("/dev/vfio/[0-9]*")
    return bool((not wanted or "tpu" in wanted) and chips and importlib.util.find_spec("libtpu"))
