"""Work directories in buckets, gs://: the same bytes as on a disk, against an emulator of Cloud Storage."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from analysis.files import read_lines
from tests.support.runs import ROOT, run_cli

EMULATOR = ROOT / "tests" / "launch" / "storage_emulator.py"
RUN = "40k-2x-d32-s1"
LOGS = ("config.json", "manifest.jsonl", "metrics.jsonl", "evals.jsonl", "DONE")


@pytest.fixture(scope="module")
def storage(tmp_path_factory):
    """The environment in which gs://bucket is an emulator."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = (tmp_path_factory.mktemp("storage") / "log").open("wb")
    server = subprocess.Popen([sys.executable, EMULATOR, str(port)], stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    for _ in range(1200):
        try:
            urllib.request.urlopen(f"{url}/storage/v1/b/bucket")
            break
        except urllib.error.URLError:
            time.sleep(0.1)
    yield {
        "STORAGE_EMULATOR_HOST": url,  # for gcsfs
        "TENSORSTORE_GCS_HTTP_URL": url,  # for the arrays of checkpoints
        "NO_GCE_CHECK": "true",
        "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
        "GOOGLE_CLOUD_PROJECT": "emulated",
    }
    server.kill()
    server.wait()
    log.close()


def python(storage, code: str, *arguments) -> str:
    """What a program prints that sees the bucket."""
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, **storage},
        check=True,
        capture_output=True,
        encoding="utf-8",
    ).stdout


READ = """
import sys
import poison_scaling
from etils import epath
for name in sys.argv[2:]:
    file = epath.Path(sys.argv[1]) / name
    print(repr(file.read_text()) if file.exists() else None)
assert "tensorflow" not in sys.modules
"""


@pytest.mark.long
def test_a_run_in_a_bucket_is_that_on_a_disk_also_when_it_was_interrupted(storage, smoke):
    reference = smoke[0] / "runs" / RUN
    arguments = ("configs/smoke.py", "--workdir", "gs://bucket/smoke", "--run", RUN)
    process = subprocess.Popen(
        [sys.executable, "-m", "poison_scaling.cli", "train", *arguments],
        cwd=ROOT,
        env={**os.environ, "XLA_FLAGS": "", **storage},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    folder = f"gs://bucket/smoke/runs/{RUN}"
    wait = """
import sys, time
import poison_scaling
from etils import epath
file = epath.Path(sys.argv[1])
for _ in range(3000):
    if file.exists() and file.read_text().count("\\n"):
        break
    time.sleep(0.1)
"""
    python(storage, wait, f"{folder}/evals.jsonl")
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=300)
    assert process.returncode in (75, 0), output.decode()  # 0: it was too quick for us
    run_cli("train", *arguments, **storage)
    found = [eval(line) for line in python(storage, READ, folder, *LOGS).splitlines()]
    for name, text in zip(LOGS, found, strict=True):
        assert text == (reference / name).read_text(), name
    again = run_cli("evaluate", "gs://bucket/smoke", "--run", RUN, "--json", **storage)
    assert json.loads(again.stdout) == read_lines(reference / "evals.jsonl")[-1]


COPY = """
import pathlib, sys
import poison_scaling
from etils import epath
source, target = pathlib.Path(sys.argv[1]), epath.Path(sys.argv[2])
for file in source.rglob("*.json*"):
    (target / file.relative_to(source)).write_bytes(file.read_bytes())
"""


def test_analysis_reads_and_writes_buckets(storage, smoke, tmp_path):
    workdir, _ = smoke
    slim = tmp_path / "slim"
    for file in [workdir / "study.json", *workdir.glob("runs/*/evals.jsonl")]:
        target = slim / file.relative_to(workdir)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    python(storage, COPY, slim, "gs://bucket/slim")
    analysis = [sys.executable, "-m", "analysis"]
    places = (
        ("gs://bucket/slim", "--out", "gs://bucket/slim/report"),
        (slim, "--out", tmp_path / "r"),
    )
    answers = [
        subprocess.run(
            [*analysis, *map(str, place)],
            cwd=ROOT,
            env={**os.environ, **storage},
            check=True,
            capture_output=True,
            encoding="utf-8",
        ).stdout
        for place in places
    ]
    assert "Report: gs://bucket/slim/report/index.html" in answers[0]
    (summary,) = python(storage, READ, "gs://bucket/slim/report", "summary.json").splitlines()
    assert eval(summary) == (tmp_path / "r" / "summary.json").read_text()


LINES = """
import sys
import poison_scaling
from etils import epath
from analysis.files import read_lines
from poison_scaling.train.logs import Lines
path = epath.Path("gs://bucket/lines.jsonl")
log = Lines(path, 0)
for step in (1, 2):
    log.write({"step": step})
log.keep()
log.write({"step": 3})  # lost with the machine
log = Lines(path, 1)
log.write({"step": 2, "again": True})
log.close()
print(read_lines(path))
"""


def test_a_log_in_a_bucket_holds_what_was_kept(storage):
    assert python(storage, LINES) == "[{'step': 1}, {'step': 2, 'again': True}]\n"


def test_a_cache_in_a_bucket_is_refused_in_one_sentence(tmp_path):
    process = run_cli(
        *("train", "configs/smoke.py", "--workdir", tmp_path, "--run", RUN),
        check=2,
        POISON_SCALING_CACHE="gs://bucket/cache",
    )
    assert "prepared data must be on a disk" in process.stderr
    assert process.stderr.count("\n") == 1
