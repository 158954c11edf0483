"""Processes that train together: when one is stopped, killed, fails or never comes, all end, and say why.

Each is a real process that agrees with the others again and again, as training does, without a model.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from tests.support.runs import ROOT

PEER = """
import os, sys, time
from poison_scaling import cli
from poison_scaling.runtime import heartbeats, processes, watchdog
from poison_scaling.runtime.errors import Interrupted
heartbeats.SILENT_SECONDS, heartbeats.BEAT_SECONDS, heartbeats.JOIN_SECONDS = 8, 1, 20
watchdog._TICK_SECONDS = 1
what, number = sys.argv[1:]
begun = time.monotonic()
try:
    processes.start(stall_minutes=0.1 if what == "stalls" else 60)
    processes.wait("all are here")
    print("joined", flush=True)
    with processes.noticing_losses():
        while True:
            processes.all_true(True)
            watchdog.progress()
            time.sleep(0.05)
            if what == f"fails {number}" and time.monotonic() - begun > 4:
                processes.leave(3)
            if what == "stalls" and number == "1":
                time.sleep(1000)
except Interrupted as e:
    print(e, file=sys.stderr)
    processes.leave(75)
"""


@contextlib.contextmanager
def peers(what: str, count: int = 2, started: tuple[int, ...] | None = None):
    """Processes of a job of `count`, of which all or only some are started."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{s.getsockname()[1]}"
    job = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": str(count), "XLA_FLAGS": ""}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", PEER, what, str(number)],
            cwd=ROOT,
            env={**os.environ, **job, "JAX_PROCESS_ID": str(number)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        for number in (range(count) if started is None else started)
    ]
    try:
        yield running
    finally:
        for process in running:
            process.kill()
            process.communicate()


def until_joined(running) -> None:
    for process in running:
        while (line := process.stdout.readline()) != "joined\n":
            assert line, process.communicate()


def ends(process: subprocess.Popen) -> tuple[int, str]:
    _, error = process.communicate(timeout=240)
    return process.returncode, error


@pytest.mark.parametrize("silent", [1, pytest.param(0, marks=pytest.mark.long)])
def test_a_process_that_is_stopped_is_named_and_the_others_can_be_started_again(silent):
    with peers("agrees", 3) as running:
        until_joined(running)
        running[silent].send_signal(signal.SIGSTOP)
        for process in (p for number, p in enumerate(running) if number != silent):
            code, said = ends(process)
            assert code == 75, said
            assert f"Process {silent} of 3 (on " in said and "silent for 8 s" in said
            assert "resumes from here" in said


@pytest.mark.long
@pytest.mark.parametrize("killed", [0, 1])
def test_when_a_process_is_killed_the_others_exit_with_75(killed):
    with peers("agrees", 3) as running:
        until_joined(running)
        running[killed].kill()
        for process in (p for number, p in enumerate(running) if number != killed):
            code, said = ends(process)
            assert code == 75 and ("lost another one" in said or "is gone" in said), said


@pytest.mark.long
@pytest.mark.parametrize("failing", [0, 1])
def test_the_exit_code_of_a_failure_is_that_of_all(failing):
    with peers(f"fails {failing}", 3) as running:
        for number, process in enumerate(running):
            code, said = ends(process)
            assert code == 3, said
            assert number == failing or f"Process {failing}" in said


@pytest.mark.long
@pytest.mark.parametrize("started", [0, 1])
def test_a_process_that_never_comes_is_waited_for_in_vain(started):
    with peers("agrees", 2, (started,)) as running:
        code, said = ends(running[0])
    missing = "not all processes have joined" if started == 0 else "process 0, at 127.0.0.1"
    assert code == 75 and missing in said, said


@pytest.mark.long
def test_processes_that_make_no_progress_end():
    with peers("stalls") as running:
        for process in running:
            code, said = ends(process)
            assert code == 75 and ("machine.stall_minutes" in said or "lost another" in said), said


@pytest.mark.long
def test_the_time_for_which_a_process_is_stopped_is_not_held_against_it():
    with peers("agrees", 2) as running:
        until_joined(running)
        for process in running:
            process.send_signal(signal.SIGSTOP)
        time.sleep(10)
        for process in running:
            process.send_signal(signal.SIGCONT)
        time.sleep(3)
        assert [process.poll() for process in running] == [None, None]
