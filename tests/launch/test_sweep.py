"""sweep.py: what it costs, what is left, and a whole study on a slice that is taken away meanwhile."""

import os
import signal
import subprocess
import sys

import pytest

from tests.launch.cloud import finish, wait_until
from tests.support.children import heeding_signals
from tests.support.runs import LOGS

pytest_plugins = ["tests.launch.launching"]

SLICES = ("--slice", "40k=v5e:2x2", "--slice", "60k=v5e:2x2")


def sweep(c, *arguments, **changes) -> subprocess.Popen:
    """sweep.py of the clone, as a process."""
    return subprocess.Popen(
        heeding_signals([sys.executable, c.repository / "launch" / "sweep.py", *arguments]),
        cwd=c.repository,
        env=c.environment(XLA_FLAGS="", PYTHONPATH=str(c.repository), **changes),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        start_new_session=True,
    )


def test_the_estimate_comes_first_and_nothing_is_spent_unasked(cloud):
    c = cloud()
    paper = ("configs/paper.py", "--workdir", c.bucket / "paper", "--price", "v5p=4.2")
    process = finish(sweep(c, *paper), check=2)
    assert "Study paper: 96 runs, 0 done." in process.stdout_text
    (line,) = (x.split() for x in process.stdout_text.splitlines() if x.split()[0] == "13b")
    # 6 x 13.2e9 parameters and the attention, on 260e9 tokens, at 40% of 459 TFLOP/s: 12 runs.
    assert line[1:4] == ["12", "v5p:4x8x8", "256"]
    chip_hours = float(line[5].replace(",", ""))
    assert chip_hours == pytest.approx(12 * 6 * 13e9 * 262e9 / (0.4 * 459e12) / 3600, rel=0.15)
    assert float(line[6].replace("$", "").replace(",", "")) == pytest.approx(
        4.2 * chip_hours, rel=0.01
    )
    assert "sweep.py asks before it spends; give --yes" in process.stderr_text
    assert c.log() == []


@pytest.mark.parametrize(
    "arguments, changes, sentence",
    [
        ((), {}, "machine.slices: the study names no slice for 40k, 60k"),
        (("--slice", "40k=v5e:3x3"), {}, "--slice 40k= 'v5e:3x3': there is no such slice."),
        (("--slice", "41k=v5e:2x2"), {}, "the sizes of this study are 40k, 60k"),
        ((*SLICES, "--price", "v5e"), {}, "write it as CHIP=PRICE"),
        ((*SLICES, "--run", "40k-2x-d8-s9"), {}, "the nearest is '40k-2x-d8-s"),
        (SLICES, {"ZONE": "", "BUCKET": ""}, "settings are missing: ZONE, BUCKET"),
        (
            ("--slice", "40k=h100:8", "--slice", "60k=h100:8"),
            {},
            "a slice of your own is for TPUs; take another --engine",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(cloud, arguments, changes, sentence):
    c = cloud()
    process = sweep(
        c, "configs/smoke.py", "--workdir", c.bucket / "s", "--yes", *arguments, **changes
    )
    finish(process, check=2)
    assert sentence in process.stderr_text and process.stderr_text.count("\n") == 1


@pytest.mark.long
def test_runs_of_stages_wait_for_their_parents(cloud):
    c = cloud()
    stages = "stages=[[{'kind': 'Continue', 'optimizer': 'keep', 'tokens_per_parameter': 1}]]"
    staged = ("configs/smoke.py", "--workdir", c.bucket / "staged", "--set", stages)
    process = finish(sweep(c, *staged, *SLICES, "--dry-run"))
    assert "Study smoke: 24 runs, 0 done." in process.stdout_text
    assert "12 runs wait for others" in process.stdout_text
    assert "40k-2x-d8-s0" in process.stdout_text and "+c1x" not in process.stdout_text


@pytest.mark.long
def test_a_whole_study_on_a_slice_that_is_taken_away(cloud, smoke, cache):
    # The training is to have the cores, not what watches it: each call of the fake cloud is a process.
    c = cloud(
        environment={
            "BEAT_SECONDS": "2",
            "POISON_SCALING_CACHE": str(cache),
            "JAX_PLATFORMS": "cpu",
        }
    )
    workdir = c.bucket / "smoke"
    arguments = ("configs/smoke.py", "--workdir", workdir, *SLICES, "--yes")
    process = sweep(c, *arguments, POLL_SECONDS="1")
    wait_until(lambda: any(workdir.glob("runs/*/metrics.jsonl")), 600)
    c.preempt("smoke-v5litepod-4")
    finish(process, seconds=3600)
    assert "12 of 12 runs are done now." in process.stdout_text
    assert c.resources() == [] and c.creations() == 2
    reference, _ = smoke
    for run in sorted((reference / "runs").iterdir()):
        assert (workdir / "runs" / run.name / "DONE").exists()
        for name in LOGS:
            ours = (workdir / "runs" / run.name / name).read_bytes()
            assert ours == (run / name).read_bytes(), f"{run.name}/{name}"
    # Nothing is left to do, or to pay for.
    again = finish(sweep(c, *arguments, "--price", "v5e=1.2", "--costs-of-runs"))
    assert "12 runs, 12 done." in again.stdout_text and c.creations() == 2
    assert again.stdout_text.count(" chip-hours so far ($") == 12
    assert "Spent so far: " in again.stdout_text and "cost unknown" not in again.stdout_text


@pytest.fixture
def trained_by_stub(cloud):
    """A cloud whose slices only write DONE, and the arguments of a sweep of 6 runs there, of two sizes."""
    c = cloud(environment={"TRAINER": "trainer.py"})
    workdir = c.bucket / "my study"
    workdir.mkdir()
    places = ("--slice", "40k=v5e:2x2", "--slice", "60k=v5p:2x2x1")
    return (
        c,
        workdir,
        (
            "configs/smoke.py",
            "--workdir",
            workdir,
            *places,
            "--yes",
            "--set",
            "seeds=[0]",
        ),
    )


def done(workdir) -> int:
    return len(list(workdir.glob("runs/*/DONE")))


def test_each_run_is_trained_once_on_the_slice_of_its_size(trained_by_stub):
    c, workdir, arguments = trained_by_stub
    process = finish(sweep(c, *arguments))
    assert "6 of 6 runs are done now." in process.stdout_text and done(workdir) == 6
    started = (workdir / "started").read_text().splitlines()
    assert len(started) == len(set(started)) == 6
    kinds = {flag for call in c.calls("create") for flag in call if flag.startswith("--accel")}
    assert kinds == {"--accelerator-type=v5litepod-4", "--accelerator-type=v5p-8"}
    assert c.creations() == 2 and c.resources() == []


def test_a_sweep_that_is_killed_leaves_nothing_and_goes_on(trained_by_stub):
    c, workdir, arguments = trained_by_stub
    process = sweep(c, *arguments)
    wait_until(lambda: done(workdir) >= 2)
    process.kill()
    process.wait()
    wait_until(lambda: c.resources() == [])  # those who watched the slices noticed
    assert done(workdir) < 6
    before = done(workdir)
    again = finish(sweep(c, *arguments))
    assert f"6 runs, {before} done." in again.stdout_text
    assert done(workdir) == 6 and c.resources() == []


def test_a_sweep_that_is_stopped_deletes_its_slices(trained_by_stub):
    c, workdir, arguments = trained_by_stub
    process = sweep(c, *arguments)
    wait_until(lambda: done(workdir) >= 1)
    os.killpg(process.pid, signal.SIGINT)
    finish(process, check=75)
    assert "The same command resumes from here." in process.stderr_text
    assert c.resources() == [] and done(workdir) < 6


def test_a_run_that_fails_is_named_and_the_others_are_trained(trained_by_stub):
    c, workdir, arguments = trained_by_stub
    (workdir / "40k-2x-d8-s0.fails").touch()
    process = finish(sweep(c, *arguments, FAILURES="1"), check=1)
    assert "5 of 6 runs are done now." in process.stdout_text
    assert "failed: 40k-2x-d8-s0;" in process.stdout_text and c.resources() == []
