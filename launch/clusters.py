"""Runs as XPK workloads on a GKE cluster, where Kueue queues them and JobSet restarts them.

Each run is a separate workload. All are submitted at once, and the cluster decides when each gets its slice.
A workload that is preempted exits with 75, and JobSet restarts it (--restart-on-exit-codes).
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import shlex
import subprocess

import slices
from slices import Place

from poison_scaling.study.run import Run

_NEEDED = ("PROJECT", "ZONE", "CLUSTER", "DOCKER_IMAGE")
_RESTARTS = "100"  # of a workload


@dataclasses.dataclass
class Work:
    """The runs of a sweep as workloads."""

    left: list[Run]
    place_of: dict[str, Place]
    command: list[str]
    name: str

    def commands(self) -> list[list[str]]:
        """Return one `xpk workload create` command per run."""
        return [self._create(run, self.place_of[run.rung.size]) for run in self.left]

    def _create(self, run: Run, place: Place) -> list[str]:
        setting = os.environ
        pricing = {"spot": ["--spot"], "on-demand": ["--on-demand"]}
        priced = pricing.get(setting.get("PRICING", ""), [])
        if setting.get("PRICING") == "reserved":
            priced = ["--reservation", setting.get("RESERVATION", "")]
        return [
            *("xpk", "workload", "create", "--workload", workload(self.name, run.name)),
            *("--cluster", setting["CLUSTER"]),
            *("--project", setting["PROJECT"], "--zone", setting["ZONE"]),
            *("--tpu-type", place.accelerator_type, "--num-slices", str(place.count)),
            *("--docker-image", setting["DOCKER_IMAGE"]),
            *("--max-restarts", _RESTARTS, "--restart-on-exit-codes", "75"),
            *("--termination-grace-period-seconds", "300"),
            *priced,
            *("--command", shlex.join([*self.command, "--run", run.name])),
        ]

    def describe(self) -> str:
        return "\n".join(map(shlex.join, self.commands()))

    def run(self) -> int:
        """Submit all runs. Return 0, or 1 if XPK refuses one; those before it remain submitted."""
        for number, command in enumerate(self.commands()):
            print(f"submitting {self.left[number].name}", flush=True)
            code = subprocess.run(command).returncode
            if code:
                print(
                    f"xpk ended with {code}; {number} of {len(self.left)} runs are submitted. "
                    "Those are known to the cluster, and xpk refuses them when they are submitted again."
                )
                return 1
        print(
            f"{len(self.left)} runs are submitted; see them with: "
            + shlex.join(["xpk", "workload", "list", "--cluster", os.environ["CLUSTER"]])
        )
        return 0


def workload(study: str, run: str) -> str:
    """Return a unique name that Kubernetes allows: at most 39 of a-z, 0-9 and -, starting with a letter."""
    plain = re.sub("[^a-z0-9]+", "-", f"{study}-{run}".lower()).strip("-")
    digest = hashlib.sha256(f"{study}/{run}".encode()).hexdigest()[:6]
    return f"p-{plain[:30].strip('-')}-{digest}"


def prepare(
    left: list[Run], place_of: dict[str, Place], command: list[str], name: str, at_once: int
) -> Work:
    """Return the workloads. Raises InputError if settings are missing or a place is not a TPU."""
    needed = [*_NEEDED, *(["RESERVATION"] if os.environ.get("PRICING") == "reserved" else [])]
    slices.require(tuple(needed), place_of, "--backend xpk is for TPUs")
    return Work(left, place_of, command, name)
