"""A study that is stopped, killed, and started again."""

import os
import signal
import subprocess
import sys
import time

import pytest

from analysis.files import read_lines
from tests.support.children import heeding_signals
from tests.support.runs import ROOT, contents, run_cli


@pytest.mark.parametrize(
    ("jobs", "stop"),
    [pytest.param(1, signal.SIGTERM, marks=pytest.mark.long), (2, signal.SIGINT)],
)
def test_an_interrupted_study_goes_on_where_it_was(smoke, tmp_path, jobs, stop):
    """SIGTERM as from a scheduler, or Ctrl-C, which reaches the workers, too; then SIGKILL; then peace."""
    only = ("--set", "ladder=[{'size': '60k', 'tokens_per_parameter': 2.0}]")
    command = (
        "study",
        "configs/smoke.py",
        *only,
        "--set",
        "doses=[0, 8]",
        "--jobs",
        jobs,
        "--workdir",
    )
    stopped = tmp_path / "stopped"

    def start_and_signal(number):
        process = subprocess.Popen(
            heeding_signals([sys.executable, "-m", "poison_scaling.cli", *command, stopped]),
            cwd=ROOT,
            env={**os.environ, "XLA_FLAGS": ""},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            start_new_session=True,
        )
        lines = len(metric_lines(stopped))
        deadline = time.monotonic() + 400
        while len(metric_lines(stopped)) <= lines and time.monotonic() < deadline:
            time.sleep(0.02)
        if number == signal.SIGINT:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        out, err = process.communicate(timeout=400)
        return process.returncode, out + err

    code, said = start_and_signal(stop)
    assert code == 75, said
    assert "resumes from here" in said and "Traceback" not in said
    assert start_and_signal(signal.SIGKILL)[0] == -signal.SIGKILL
    time.sleep(1)  # workers notice that their parent is gone
    run_cli(*command, stopped)
    found, whole = contents(stopped), contents(smoke[0])
    assert len({name.partition("/")[0] for name in found}) == 4
    assert found == {name: whole[name] for name in found}


def metric_lines(workdir) -> list:
    return [line for file in workdir.glob("runs/*/metrics.jsonl") for line in read_lines(file)]


@pytest.mark.long
def test_a_worker_that_is_killed_takes_one_run_with_it(smoke, tmp_path):
    only = ("--set", "seeds=[0]", "--set", "ladder=[{'size': '60k', 'tokens_per_parameter': 2.0}]")
    command = ("study", "configs/smoke.py", *only, "--jobs", 2, "--workdir", tmp_path)
    process = subprocess.Popen(
        [sys.executable, "-m", "poison_scaling.cli", *map(str, command)],
        cwd=ROOT,
        env={**os.environ, "XLA_FLAGS": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 400
    while not metric_lines(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.02)
    listed = subprocess.run(
        ["ps", "-ww", "-o", "pid=,args=", "--ppid", str(process.pid)], capture_output=True
    )
    workers = [
        line.split()[0] for line in listed.stdout.decode().splitlines() if "spawn_main" in line
    ]
    os.kill(int(workers[0]), signal.SIGKILL)
    _, err = process.communicate(timeout=400)
    assert process.returncode == 75
    assert err.count("\n") == 1 and "was killed (SIGKILL" in err
    done = {p.parent.name for p in tmp_path.glob("runs/*/DONE")}
    assert len(done) == 2 and not any(name in err for name in done)
    run_cli(*command)
    found, whole = contents(tmp_path), contents(smoke[0])
    assert found == {name: whole[name] for name in found} and len(found) == 9
