"""Every way to fail ends with nothing left that costs money, or with the user told how to remove it."""

import json
import os
import re
import shutil
import signal
import subprocess
import time

import pytest

from tests.launch.cloud import finish, wait_until
from tests.support.children import heeding_signals, ignoring_signals

pytest_plugins = ["tests.launch.launching"]

STEPS = 6


def work(c, steps: int = STEPS) -> tuple:
    return ("--", "bash", "work.sh", c.bucket / "w", steps, "all")


def count(c) -> int:
    file = c.bucket / "w" / "count-all"
    return int(file.read_text()) if file.exists() else 0


def started(c) -> int:
    """How often the work was taken up."""
    return len((c.bucket / "w" / "started").read_text().splitlines())


def assert_done(c, process, *, creations: int = 1, steps: int = STEPS) -> None:
    assert process.returncode == 0, process.stderr_text
    assert count(c) == steps and (c.bucket / "w" / "finished").exists()
    assert c.resources() == []
    assert c.creations() == creations


def test_work_without_mishap(cloud):
    c = cloud()
    assert_done(c, c.run("babysit.sh", *work(c)))
    assert started(c) == 1


@pytest.mark.parametrize(
    "what, script, creations",
    [
        ("quota", {"create": ["quota", "quota"]}, 1),
        ("creation fails", {"create": ["failed", "failed"]}, 3),
        ("preempted during create", {"create": ["preempted"]}, 2),
        ("the answer to create is lost", {"create": ["lost"]}, 1),
        ("ssh cannot connect", {"ssh": ["drop", "drop"]}, 1),
        ("ssh drops after the code was sent", {"ssh": ["cut"]}, 1),
        ("ssh drops after the job was started", {"ssh": ["ok", "cut", "drop"]}, 1),
        ("delete fails at first", {"delete": ["error", "ignored"]}, 1),
        ("the state cannot be asked for", {"describe": ["ok", "error", "ok", "error"]}, 1),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)
def test_what_passes(cloud, what, script, creations):
    c = cloud(**script)
    assert_done(c, c.run("babysit.sh", *work(c)), creations=creations)
    assert started(c) == 1


@pytest.mark.parametrize(
    "hard",
    [
        pytest.param(False, id="with-notice"),
        pytest.param(True, id="during-a-checkpoint", marks=pytest.mark.long),
    ],
)
def test_preempted_during_the_run(cloud, hard):
    """Taken away at once, the work ends wherever it is, also halfway through writing."""
    c = cloud()
    steps = 100  # so that it is still at work, however slow the machine is
    process = c.start("babysit.sh", *work(c, steps))
    wait_until(lambda: count(c) >= 2)
    c.preempt(hard=hard)
    assert_done(c, finish(process), creations=2, steps=steps)
    assert started(c) == 2
    assert (c.bucket / "w" / "interrupted").exists() != hard


def test_preempted_more_often_than_allowed(cloud):
    c = cloud()
    process = c.start("babysit.sh", "--preemptions", "0", *work(c, 1000))
    wait_until(lambda: count(c) >= 1)
    c.preempt(hard=True)
    finish(process, check=75)
    assert "giving up: slice was taken away 1 times" in process.stderr_text
    assert c.resources() == []


@pytest.mark.parametrize("word", ["quota", "failed", "preempted"])
def test_a_slice_that_never_comes_is_given_up(cloud, word):
    c = cloud(create=[word] * 9)
    process = c.run("babysit.sh", "--creations", "3", *work(c), check=75)
    assert "did not come up after 3 requests" in process.stderr_text
    assert c.resources() == []


def test_a_slice_that_cannot_be_reached_is_given_up(cloud):
    c = cloud(ssh=["drop"] * 99)
    process = c.run("babysit.sh", *work(c), check=75, SSH_TRIES="2", SETUPS="2")
    assert "could not be set up 2 times" in process.stderr_text
    assert c.resources() == [] and c.creations() == 2


def test_a_wrong_request_is_not_repeated(cloud):
    c = cloud(create=["denied"])
    process = c.run("babysit.sh", *work(c), check=2)
    assert "PERMISSION_DENIED" in process.stderr_text and len(c.calls("create")) == 1
    assert c.resources() == []


@pytest.mark.parametrize("code, tries, ends", [(1, 2, 0), (2, 1, 2), (75, 2, 0)])
def test_exit_codes_mean_what_poison_scaling_says(cloud, code, tries, ends):
    c = cloud()
    (c.bucket / "w").mkdir()
    (c.bucket / "w" / "code").write_text(f"{code}\n")
    c.run("babysit.sh", *work(c), check=ends)
    assert started(c) == tries
    assert c.resources() == [] and c.creations() == 1


def test_a_command_that_always_fails_is_given_up(cloud):
    c = cloud()
    c.run("babysit.sh", "--failures", "2", "--", "false", check=1)
    assert len([call for call in c.calls("ssh") if any("start" in word for word in call)]) == 3
    assert c.resources() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("when", ["waiting", "working"])
def test_the_script_is_stopped(cloud, number, when):
    """SIGINT goes to the whole group, as Ctrl-C does."""
    c = cloud(delete=["error"])
    process = c.start("babysit.sh", *work(c, 1000))
    wait_until(lambda: c.creations() == 1 if when == "waiting" else count(c) >= 1)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    finish(process, check=75)
    assert "please wait while the slice is deleted" in process.stderr_text
    assert c.resources() == []


def test_under_nohup_it_goes_on_until_sigterm(cloud):
    c = cloud()
    process = c.start("babysit.sh", *work(c, 1000), born=ignoring_signals)
    wait_until(lambda: count(c) >= 1)
    os.killpg(process.pid, signal.SIGINT)
    os.killpg(process.pid, signal.SIGHUP)
    before = count(c)
    wait_until(lambda: count(c) > before + 2)
    assert process.poll() is None and c.resources() == [{"name": "slice", "state": "ACTIVE"}]
    process.send_signal(signal.SIGTERM)
    finish(process, check=75)
    assert "stopped by SIGTERM" in process.stderr_text and c.resources() == []


def test_the_script_is_killed_and_the_next_one_takes_over(cloud):
    c = cloud()
    process = c.start("babysit.sh", *work(c))
    wait_until(lambda: count(c) >= 1)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert c.resources() == [{"name": "slice", "state": "ACTIVE"}]
    told = c.run("pod.sh", "status").stdout_text  # the user is told
    assert re.search("exists until it is deleted: gcloud .* delete slice .*--force", told)
    process = c.run("babysit.sh", *work(c))
    assert "taking over" in process.stderr_text
    assert_done(c, process)


@pytest.mark.parametrize("when", ["queued", "idle"])
def test_a_slice_that_nobody_watches_deletes_itself(cloud, when):
    """Killed while the request was queued, or after the job was started: the bill is bounded."""
    c = cloud(environment={"WATCHDOG_POLL": "0.2", "WATCHDOG_IDLE": "2"})
    process = c.start("babysit.sh", *work(c))
    wait_until(lambda: c.creations() if when == "queued" else count(c) >= 1)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    wait_until(lambda: c.resources() == [])
    assert when == "queued" or count(c) == STEPS  # what had been started was finished first


def test_a_slice_that_cannot_be_deleted_is_named_with_the_command_that_removes_it(cloud):
    c = cloud(delete=["error"] * 4)
    process = c.run("babysit.sh", *work(c), check=1)
    (sentence,) = (x for x in process.stderr_text.splitlines() if x.startswith("error: slice "))
    assert (
        "could not be deleted (its state is ACTIVE) and may cost money; remove it with: "
        in sentence
    )
    command = sentence.split("remove it with: ")[1]
    subprocess.run(["bash", "-c", command], env=c.environment(), check=True)
    wait_until(lambda: c.resources() == [])


def test_a_worker_without_a_sign_of_life_costs_the_slice(cloud):
    c = cloud()
    process = c.start("babysit.sh", *work(c, 1000), STALE_SECONDS="1")
    wait_until(
        lambda: any("beat=2" in f.read_text() for f in c.bucket.glob("launch/slice/jobs/*/*.state"))
    )
    for machine in (c.folder / "machines").iterdir():  # hangs: the machine is there, and silent
        c.signal(machine, signal.SIGSTOP)
    wait_until(lambda: c.creations() == 2)
    process.send_signal(signal.SIGTERM)
    finish(process, check=75)
    assert "no sign of life" in process.stderr_text and c.resources() == []


def test_all_workers_start_and_one_that_fails_stops_the_others(cloud):
    c = cloud(hosts=3, ssh=["ok", "partly"])
    script = 'case $HOME in */1) sleep 1; exit 3;; *) trap "exit 1" TERM; sleep 60 & wait;; esac'
    process = c.run("babysit.sh", "--failures=0", "--", "bash", "-c", script, check=3)
    assert "stopping the others" in process.stderr_text
    states = [f.read_text() for f in c.bucket.glob("launch/slice/jobs/*/*.state")]
    assert sorted(re.findall(r"code=(\d+)", " ".join(states))) == ["1", "1", "3"]
    assert c.resources() == []


def test_a_failure_counts_for_more_than_the_interruptions_that_it_causes(cloud):
    c = cloud(hosts=3)
    script = "case $HOME in */1) exit 3;; *) exit 75;; esac"
    process = c.run("babysit.sh", "--failures=0", "--", "bash", "-c", script, check=3)
    assert "the command failed with 3" in process.stderr_text
    assert "interrupted" not in process.stderr_text and c.resources() == []


def test_a_slice_on_which_a_command_fails_twice_is_replaced(cloud):
    c = cloud()
    process = c.run("babysit.sh", "--failures", "3", "--", "false", check=1)
    assert process.stderr_text.count("replacing slice after 2 failures") == 1
    assert c.creations() == 2 and c.resources() == []


def test_a_slice_of_someone_else_is_left_alone(cloud):
    c = cloud()
    c.run("pod.sh", "create", OWNER="Ada@laptop")
    wait_until(lambda: c.resources() == [{"name": "slice", "state": "ACTIVE"}])
    process = c.run("babysit.sh", *work(c), check=2, OWNER="bob@laptop")
    assert "slice belongs to ada-laptop; give another --name" in process.stderr_text
    assert c.resources() == [{"name": "slice", "state": "ACTIVE"}]


def test_the_reason_of_a_failed_request_is_shown(cloud):
    c = cloud(create=["failed"])
    process = c.run("babysit.sh", *work(c))
    assert "the cloud says: there is no more capacity of this type" in process.stderr_text


@pytest.mark.long
def test_a_truncated_read_of_the_states_is_not_the_end(cloud):
    c = cloud(hosts=2)
    script = f"case $HOME in */0) sleep 1;; *) sleep 9; touch {c.bucket}/whole;; esac"
    process = c.start("babysit.sh", "--", "bash", "-c", script)
    wait_until(lambda: any("beat=5" in f.read_text() for f in c.bucket.glob("**/*worker1.state")))
    c.goes_wrong(cat=["partly"] * 8)
    finish(process)
    assert (c.bucket / "whole").exists() and c.creations() == 1, process.stderr_text


@pytest.mark.long
def test_a_worker_whose_setup_takes_too_long_costs_the_slice(cloud):
    c = cloud(environment={"INSTALL_SECONDS": "1000"})
    fast = {"SETUP_SECONDS": "1", "SSH_TRIES": "1", "SETUPS": "2"}
    process = c.run("babysit.sh", *work(c), check=75, **fast)
    assert "could not be set up 2 times" in process.stderr_text
    assert c.resources() == [] and c.creations() == 2


def test_a_slice_that_is_still_being_provisioned_is_deleted_as_soon_as_it_can_be(cloud):
    c = cloud(create=["slow"])
    process = c.start("babysit.sh", *work(c))
    wait_until(lambda: c.resources() == [{"name": "slice", "state": "PROVISIONING"}])
    process.send_signal(signal.SIGTERM)
    finish(process, check=75)
    assert len(c.calls("delete")) > 4 and c.resources() == []  # more often than DELETE_TRIES


@pytest.mark.long
def test_a_job_goes_on_while_this_machine_is_cut_off(cloud):
    c = cloud()
    process = c.start("babysit.sh", *work(c, 200), STALE_SECONDS="2")
    wait_until(lambda: count(c) >= 1)
    c.goes_wrong(offline=True)
    time.sleep(6)
    c.goes_wrong(offline=False)
    finish(process)
    assert c.creations() == 1 and started(c) == 1 and c.resources() == []


@pytest.mark.long
def test_a_command_that_makes_no_progress_is_killed_and_resumes(cloud):
    """As poison-scaling does, it changes POISON_SCALING_HEARTBEAT; the first time it hangs then."""
    c = cloud(environment={"STALL_SECONDS": "2"})
    folder = c.bucket / "w"
    folder.mkdir()
    script = f"touch $POISON_SCALING_HEARTBEAT; mkdir {folder}/once || exit 0; sleep 1000"
    process = c.run("babysit.sh", "--", "bash", "-c", script)
    assert "interrupted (1 so far)" in process.stderr_text and c.creations() == 1


def test_keep_leaves_the_slice_and_says_so(cloud):
    c = cloud()
    process = c.run("babysit.sh", "--keep", *work(c))
    assert "is kept and costs money until it is deleted: gcloud" in process.stderr_text
    assert c.resources() == [{"name": "slice", "state": "ACTIVE"}]


def test_two_babysitters_do_not_share_a_slice(cloud):
    c = cloud()
    process = c.start("babysit.sh", *work(c, 1000))
    wait_until(lambda: c.creations() == 1)
    second = c.run("babysit.sh", *work(c), check=2)
    assert f"another babysit.sh (process {process.pid}) watches slice" in second.stderr_text
    assert len(c.resources()) == 1  # the second one leaves it alone
    process.send_signal(signal.SIGTERM)
    finish(process, check=75)


def test_one_slice_for_many_lines(cloud):
    c = cloud()
    (c.bucket / "w").mkdir()
    (c.bucket / "w" / "code").write_text("2\n")  # the first line fails for good
    lines = ["a b", 'c "d"']
    process = subprocess.Popen(
        heeding_signals(
            [
                c.repository / "launch" / "babysit.sh",
                *("--each", "--", "bash", "work.sh", c.bucket / "w", "2"),
            ]
        ),
        env=c.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        start_new_session=True,
    )
    out, err = process.communicate("\n".join(lines) + "\n", timeout=300)
    assert out.splitlines() == ["next", "done 2 a b", "next", 'done 0 c "d"', "next"], err
    assert process.returncode == 1
    assert (c.bucket / "w" / 'count-c "d"').read_text() == "2\n"
    assert c.resources() == [] and c.creations() == 1
    assert json.dumps(c.log()).count("ACCEPTED") == 1


def test_a_signal_at_the_end_of_the_command_does_not_lose_its_exit_code(cloud):
    """Regression: bash's `wait` returned -1, which nobody read, and an interrupted job counted as done."""
    c = cloud()
    machine = c.folder / "machines" / "0"
    (machine / "bin").mkdir(parents=True)
    shutil.copy(c.folder / "bin" / "gcloud", machine / "bin")
    command = "trap 'exit 75' TERM; touch ready; for i in {1..200}; do sleep 0.05 & wait $!; done"
    environment = c.environment(
        HOME=str(machine), FAKE_MACHINE=str(machine), PATH=f"{machine / 'bin'}:/usr/bin:/bin"
    )
    for trial in range(12):
        job = machine / f"job-{trial}"
        job.mkdir()
        arguments = ["supervise", f"gs://bucket/job-{trial}", job, "bash", "-c"]
        process = subprocess.Popen(
            [c.repository / "launch" / "on_vm.sh", *arguments, f"cd '{job}'; {command}"],
            env=environment,
            start_new_session=True,
        )
        wait_until((job / "ready").exists)
        c.signal(machine, signal.SIGTERM)  # to the command and to its supervisor at once
        assert process.wait(60) == 0
        assert re.search(r"state=exited code=(75|143) ", (job / "state").read_text())
