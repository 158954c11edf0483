"""pod.sh: settings, the exact commands, code of one commit, jobs that outlive the connection."""

import shlex
import shutil
import subprocess

import pytest

from tests.launch.cloud import SETTINGS, wait_until

pytest_plugins = ["tests.launch.launching"]

NONE = dict.fromkeys(SETTINGS, "")
WHERE = ["--project=my-project", "--zone=us-east5-a"]


def commands(process) -> list[list[str]]:
    return [shlex.split(line) for line in process.stdout_text.splitlines()]


def test_every_missing_setting_is_named_at_once(cloud):
    c = cloud()
    process = c.run("pod.sh", "create", check=2, **NONE)
    assert process.stderr_text == (
        "error: settings are missing: PROJECT (--project), ZONE (--zone), TPU_NAME (--name), TPU_TYPE "
        "(--type), RUNTIME_VERSION (--runtime-version), SERVICE_ACCOUNT (--service-account); give each as an "
        "environment variable or by its flag.\n"
    )
    flags = ("--project", "p", "--zone=z", "--name", "n")
    process = c.run("pod.sh", "run", *flags, "--", "true", check=2, **NONE)
    assert "missing: BUCKET (--bucket);" in process.stderr_text
    process = c.run("babysit.sh", "--", "true", check=2, **NONE)
    assert all(name in process.stderr_text for name in SETTINGS)
    assert c.log() == []


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["fly"], "give one of create, push"),
        (["create", "--spott"], "--spott is unknown"),
        (["create", "--slices", "two"], "SLICES=two: it must be a positive number"),
        (["create", "--zone"], "--zone: give its value behind it"),
        (["run", "--zone", "--", "true"], "--zone: give its value behind it"),
        (["logs", "--job"], "--job: give its value behind it"),
        (["create", "--spot=yes"], "--spot=yes is unknown"),
        (["create", "--$(touch evaluated)=v"], "--$(touch evaluated)=v is unknown"),
        (["run"], "give the command after --"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(cloud, arguments, sentence):
    process = cloud().run("pod.sh", *arguments, check=2)
    assert sentence in process.stderr_text
    assert process.stderr_text.startswith("error: ") and process.stderr_text.count("\n") == 1


@pytest.mark.parametrize(
    "value", ["""it's a "name" $HOME""", "a=b", "--zone", "$(touch evaluated)"]
)
def test_a_flag_takes_its_value_behind_it_or_behind_an_equals_sign(cloud, value):
    c = cloud()
    behind = c.run("pod.sh", "delete", "--dry-run", "--name", value)
    joined = c.run("pod.sh", "delete", "--dry-run", f"--name={value}")
    (command,) = commands(behind)
    assert commands(joined) == [command]
    assert value in command
    behind = c.run("pod.sh", "logs", "--dry-run", "--job", value, "--worker", value)
    joined = c.run("pod.sh", "logs", "--dry-run", f"--job={value}", f"--worker={value}")
    assert commands(behind) == commands(joined)
    assert commands(joined)[0][-1].endswith(f"/jobs/{value}/{value}.log")


def test_a_dry_run_prints_the_exact_commands_and_runs_none(cloud):
    c = cloud()
    name = """it's a "slice" $HOME"""
    process = c.run("pod.sh", "create", "--dry-run", "--spot", "--name", name, OWNER="Me")
    assert commands(process) == [
        [
            *("gcloud", "compute", "tpus", "queued-resources", "create", name, *WHERE),
            *("--accelerator-type=v5p-8", "--runtime-version=v2-alpha-tpuv5"),
            *(f"--service-account={SETTINGS['SERVICE_ACCOUNT']}", "--labels=poison-owner=me"),
            "--valid-until-duration=1d",
            "--scopes=https://www.googleapis.com/auth/cloud-platform",
            *(f"--node-id={name}", "--spot", "--metadata-from-file=startup-script=startup.sh"),
            *("--async", "--quiet"),
        ]
    ]
    private = c.run("pod.sh", "run", "--dry-run", "--internal-ips", "--", "true")
    assert "--tunnel-through-iap" in commands(private)[0]
    several = ("--slices=3", "--reserved", "--create-flag=--network=my net")
    process = c.run("pod.sh", "create", "--dry-run", *several)
    (command,) = commands(process)
    assert {"--node-count=3", "--node-prefix=slice", "--reserved", "--network=my net"} <= set(
        command
    )
    process = c.run("babysit.sh", "--dry-run", "--", "poison-scaling", "plan", "my study.py")
    done = [
        line[4] if line[1] == "compute" else line[2]
        for line in commands(process)
        if line[0] == "gcloud"
    ]
    assert done == ["create", "cp", "ssh", "ssh", "delete"]
    assert c.log() == []


def test_a_command_runs_on_every_worker_and_outlives_the_connection(cloud):
    c = cloud(hosts=2)
    name = """it's a "slice" $HOME"""
    odd = """a 'b' "c" $d `e` *"""
    c.run("pod.sh", "create", "--slices=2", "--name", name)
    c.run("pod.sh", "push", "--name", name)
    process = c.run("pod.sh", "run", "--name", name, "--", "bash", "work.sh", c.bucket / odd, 60)
    job = process.stdout_text.splitlines()[-1]
    assert not (c.bucket / odd / "finished").exists()  # it goes on without us
    status = c.run("pod.sh", "status", "--name", name).stdout_text
    assert "ACTIVE" in status and job in status and "--force --quiet" in status
    states = c.bucket / "launch" / name / "jobs" / job
    wait_until(lambda: all("code=0" in f.read_text() for f in states.glob("*.state")))
    assert sorted(f.name for f in states.iterdir()) == [
        f"slice{s}-worker{w}.{kind}" for s in (0, 1) for w in (0, 1) for kind in ("log", "state")
    ]
    assert (states / "slice1-worker0.state").read_text() == (
        "worker=slice1-worker0 of=4 state=exited code=0 beat=0\n"
    )
    assert len((c.bucket / odd / "finished").read_text().splitlines()) == 4
    log = c.run("pod.sh", "logs", "--worker", "slice0-worker1", "--name", name).stdout_text
    assert log == f"working on {c.bucket / odd}\n"
    c.run("pod.sh", "delete", "--name", name)
    assert c.resources() == []
    assert "costs nothing" in c.run("pod.sh", "status", "--name", name).stdout_text


def test_a_job_that_is_stopped_saves_and_says_so(cloud):
    c = cloud()
    c.run("pod.sh", "create")
    c.run("pod.sh", "push")
    c.run("pod.sh", "run", "--", "bash", "work.sh", c.bucket / "w", 1000)
    wait_until((c.bucket / "w" / "started").exists)
    c.run("pod.sh", "stop")
    assert (c.bucket / "w" / "interrupted").exists()
    wait_until(lambda: "state=exited code=75" in c.run("pod.sh", "status").stdout_text)


def test_an_environment_is_made_once_for_the_same_requirements(cloud, tmp_path):
    c = cloud()
    c.repository = shutil.copytree(c.repository, tmp_path / "own clone")
    c.run("pod.sh", "create")
    home = c.folder / "machines" / "0"

    def installs() -> int:
        return (home / "pip.log").read_text().count("install")

    c.run("pod.sh", "push")
    c.run("pod.sh", "push")
    assert installs() == 1
    (c.repository / "README").write_text("new")
    commit(c.repository)
    c.run("pod.sh", "push")
    assert installs() == 1  # other code, the same environment
    assert (home / "poison_scaling" / "current" / "README").read_text() == "new"
    with (c.repository / "constraints.txt").open("a") as f:
        f.write("# new\n")
    commit(c.repository)
    c.run("pod.sh", "push")
    assert installs() == 2


def test_code_is_that_of_a_commit(cloud, tmp_path):
    c = cloud()
    c.repository = shutil.copytree(c.repository, tmp_path / "own clone")
    c.run("pod.sh", "create")
    (c.repository / "work.sh").write_text("changed")
    process = c.run("pod.sh", "push", check=2)
    assert "not committed" in process.stderr_text and "--dirty" in process.stderr_text
    process = c.run("babysit.sh", "--name", "other", "--", "true", check=2)
    assert "not committed" in process.stderr_text and c.creations() == 1  # before it costs money
    c.run("pod.sh", "push", "--dirty")
    current = c.folder / "machines" / "0" / "poison_scaling" / "current"
    assert (current / "work.sh").read_text() == "changed"
    sent = (current / "COMMIT").read_text().strip()
    shown = subprocess.run(
        ["git", "-C", c.repository, "show", f"{sent}:work.sh"], check=True, capture_output=True
    )
    assert shown.stdout == b"changed"  # recorded, and the working tree is as it was
    assert (c.repository / "work.sh").read_text() == "changed"
    c.run("pod.sh", "push", "--commit", "HEAD~0")
    assert (current / "work.sh").read_text().startswith("#!/bin/bash")
    assert "no such commit" in c.run("pod.sh", "push", "--commit", "nil", check=2).stderr_text


def commit(folder) -> None:
    git = ["git", "-C", folder, "-c", "user.name=t", "-c", "user.email=t@t"]
    subprocess.run([*git, "add", "-A"], check=True)
    subprocess.run([*git, "commit", "-qm", "more"], check=True)
