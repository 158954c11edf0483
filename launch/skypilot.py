"""Runs as SkyPilot managed jobs: a task for each run, on spot machines of any cloud that SkyPilot knows."""

from __future__ import annotations

import json
import os
import shlex
from typing import Any

from jobs import INTERRUPTED, Job, settings

_PORT = 8476
_GPUS = {"a100": "A100-80GB", "h100": "H100", "h200": "H200"}


def files(jobs: list[Job], at_once: int) -> dict[str, str]:
    """Return a task for each run, and submit.sh, which launches those that SkyPilot does not have.

    Its controller starts a run again when its machines are taken away and when it ends with 75 or 134, and
    outlives the laptop. Settings are environment variables: DOCKER_IMAGE; CACHE, gs://BUCKET/FOLDER;
    PRICING=spot. Raises InputError if they are missing.
    """
    image = settings("DOCKER_IMAGE")["DOCKER_IMAGE"]
    # JSON is YAML.
    tasks = {f"{job.name}.yaml": json.dumps(_task(job, image), indent=1) + "\n" for job in jobs}
    lines = [
        "#!/usr/bin/env bash",
        "set -euo pipefail",
        'cd "$(dirname -- "$0")"',
        "known=$(sky jobs queue --skip-finished </dev/null)",
        f"for name in {shlex.join(job.name for job in jobs)}; do",
        '  if grep -qw -- "$name" <<<"$known"; then echo "$name: SkyPilot has it"; continue; fi',
        '  sky jobs launch --yes --detach-run --name "$name" "$name.yaml"',
        "done",
    ]
    return tasks | {"submit.sh": "\n".join(lines) + "\n"}


def _task(job: Job, image: str) -> dict[str, Any]:
    place = job.place
    spot = os.environ.get("PRICING") == "spot"
    resources: dict[str, Any] = {
        "image_id": f"docker:{image}",
        "use_spot": spot,
        "job_recovery": {"recover_on_exit_codes": list(INTERRUPTED)},
    }
    if place.is_cpu:
        resources["cpus"] = f"{place.nodes[1] * job.run.study.machine.cores}+"
    elif place.is_tpu:
        resources["accelerators"] = f"tpu-{place.accelerator_type}"
        resources["accelerator_args"] = {"runtime_version": place.runtime_version, "tpu_vm": True}
    else:
        resources["accelerators"] = f"{_GPUS[place.chip]}:{place.nodes[1]}"
    # SkyPilot says how many machines there are and which one this is.
    meet = f'export JAX_COORDINATOR_ADDRESS="$(head -n1 <<<"$SKYPILOT_NODE_IPS"):{_PORT}"\n'
    several = not place.is_tpu and place.nodes[0] > 1
    task: dict[str, Any] = {
        "name": job.name,
        "resources": resources,
        "num_nodes": 1 if place.is_tpu else place.nodes[0],
        "envs": {"POISON_SCALING_CACHE": "/cache"}
        | ({"JAX_PLATFORMS": "cpu"} if place.is_cpu else {}),
        "run": f"cd /poison_scaling\n{meet if several else ''}{shlex.join(job.argv)}\n",
    }
    if cache := os.environ.get("CACHE"):
        task["file_mounts"] = {"/cache": {"source": cache, "mode": "MOUNT"}}
    return task
