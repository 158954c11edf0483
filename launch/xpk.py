"""Runs as XPK workloads on a GKE cluster, where Kueue queues them and JobSet restarts them."""

from __future__ import annotations

import os
import shlex

from jobs import GRACE_SECONDS, INTERRUPTED, Job, require_tpus, settings

_RESTARTS = 100  # of a workload


def files(jobs: list[Job], at_once: int) -> dict[str, str]:
    """Return submit.sh, which submits all runs at once and skips those that the cluster has.

    xpk asks before it overwrites a workload that runs; it never gets an answer. Raises InputError if settings
    are missing or a place is not a TPU.
    """
    reserved = os.environ.get("PRICING") == "reserved"
    needed = ("PROJECT", "ZONE", "CLUSTER", "DOCKER_IMAGE", *(["RESERVATION"] if reserved else []))
    given = settings(*needed)
    require_tpus(jobs, "XPK")
    pricing = {
        "spot": ["--spot"],
        "on-demand": ["--on-demand"],
        "reserved": ["--reservation", given.get("RESERVATION", "")],
    }.get(os.environ.get("PRICING", ""), [])
    where = ["--cluster", given["CLUSTER"], "--project", given["PROJECT"], "--zone", given["ZONE"]]
    lines = [
        "#!/usr/bin/env bash",
        "set -euo pipefail",
        f"known=$(xpk workload list {shlex.join(where)} </dev/null)",
        "failed=0",
        "submit() { # NAME COMMAND...",
        '  if grep -qw -- "$1" <<<"$known"; then echo "$1: the cluster has it"; return; fi',
        '  "${@:2}" </dev/null || { echo "$1: not submitted" >&2; failed=1; }',
        "}",
    ]
    for job in jobs:
        command = [
            *("xpk", "workload", "create", "--workload", job.name, *where),
            *("--tpu-type", job.place.accelerator_type, "--num-slices", str(job.place.count)),
            *("--docker-image", given["DOCKER_IMAGE"], "--max-restarts", str(_RESTARTS)),
            *("--restart-on-exit-codes", ",".join(map(str, INTERRUPTED))),
            *("--termination-grace-period-seconds", str(GRACE_SECONDS)),
            *pricing,
            *("--command", shlex.join(job.argv)),
        ]
        lines.append(shlex.join(["submit", job.name, *command]))
    return {"submit.sh": "\n".join([*lines, 'exit "$failed"']) + "\n"}
