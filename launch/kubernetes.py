"""Runs as JobSets, which Kueue queues: a manifest for each run, for TPU, GPU and CPU node pools.

A JobSet starts all machines of a run again when one of them ends with 75 or 134 or is preempted, and gives up
when one ends with another code. Its name is that of the run, so applying a manifest again changes nothing.
"""

from __future__ import annotations

import json
import os
from typing import Any

from jobs import GRACE_SECONDS, INTERRUPTED, Job, commit, settings

from poison_scaling.runtime.errors import InputError

_RESTARTS = 100
_PORT = 8476
# GKE's labels of node pools, and what a container asks for.
_ACCELERATORS = {
    "v4": ("cloud.google.com/gke-tpu-accelerator", "tpu-v4-podslice"),
    "v5e": ("cloud.google.com/gke-tpu-accelerator", "tpu-v5-lite-podslice"),
    "v5p": ("cloud.google.com/gke-tpu-accelerator", "tpu-v5p-slice"),
    "v6e": ("cloud.google.com/gke-tpu-accelerator", "tpu-v6e-slice"),
    "v7": ("cloud.google.com/gke-tpu-accelerator", "tpu7x"),
    "a100": ("cloud.google.com/gke-accelerator", "nvidia-a100-80gb"),
    "h100": ("cloud.google.com/gke-accelerator", "nvidia-h100-80gb"),
    "h200": ("cloud.google.com/gke-accelerator", "nvidia-h200-141gb"),
}


def files(jobs: list[Job], at_once: int) -> dict[str, str]:
    """Return a manifest for each run, and submit.sh. How many run at once is up to the queue.

    Settings are environment variables: DOCKER_IMAGE and QUEUE, the name of a LocalQueue; NAMESPACE,
    KUBE_SERVICE_ACCOUNT; PRICING=spot; CACHE, gs://BUCKET/FOLDER or pvc:NAME. Raises InputError if they are
    missing or invalid.
    """
    given = settings("DOCKER_IMAGE", "QUEUE")
    revision = commit()
    manifests = {
        f"{job.name}.json": json.dumps(_jobset(job, given, revision), indent=1) + "\n"
        for job in jobs
    }
    submit = '#!/usr/bin/env bash\nset -euo pipefail\ncd "$(dirname -- "$0")"\nkubectl apply'
    return manifests | {
        "submit.sh": submit + "".join(f" \\\n  -f {name}" for name in manifests) + "\n"
    }


def _jobset(job: Job, given: dict[str, str], revision: str) -> dict[str, Any]:
    slices = job.place.count if job.place.is_tpu else 1
    hosts = job.place.nodes[0] // slices
    metadata: dict[str, Any] = {
        "name": job.name,
        "labels": {"kueue.x-k8s.io/queue-name": given["QUEUE"], "app": "poison-scaling"},
        "annotations": {"poison-scaling/run": job.run.name, "poison-scaling/commit": revision},
    }
    if job.place.is_tpu:  # one slice, one node pool
        pool = "alpha.jobset.sigs.k8s.io/exclusive-topology"
        metadata["annotations"][pool] = "cloud.google.com/gke-nodepool"
    if namespace := os.environ.get("NAMESPACE"):
        metadata["namespace"] = namespace
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": metadata,
        "spec": {
            "network": {"enableDNSHostnames": True, "publishNotReadyAddresses": True},
            "failurePolicy": {
                "maxRestarts": _RESTARTS,
                # A Job fails by its podFailurePolicy if the run has failed, else by its backoffLimit of 0.
                "rules": [
                    {
                        "name": "failed",
                        "action": "FailJobSet",
                        "onJobFailureReasons": ["PodFailurePolicy"],
                    }
                ],
            },
            "replicatedJobs": [
                {
                    "name": "slice",
                    "replicas": slices,
                    "template": {"spec": _job_spec(job, given["DOCKER_IMAGE"], hosts)},
                }
            ],
        },
    }


def _job_spec(job: Job, image: str, hosts: int) -> dict[str, Any]:
    return {
        "completionMode": "Indexed",
        "parallelism": hosts,
        "completions": hosts,
        "backoffLimit": 0,
        "podFailurePolicy": {
            "rules": [
                {
                    "action": "Count",
                    "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
                },
                {
                    "action": "FailJob",
                    "onExitCodes": {
                        "containerName": "run",
                        "operator": "NotIn",
                        "values": [0, *INTERRUPTED],
                    },
                },
            ]
        },
        "template": _pod(job, image, hosts),
    }


def _pod(job: Job, image: str, hosts: int) -> dict[str, Any]:
    selector, amounts = {}, {}
    if job.place.is_cpu:
        cores = job.run.study.machine.cores * job.place.nodes[1]
        amounts = {"cpu": str(cores)}
    else:
        label, value = _ACCELERATORS[job.place.chip]
        selector[label] = value
        amounts["google.com/tpu" if job.place.is_tpu else "nvidia.com/gpu"] = job.place.nodes[1]
    if job.place.is_tpu:
        selector["cloud.google.com/gke-tpu-topology"] = job.place.shape
    if os.environ.get("PRICING") == "spot":
        selector["cloud.google.com/gke-spot"] = "true"
    volume, annotations = _cache()
    variables = {"POISON_SCALING_CACHE": "/cache"}
    if job.place.is_cpu:
        variables["JAX_PLATFORMS"] = "cpu"
    if not job.place.is_tpu:  # which one a pod is, Kubernetes says: JOB_COMPLETION_INDEX
        variables["JAX_NUM_PROCESSES"] = str(hosts)
        if hosts > 1:
            variables["JAX_COORDINATOR_ADDRESS"] = f"{job.name}-slice-0-0.{job.name}:{_PORT}"
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "nodeSelector": selector,
        "tolerations": [
            {"key": key, "operator": "Exists"}
            for key in ("google.com/tpu", "nvidia.com/gpu", "cloud.google.com/gke-spot")
        ],
        "containers": [
            {
                "name": "run",
                "image": image,
                "command": job.argv,
                "env": [{"name": name, "value": value} for name, value in variables.items()],
                # Keys of trackers and the like are never on a command line.
                "envFrom": [{"secretRef": {"name": "poison-scaling", "optional": True}}],
                "ports": [{"containerPort": _PORT}],
                "resources": {"requests": amounts, "limits": amounts},
                "volumeMounts": [{"name": "cache", "mountPath": "/cache"}],
            }
        ],
        "volumes": [volume],
    }
    if job.place.is_tpu:  # whose devices belong to root
        spec["securityContext"] = {"runAsUser": 0}
    if account := os.environ.get("KUBE_SERVICE_ACCOUNT"):
        spec["serviceAccountName"] = account
    return {"metadata": {"annotations": annotations}, "spec": spec}


def _cache() -> tuple[dict[str, Any], dict[str, str]]:
    """Return the volume of prepared data, and the annotations that pods need for it."""
    cache = os.environ.get("CACHE", "")
    if cache.startswith("gs://"):  # through gcsfuse, which keeps what was read on the node's disk
        bucket, _, folder = cache.removeprefix("gs://").strip("/").partition("/")
        options = ["implicit-dirs", "file-cache:max-size-mb:-1"]
        options += ["file-cache:cache-file-for-range-read:true"]
        options += [f"only-dir={folder}"] if folder else []
        attributes = {"bucketName": bucket, "mountOptions": ",".join(options)}
        driver = {"driver": "gcsfuse.csi.storage.gke.io", "readOnly": True}
        volume = {"name": "cache", "csi": {**driver, "volumeAttributes": attributes}}
        return volume, {"gke-gcsfuse/volumes": "true"}
    if cache.startswith("pvc:"):  # a disk that all pods read
        claim = {"claimName": cache.removeprefix("pvc:"), "readOnly": True}
        return {"name": "cache", "persistentVolumeClaim": claim}, {}
    if cache:
        raise InputError(f"CACHE={cache}: pods take it from gs://BUCKET/FOLDER or from pvc:NAME.")
    return {"name": "cache", "emptyDir": {}}, {}
