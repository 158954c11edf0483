"""XPK and SLURM: the commands and scripts that reach them."""

import re
import shlex
import subprocess

from tests.launch.cloud import finish
from tests.launch.test_sweep import sweep

pytest_plugins = ["tests.launch.launching"]


def test_every_run_becomes_a_workload_of_its_own(cloud, tmp_path):
    c = cloud()
    xpk = c.folder / "bin" / "xpk"
    xpk.write_text('#!/bin/bash\nprintf "%s\\n" "$@" > "$FAKE_CLOUD/xpk-$RANDOM$RANDOM"\n')
    xpk.chmod(0o755)
    settings = {"CLUSTER": "my cluster", "DOCKER_IMAGE": "image:1", "PRICING": "spot"}
    arguments = ("configs/paper.py", "--workdir", "it's here", "--backend=xpk", "--yes")
    process = finish(sweep(c, *arguments, "--set", "doses=[0, 250]", **settings))
    assert "48 runs are submitted" in process.stdout_text
    calls = [file.read_text().splitlines() for file in c.folder.glob("xpk-*")]
    assert len(calls) == 48
    assert all("--spot" in call for call in calls)
    options = [{name: call[i + 1] for i, name in enumerate(call[:-1])} for call in calls]
    names = {o["--workload"] for o in options}
    assert len(names) == 48 and all(
        re.fullmatch("[a-z]([-a-z0-9]{0,37}[a-z0-9])", n) for n in names
    )
    large = next(o for o in options if "13b-20x-d250-s0" in o["--command"])
    assert large["--tpu-type"] == "v5p-512" and large["--restart-on-exit-codes"] == "75"
    assert shlex.split(large["--command"]) == [
        *("poison-scaling", "train", "configs/paper.py", "--workdir", "it's here"),
        *("--set", "doses=[0, 250]", "--run", "13b-20x-d250-s0"),
    ]
    missing = finish(sweep(c, *arguments), check=2)
    assert "settings are missing: CLUSTER, DOCKER_IMAGE" in missing.stderr_text


def test_a_slurm_array_trains_each_run_and_requeues_what_was_interrupted(cloud, tmp_path):
    """sbatch runs the tasks one after the other; a run that is interrupted is tried again."""
    c = cloud()
    places = ("--slice", "40k=h100:8", "--slice", "60k=h100:16")
    process = finish(
        sweep(c, "configs/smoke.py", "--workdir", tmp_path / "my study", "--backend=slurm", *places)
    )
    script = process.stdout_text
    assert script.startswith("#!/usr/bin/env bash")
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in {
        "sbatch": """
cat > "$0.job"; grep '^#SBATCH' "$0.job" >> "$0.options"
last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\)%.*/\\1/p' "$0.job")
for i in $(seq 0 "$last"); do SLURM_ARRAY_JOB_ID=7 SLURM_ARRAY_TASK_ID=$i bash "$0.job" || true; done
""",
        "srun": """
printf '%s\\n' "${*: -1}" >> "$0.runs"
[[ ${*: -1} != 60k-2x-d8-s0 ]] || exit 75
""",
        "scontrol": 'echo "$@" >> "$0.calls"\n',
    }.items():
        (programs / name).write_text("#!/bin/bash\n" + text)
        (programs / name).chmod(0o755)
    environment = c.environment(PATH=f"{programs}:/usr/bin:/bin")
    subprocess.run(["bash", "-c", script], env=environment, check=True, timeout=300)
    runs = (programs / "srun.runs").read_text().splitlines()
    assert len(runs) == 12 == len(set(runs))
    assert (
        programs / "scontrol.calls"
    ).read_text() == f"requeue 7_{runs.index('60k-2x-d8-s0') % 6}\n"
    options = (programs / "sbatch.options").read_text()
    assert options.count("--nodes=1\n") == 1 and options.count("--nodes=2\n") == 1
    assert "--array=0-5%1" in options and options.count("--ntasks-per-node=8\n") == 2


def test_a_study_is_brought_home_without_its_checkpoints(cloud, smoke, tmp_path):
    c = cloud()
    reference, _ = smoke
    subprocess.run(["cp", "-r", reference, c.bucket / "my study"], check=True)
    home = tmp_path / "my home"
    c.run("pull.sh", "gs://bucket/my study", home)
    found = {f.relative_to(home) for f in home.rglob("*") if f.is_file()}
    assert {f.name for f in found} >= {"study.json", "metrics.jsonl", "evals.jsonl", "DONE"}
    assert not any("checkpoints" in f.parts for f in found)
    process = c.run("pull.sh", "--dry-run", "gs://bucket/s", home)
    assert "--exclude=" in process.stdout_text and len(c.calls("rsync")) == 1
    assert "begins with gs://" in c.run("pull.sh", "here", home, check=2).stderr_text
