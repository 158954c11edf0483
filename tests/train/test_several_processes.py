"""One run trained by several processes of one machine: the same trajectory, stops together, no hanging."""

import contextlib
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from etils import epath

from analysis.files import read_lines
from poison_scaling.runtime import launchers, processes
from poison_scaling.runtime.errors import InputError
from poison_scaling.study import grid
from poison_scaling.study.inputs import Inputs
from poison_scaling.train import loop
from tests.support.chains import tuned

ROOT = pathlib.Path(__file__).parents[2]
RUN, DEVICES = "40k-2x-d32-s0", 4


@pytest.fixture(scope="module")
def alone(study, inputs, tmp_path_factory):
    """The run in this process, on its 8 devices."""
    folder = tmp_path_factory.mktemp("alone")
    loop.train(grid.run_named(study, RUN), inputs, epath.Path(folder), {})
    return folder


@contextlib.contextmanager
def together(
    count: int,
    workdir: pathlib.Path,
    *arguments: str,
    config: str = "configs/smoke.py",
    run: str = RUN,
    tied: tuple = (),
    **environment,
):
    """`poison-scaling train` in `count` processes with 4 CPU devices between them."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    command = (*tied, sys.executable, "-m", "poison_scaling.cli", "train", config)
    started = [
        subprocess.Popen(
            [*command, "--workdir", str(workdir), "--run", run, *arguments],
            cwd=ROOT,
            env={
                **os.environ,
                **environment,
                "XLA_FLAGS": f"--xla_force_host_platform_device_count={DEVICES // count}",
                "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
                "JAX_NUM_PROCESSES": str(count),
                "JAX_PROCESS_ID": str(number),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        for number in range(count)
    ]
    try:
        yield started
    finally:
        for process in started:
            process.kill()
            process.communicate()


def until(condition, processes, seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end and all(p.poll() is None for p in processes)
        time.sleep(0.05)


def said(process: subprocess.Popen, code: int) -> str:
    out, err = process.communicate(timeout=240)
    assert process.returncode == code, out + err[-3000:]
    return out + err


def assert_same_trajectory(one: pathlib.Path, other: pathlib.Path) -> None:
    assert (one / "manifest.jsonl").read_bytes() == (other / "manifest.jsonl").read_bytes()
    for name, values in (("metrics", ("loss", "gradient_norm")), ("evals", ("heldout_loss",))):
        a, b = (read_lines(folder / f"{name}.jsonl") for folder in (one, other))
        for counted in ("step", "poisons", "poison_tokens", "poisoned_steps"):
            assert [line[counted] for line in a] == [line[counted] for line in b]
        for value in values:
            np.testing.assert_allclose([x[value] for x in a], [x[value] for x in b], rtol=1e-6)


def first_evaluation(workdir: pathlib.Path) -> bool:
    file = workdir / "runs" / RUN / "evals.jsonl"
    return file.exists() and file.stat().st_size > 0


def test_two_processes_stop_together_and_another_number_goes_on(alone, study, inputs, tmp_path):
    with together(2, tmp_path) as started:
        until(lambda: first_evaluation(tmp_path), started)
        started[1].send_signal(signal.SIGTERM)  # one alone is told
        for process in started:
            assert "resumes from here" in said(process, 75)
    folder = tmp_path / "runs" / RUN
    assert not (folder / "DONE").exists()
    assert 15 <= int(max(p.name for p in (folder / "checkpoints").iterdir())) < 45
    loop.train(grid.run_named(study, RUN), inputs, epath.Path(folder), {})
    assert_same_trajectory(alone, folder)


@pytest.mark.long
def test_when_a_process_is_killed_the_others_stop_and_say_so(tmp_path):
    with together(2, tmp_path) as started:
        until(lambda: first_evaluation(tmp_path), started)
        started[1].kill()
        assert "Process 0 of 2 has lost another one" in said(started[0], 75)


@pytest.mark.long
@pytest.mark.parametrize(("count", "mesh"), [(2, "(1,4,1)"), (4, "(2,2,1)")])
def test_several_processes_train_the_whole_run(alone, tmp_path, count, mesh):
    with together(count, tmp_path, "--set", f"machine.mesh={mesh}") as started:
        for process in started:
            said(process, 0)
    assert (tmp_path / "runs" / RUN / "DONE").exists()
    assert_same_trajectory(alone, tmp_path / "runs" / RUN)


STAGED = """
import pathlib
import poison_scaling as ps
from tests.support.chains import tuned

def study():
    return tuned(ps.load("configs/smoke.py"), pathlib.Path({folder!r}))
"""


@pytest.mark.long
def test_1_2_and_4_processes_fine_tune_on_the_same_batches(study, tmp_path):
    """Contract 2 for chains; the parent is trained by this process."""
    root, name = "40k-0.5x-d8-s0", "40k-0.5x-d8-s0+ft80-d3"
    staged = Inputs(tuned(study, tmp_path))
    alone = epath.Path(tmp_path / "alone" / "runs")
    for own in (root, name):
        loop.train(staged.run_named(own), staged, alone / own, {})
    config = tmp_path / "staged.py"
    config.write_text(STAGED.format(folder=str(tmp_path)))
    for count, mesh in ((1, "(4,1,1)"), (2, "(1,4,1)"), (4, "(2,2,1)")):
        workdir = tmp_path / f"by {count}"
        shutil.copytree(alone / root, workdir / "runs" / root)
        how = ("--set", f"machine.mesh={mesh}")
        with together(count, workdir, *how, config=str(config), run=name) as started:
            for process in started:
                said(process, 0)
        assert_same_trajectory(alone / name, workdir / "runs" / name)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"JAX_COORDINATOR_ADDRESS": "host:1234"}, "JAX_NUM_PROCESSES='', JAX_PROCESS_ID=''"),
        (
            {
                "JAX_COORDINATOR_ADDRESS": "host",
                "JAX_NUM_PROCESSES": "2",
                "JAX_PROCESS_ID": "0",
            },
            "give all three, the host:port",
        ),
        (
            {
                "JAX_COORDINATOR_ADDRESS": "host:1234",
                "JAX_NUM_PROCESSES": "2",
                "JAX_PROCESS_ID": "2",
            },
            "JAX_PROCESS_ID=2: it must be below JAX_NUM_PROCESSES=2",
        ),
    ],
)
def test_an_environment_that_says_half_of_it_is_refused(monkeypatch, environment, message):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=message):
        processes.start()


@pytest.fixture
def asked(monkeypatch) -> list[dict]:
    """The arguments with which JAX was asked to join other processes, which does nothing."""
    calls: list[dict] = []
    monkeypatch.setattr("jax.distributed.initialize", lambda **how: calls.append(how))
    monkeypatch.setattr("jax.config.update", lambda *_: None)
    monkeypatch.setattr("poison_scaling.runtime.heartbeats.Heartbeats", lambda: None)
    monkeypatch.setattr("poison_scaling.runtime.heartbeats.on_abort", lambda joined: None)
    monkeypatch.setattr("poison_scaling.runtime.watchdog.start", lambda minutes: None)
    return calls


@pytest.mark.parametrize(
    ("environment", "joins"),
    [
        ({"SLURM_NTASKS": "2"}, True),
        ({"SLURM_NTASKS": "1"}, False),
        ({"SLURM_NTASKS": "2", "SLURM_STEP_NODELIST": None}, False),  # sbatch alone, no srun
        # srun sets those of mpiexec, too, where MpiDefault=pmi2
        ({"SLURM_NTASKS": "2", "PMI_SIZE": "2", "PMI_RANK": "1", "PMI_FD": "9"}, True),
        ({"SLURM_NTASKS": "1", "SLURM_PROCID": "0", "PMI_SIZE": "1", "PMI_RANK": "0"}, False),
        # mpirun -n 1 of a batch job
        (
            {
                "SLURM_NTASKS": "2",
                "SLURM_STEP_NODELIST": None,
                "OMPI_COMM_WORLD_SIZE": "1",
                "OMPI_COMM_WORLD_RANK": "0",
                "OMPI_MCA_orte_hnp_uri": "1.0;tcp://n1:5",
            },
            False,
        ),
    ],
)
def test_slurm_tasks_are_found(monkeypatch, asked, environment, joins):
    step = {"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "n[1-2]", "SLURM_PROCID": "1"}
    for name, value in {**step, "SLURM_LOCALID": "0", **environment}.items():
        if value is not None:
            monkeypatch.setenv(name, value)
    processes.start()
    assert bool(asked) is joins


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        (  # Open MPI starts a daemon on each node with srun, and each daemon its processes
            {
                "OMPI_COMM_WORLD_SIZE": "4",
                "OMPI_COMM_WORLD_RANK": "3",
                "OMPI_MCA_orte_hnp_uri": "1.0;tcp://n1:5",
            },
            {"cluster_detection_method": "ompi"},
        ),
        ({"PMI_SIZE": "4", "PMI_RANK": "3"}, "mpiexec has started 4 processes"),  # likewise
        ({"WORLD_SIZE": "8", "RANK": "3"}, "torchrun has started 8 processes"),
        (
            {"WORLD_SIZE": "8", "RANK": "3", "PMI_SIZE": "2", "PMI_RANK": "1"},
            "torchrun has started 8 processes",
        ),
        ({"JAX_COORDINATOR_ADDRESS": "h:1", "PMI_SIZE": "2", "PMI_RANK": "1"}, (2, 1)),
        ({"JAX_COORDINATOR_ADDRESS": "h:1"}, (2, 1)),
        ({"JAX_NUM_PROCESSES": "1"}, None),
    ],
)
def test_what_runs_within_tasks_of_slurm_is_not_taken_for_one(monkeypatch, environment, expected):
    step = {"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "n[1-2]", "SLURM_LOCALID": "0"}
    for name, value in {**step, "SLURM_NTASKS": "2", "SLURM_PROCID": "1", **environment}.items():
        monkeypatch.setenv(name, value)
    if isinstance(expected, str):
        with pytest.raises(InputError, match=expected):
            launchers.arguments()
        return
    found = launchers.arguments()
    if isinstance(expected, tuple):
        assert found and (found["num_processes"], found["process_id"]) == expected
    else:
        assert found == expected


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        (
            {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "2"},
            "mpirun has started 4 processes",
        ),
        (
            {"PMI_SIZE": "2", "PMI_RANK": "1"},
            "mpiexec has started 2 processes, of which this is number 1",
        ),
        ({"WORLD_SIZE": "8", "RANK": "0"}, "torchrun has started 8"),
        ({"SKYPILOT_NUM_NODES": "2", "SKYPILOT_NODE_RANK": "0"}, "SkyPilot has started 2"),
        (
            {"JOB_COMPLETION_INDEX": "0"},
            "Kubernetes may have started this process as one of several",
        ),
        ({"JOB_COMPLETION_INDEX": "1", "JAX_COORDINATOR_ADDRESS": "a:1"}, "JAX_NUM_PROCESSES=''"),
    ],
)
def test_several_processes_that_do_not_know_where_to_meet_are_refused(
    monkeypatch, environment, sentence
):
    """Else each of them would take itself for the only one, and train the same run."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=sentence):
        launchers.arguments()


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_RANK": "0"}, None),
        ({"JOB_COMPLETION_INDEX": "3", "JAX_NUM_PROCESSES": "1"}, None),
        ({"PMI_SIZE": "2", "PMI_RANK": "1", "JAX_COORDINATOR_ADDRESS": "h:1"}, (2, 1)),
        (
            {
                "JOB_COMPLETION_INDEX": "1",
                "JAX_COORDINATOR_ADDRESS": "h:1",
                "JAX_NUM_PROCESSES": "4",
            },
            (4, 1),
        ),
    ],
)
def test_what_a_launcher_says_completes_what_is_given(monkeypatch, environment, expected):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = launchers.arguments()
    assert (found and (found["num_processes"], found["process_id"])) == expected


@pytest.mark.long
def test_several_processes_read_a_cache_that_they_cannot_write(cache, tmp_path):
    """A disk that many machines share is read-only."""
    shared = tmp_path / "cache"
    shutil.copytree(cache, shared)
    subprocess.run(["chmod", "-R", "a-w", shared], check=True)
    # Root may write anyway, unless it has no capabilities.
    tied = ("setpriv", "--inh-caps=-all", "--bounding-set=-all") if os.geteuid() == 0 else ()
    if tied and shutil.which("setpriv") is None:
        pytest.skip("root can write everywhere, and setpriv (util-linux) is not installed")
    with together(2, tmp_path / "study", tied=tied, POISON_SCALING_CACHE=str(shared)) as started:
        for process in started:
            said(process, 0)
    subprocess.run(["chmod", "-R", "u+w", shared], check=True)
    assert (tmp_path / "study" / "runs" / RUN / "DONE").exists()


@pytest.mark.parametrize("alone", [False, True])
def test_a_tpu_machine_asks_jax_for_its_pod(monkeypatch, asked, alone):
    monkeypatch.setenv("JAX_PLATFORMS", "")
    monkeypatch.setattr("glob.glob", lambda pattern: ["/dev/accel0"])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name == "libtpu")

    def initialize(**how):
        asked.append(how)
        if alone:
            raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr("jax.distributed.initialize", initialize)
    processes.start()
    assert len(asked) == 1 and "coordinator_address" not in asked[0]
