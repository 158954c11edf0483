"""One writer a study folder."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
from etils import epath

from poison_scaling.runtime.errors import InputError
from poison_scaling.workdir import lock
from tests.support.runs import ROOT, SMOKE, run_cli

HOLD = """
import sys
from etils import epath
from poison_scaling.workdir import lock
with lock.writing(epath.Path(sys.argv[1]), sys.argv[2] or None):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def held(workdir: pathlib.Path, run: str = ""):
    """Another process that holds the lock of `run`, or of all runs."""
    command = [sys.executable, "-c", HOLD, workdir, run]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


@pytest.fixture
def workdir(tmp_path) -> epath.Path:
    return epath.Path(tmp_path / "study")


def taken(workdir, run=None):
    with lock.writing(workdir, run):
        pass


def test_a_second_study_is_refused_by_the_name_of_the_first(workdir):
    with held(workdir) as process:
        refused = run_cli("study", SMOKE, "--workdir", workdir, check=2).stderr
        assert refused.startswith("error: ") and refused.count("\n") == 1
        assert f"process {process.pid} on " in refused and " since 20" in refused
        assert not (workdir / "study.json").exists()
    taken(workdir)  # the holder was killed


def test_runs_can_be_trained_side_by_side_and_not_beside_the_whole_study(workdir):
    with held(workdir, "one"):
        taken(workdir, "other")
        with pytest.raises(InputError, match=r"writing there \(one\)"):
            taken(workdir, "one")
        with pytest.raises(InputError, match=r"writing there \(one\)"):
            taken(workdir)
    with held(workdir), pytest.raises(InputError, match=r"writing there \(study\)"):
        taken(workdir, "one")


def test_a_lock_leaves_nothing(workdir):
    taken(workdir)
    assert not workdir.exists()
    workdir.mkdir()
    (workdir / "mine").touch()
    taken(workdir, "one")
    assert [p.name for p in workdir.iterdir()] == ["mine"]


def elsewhere(workdir) -> epath.Path:
    """A lock of a process of another machine, whose number a process here has, too."""
    path = workdir / "writers" / "study.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"host": "far", "machine": "far", "pid": os.getpid(), "token": "x"}))
    return path


def test_a_lock_of_another_machine_holds_while_its_pulse_beats(workdir):
    path = elsewhere(workdir)
    code = "import os, sys, time\nwhile True: os.utime(sys.argv[1]); time.sleep(0.3)"
    with subprocess.Popen([sys.executable, "-c", code, path]) as process:
        with pytest.raises(InputError, match=f"process {os.getpid()} on far"):
            taken(workdir)
        process.kill()


@pytest.mark.parametrize("content", [None, "", "{", "[]", "[" * 100_000])
def test_a_lock_whose_pulse_rests_is_taken(workdir, monkeypatch, content):
    monkeypatch.setattr(lock, "_BEATS_MISSED", 2)
    path = elsewhere(workdir)
    if content is not None:
        path.write_text(content)
    taken(workdir)


def test_a_process_with_the_number_of_a_dead_one_is_not_it(workdir):
    with lock.writing(workdir, None) as mine:
        record = json.loads(mine.path.read_text())
    path = elsewhere(workdir)
    path.write_text(json.dumps({**record, "started": "1"}))
    taken(workdir)


def test_who_loses_the_lock_is_told(workdir):
    with lock.writing(workdir, None) as mine:
        mine.path.write_text(json.dumps({"token": "of another"}))
        assert mine.lost.wait(120)
    assert mine.path.exists()  # it is the other's


def test_a_stopped_process_keeps_its_lock(workdir):
    with held(workdir) as process:
        process.send_signal(signal.SIGSTOP)
        time.sleep(0.2)
        with pytest.raises(InputError, match=f"process {process.pid} on "):
            taken(workdir)
        process.send_signal(signal.SIGCONT)


@pytest.mark.parametrize("below", [False, True])
def test_a_file_in_place_of_the_folder_is_bad_input(tmp_path, below):
    (tmp_path / "file").write_text("")
    workdir = tmp_path / "file" / "study" if below else tmp_path / "file"
    refused = run_cli("study", SMOKE, "--workdir", workdir, check=2).stderr
    assert "nothing can be written there (Not a directory)" in refused or "File exists" in refused
    assert refused.count("\n") == 1


def test_a_folder_that_is_read_only_is_bad_input(workdir, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(workdir), "mkdir", refuse)
    with pytest.raises(InputError, match=r"nothing can be written there \(Permission denied\)"):
        taken(workdir)
