"""Jobs of engines: scripts and manifests that their own schemas and programs accept."""

import gzip
import json
import re
import shlex
import shutil
import subprocess

import pytest

from tests.launch.cloud import finish
from tests.launch.test_sweep import sweep
from tests.support.runs import ROOT

pytest_plugins = ["tests.launch.launching"]

NAME = re.compile("[a-z]([-a-z0-9]{0,37}[a-z0-9])")


@pytest.fixture
def rendered(cloud, tmp_path):
    """What sweep.py writes for an engine: a folder of files."""
    c = cloud()

    def render(engine: str, *arguments, check: int = 0, **settings):
        out = tmp_path / "jobs"
        shutil.rmtree(out, ignore_errors=True)
        at = ("configs/smoke.py", "--workdir", tmp_path / "it's here")
        process = sweep(c, *at, "--engine", engine, "--out", out, *arguments, **settings)
        finish(process, check=check)
        return out if check == 0 else process.stderr_text

    return render


def places(forty: str, sixty: str) -> tuple[str, ...]:
    return ("--slice", f"40k={forty}", "--slice", f"60k={sixty}")


SETTINGS = {"DOCKER_IMAGE": "image:1", "QUEUE": "lq", "CLUSTER": "my cluster"}

# ----------------------------------------------------------------------------------------- Kubernetes


def problems(value, schema: dict, where: str = "") -> list[str]:
    """What is wrong with a value by the structural schema of a custom resource; unknown fields are."""
    if schema.get("x-kubernetes-int-or-string"):
        return [] if isinstance(value, (int, str)) else [f"{where}: int or string"]
    kinds = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int}
    kind = kinds.get(schema.get("type", ""))
    if kind and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
        return [f"{where}: {value!r} is not {schema['type']}"]
    found = [f"{where}: {value!r}"] if value not in schema.get("enum", [value]) else []
    if isinstance(value, dict):
        known, others = schema.get("properties", {}), schema.get("additionalProperties")
        found += [
            f"{where}: {name} is missing"
            for name in schema.get("required", [])
            if name not in value
        ]
        for name, item in value.items():
            if name in known or isinstance(others, dict):
                found += problems(item, known.get(name) or others, f"{where}.{name}")
            elif known and not schema.get("x-kubernetes-preserve-unknown-fields"):
                found.append(f"{where}.{name}: unknown")
    if isinstance(value, list):
        for number, item in enumerate(value):
            found += problems(item, schema["items"], f"{where}[{number}]")
    return found


def manifests(out) -> list[dict]:
    # The CRD of JobSet v1alpha2, as kubernetes-sigs/jobset has it at 08dfbdfd, without descriptions.
    schema = json.loads(gzip.decompress((ROOT / "tests/launch/jobset.schema.json.gz").read_bytes()))
    found = [json.loads(file.read_text()) for file in sorted(out.glob("*.json"))]
    for manifest in found:
        assert problems(manifest, schema) == []
        assert manifest["apiVersion"] == "jobset.x-k8s.io/v1alpha2"
        assert NAME.fullmatch(manifest["metadata"]["name"])
    assert problems({**found[0], "spec": {"replicas": 1}}, schema) != []
    return found


def parts(manifest: dict) -> tuple[dict, dict, dict, dict]:
    """The replicated job, its job, its pod, and the container."""
    (replicated,) = manifest["spec"]["replicatedJobs"]
    job = replicated["template"]["spec"]
    pod = job["template"]["spec"]
    return replicated, job, pod, pod["containers"][0]


def test_every_run_becomes_a_jobset_that_kueue_queues(rendered):
    out = rendered("kubernetes", *places("v5e:4x4*2", "h100:8*2"), PRICING="spot", **SETTINGS)
    found = manifests(out)
    assert len(found) == 12 == len({m["metadata"]["name"] for m in found})
    by_size = {m["metadata"]["annotations"]["poison-scaling/run"][:3]: m for m in found}
    for manifest in found:
        assert manifest["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "lq"
        _, job, pod, container = parts(manifest)
        count, fail = job["podFailurePolicy"]["rules"]
        assert count["action"] == "Count" and job["backoffLimit"] == 0
        assert fail["onExitCodes"] == {
            "containerName": "run",
            "operator": "NotIn",
            "values": [0, 75, 134],
        }
        assert pod["terminationGracePeriodSeconds"] == 300 and container["command"][-2] == "--run"
        assert pod["nodeSelector"]["cloud.google.com/gke-spot"] == "true"
    replicated, job, pod, container = parts(by_size["40k"])
    assert (
        replicated["replicas"] == 2 and job["completions"] == 4
    )  # slices, and machines of a slice
    assert pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"] == "4x4"
    assert container["resources"]["limits"] == {"google.com/tpu": 4}
    assert not any(v["name"].startswith("JAX_") for v in container["env"])  # GKE says it
    replicated, job, pod, container = parts(by_size["60k"])
    assert replicated["replicas"] == 1 and job["completions"] == 2
    given = {v["name"]: v["value"] for v in container["env"]}
    name = by_size["60k"]["metadata"]["name"]
    assert given["JAX_COORDINATOR_ADDRESS"] == f"{name}-slice-0-0.{name}:8476"
    assert given["JAX_NUM_PROCESSES"] == "2" and container["resources"]["limits"] == {
        "nvidia.com/gpu": 8
    }
    submit = (out / "submit.sh").read_text()
    assert submit.count(".json") == 12 and "kubectl apply" in submit


def test_prepared_data_comes_from_a_bucket_or_from_a_disk_that_pods_share(rendered):
    one = (*places("cpu:1", "cpu:1"), "--run", "40k-2x-d8-s0")
    volumes = []
    for cache in ("gs://b/some/rows", "pvc:rows", ""):
        (manifest,) = manifests(rendered("kubernetes", *one, CACHE=cache, **SETTINGS))
        _, _, pod, container = parts(manifest)
        volumes += pod["volumes"]
        assert {"name": "POISON_SCALING_CACHE", "value": "/cache"} in container["env"]
    assert volumes[0]["csi"]["volumeAttributes"]["bucketName"] == "b"
    assert volumes[0]["csi"]["volumeAttributes"]["mountOptions"].endswith("only-dir=some/rows")
    assert volumes[1]["persistentVolumeClaim"] == {"claimName": "rows", "readOnly": True}
    assert volumes[2] == {"name": "cache", "emptyDir": {}}
    wrong = rendered("kubernetes", *one, check=2, CACHE="/mnt", **SETTINGS)
    assert "CACHE=/mnt: pods take it from gs://BUCKET/FOLDER or from pvc:NAME." in wrong


# ----------------------------------------------------------------------------------------- XPK, SkyPilot

# Knows one workload already; refuses another; would take an answer from standard input.
XPK = """#!/bin/bash
if [[ $2 == list ]]; then echo "$KNOWN Running"; exit; fi
printf '%s\\n' "$@" > "$CALLS/$4"
if read -r answer; then echo "answered" > "$CALLS/answered"; fi
[[ $4 != "$REFUSED" ]]
"""


def test_xpk_gets_every_run_but_those_that_it_has_and_never_an_answer(rendered, tmp_path):
    out = rendered("xpk", *places("v5e:2x2", "v5p:4x8x8"), PRICING="spot", **SETTINGS)
    (tmp_path / "calls").mkdir()
    xpk = tmp_path / "bin" / "xpk"
    xpk.parent.mkdir()
    xpk.write_text(XPK)
    xpk.chmod(0o755)
    names = re.findall("^submit (p-[a-z0-9-]+)", (out / "submit.sh").read_text(), re.M)
    assert len(names) == 12 and all(map(NAME.fullmatch, names))
    process = subprocess.run(
        ["bash", out / "submit.sh"],
        input="y\n" * 20,
        capture_output=True,
        text=True,
        env={
            "PATH": f"{xpk.parent}:/usr/bin:/bin",
            "CALLS": str(tmp_path / "calls"),
            "KNOWN": names[0],
            "REFUSED": names[1],
        },
    )
    assert process.returncode == 1 and f"{names[1]}: not submitted" in process.stderr
    assert f"{names[0]}: the cluster has it" in process.stdout
    calls = {file.name: file.read_text().splitlines() for file in (tmp_path / "calls").iterdir()}
    assert set(calls) == set(names[1:])
    call = next(call for call in calls.values() if "60k-2x-d8-s0" in call[-1])
    options = {name: call[i + 1] for i, name in enumerate(call[:-1])}
    assert options["--tpu-type"] == "v5p-512" and options["--restart-on-exit-codes"] == "75,134"
    assert options["--cluster"] == "my cluster" and "--spot" in call
    assert shlex.split(options["--command"])[-2:] == ["--run", "60k-2x-d8-s0"]


LOAD = """
import sys, sky
for file in sys.argv[1:]:
    task = sky.Task.from_yaml(file)
    (resources,) = task.resources
    print(task.name, task.num_nodes, resources.accelerators, resources.job_recovery)
"""


def test_skypilot_loads_every_task(rendered, tmp_path):
    out = rendered("skypilot", *places("h100:8*2", "v5p:2x2x4"), PRICING="spot", **SETTINGS)
    tasks = sorted(out.glob("*.yaml"))
    assert len(tasks) == 12
    python = shutil.which("sky")
    if python is None:
        pytest.skip("SkyPilot (pip install skypilot) is not installed, and its loader is the judge")
    python = python.removesuffix("sky") + "python"
    process = subprocess.run(
        [python, "-c", LOAD, *tasks],
        env={
            "HOME": str(tmp_path),
            "PATH": "/usr/bin:/bin",
            "SKYPILOT_DISABLE_USAGE_COLLECTION": "1",
        },
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    lines = [line for line in process.stdout.splitlines() if line.startswith("p-smoke-")]
    assert len(lines) == 12 and all("75" in line and "134" in line for line in lines)
    assert sum(" 2 {'H100': 8}" in line for line in lines) == 6
    assert sum(" 1 {'tpu-v5p-32': 1}" in line for line in lines) == 6


# ----------------------------------------------------------------------------------------------- SLURM


def test_a_slurm_array_for_each_kind_of_machine(rendered):
    """What SLURM does with them: test_slurm.py."""
    both = places("h100:8", "h100:16")
    script = (rendered("slurm", *both, "--at-once=3", DOCKER_IMAGE="i:1") / "submit.sh").read_text()
    assert script.count("#SBATCH --array=0-5%3\n") == 2
    assert script.count("--nodes=1\n") == script.count("--nodes=2\n") == 1
    assert script.count("--ntasks-per-node=8\n") == script.count("--gpus-per-node=8\n") == 2
    assert "--gpus-per-task" not in script and "--signal=TERM@300\n" in script
    assert "code == 75 || code == 134" in script and '"--container-image=i:1"' in script
    script = (rendered("slurm", *places("cpu:2", "cpu:2")) / "submit.sh").read_text()
    assert "--gpus" not in script and "--container" not in script and "JAX_PLATFORMS=cpu" in script
    assert "--cpus-per-task=1\n" in script and script.count("sbatch --") == 1
    refused = rendered("slurm", *places("v5e:2x2", "cpu:1"), check=2)
    assert "v5e:2x2 is a TPU; give --slice SIZE=h100:8, or cpu:1" in refused


def test_jobs_run_the_code_of_a_commit(rendered):
    out = rendered("slurm", *places("cpu:1", "cpu:1"))
    assert re.search("^  git -C .* archive [0-9a-f]{40} ", (out / "submit.sh").read_text(), re.M)


def test_a_study_is_brought_home_without_its_checkpoints(cloud, tmp_path):
    c = cloud()
    for name in ("study.json", "runs/a/metrics.jsonl", "runs/a/DONE", "runs/a/checkpoints/1/big"):
        file = c.bucket / "my study" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    home = tmp_path / "my home"
    c.run("pull.sh", "gs://bucket/my study", home)
    found = {str(f.relative_to(home)) for f in home.rglob("*") if f.is_file()}
    assert found == {"study.json", "runs/a/metrics.jsonl", "runs/a/DONE"}
    process = c.run("pull.sh", "--dry-run", "gs://bucket/s", home)
    assert "--exclude=" in process.stdout_text and len(c.calls("rsync")) == 1
    assert "begins with gs://" in c.run("pull.sh", "here", home, check=2).stderr_text
