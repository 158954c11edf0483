"""The fake cloud as tests use it: a folder, an environment to run launch/ in, and what is left in the end."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.support.children import heeding_signals

FAKE = Path(__file__).with_name("fake_gcloud.py")

SETTINGS = {
    "PROJECT": "my-project",
    "ZONE": "us-east5-a",
    "TPU_NAME": "slice",
    "TPU_TYPE": "v5p-8",
    "RUNTIME_VERSION": "v2-alpha-tpuv5",
    "BUCKET": "gs://bucket",
    "SERVICE_ACCOUNT": "poison@my-project.iam.gserviceaccount.com",
}
FAST = {
    "POLL_SECONDS": "0.2",
    "BEAT_SECONDS": "0.5",
    "SSH_PAUSE": "0.05",
    "DELETE_PAUSE": "0.05",
    "DELETE_TRIES": "4",
    "BACKOFF_SECONDS": "0",
    "LINGER_SECONDS": "1",
    "STOP_SECONDS": "5",
}


class Cloud:
    """A cloud in `folder`. Words of `script` say what goes wrong; see fake_gcloud.py."""

    def __init__(self, folder: Path, repository: Path, **script):
        self.folder = folder
        self.repository = repository  # the clone whose launch/ is run
        for name in ("resources", "machines", "buckets/bucket", "bin"):
            (folder / name).mkdir(parents=True)
        gcloud = folder / "bin" / "gcloud"
        gcloud.write_text(f"#!{sys.executable} -SE\n" + FAKE.read_text())
        gcloud.chmod(0o755)
        script["environment"] = {"BEAT_SECONDS": "0.5"} | script.get("environment", {})
        (folder / "script.json").write_text(json.dumps(script))

    @property
    def bucket(self) -> Path:
        return self.folder / "buckets" / "bucket"

    def environment(self, **changes) -> dict[str, str]:
        paths = {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "FAKE_CLOUD": str(self.folder),
            "XDG_STATE_HOME": str(self.folder / "state"),
        }
        return {**os.environ, **SETTINGS, **FAST, **paths, **changes}

    def start(self, program: str, *arguments, born=heeding_signals, **changes) -> subprocess.Popen:
        """A script of launch/ as a process, in a group of its own; `born` says which signals it heeds."""
        return subprocess.Popen(
            born([self.repository / "launch" / program, *arguments]),
            env=self.environment(**changes),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            start_new_session=True,
        )

    def run(self, program: str, *arguments, check: int | None = 0, **changes):
        """A script of launch/ until it ends; its exit code is checked."""
        process = self.start(program, *arguments, **changes)
        return finish(process, check)

    def fake(self, *arguments) -> str:
        command = [self.folder / "bin" / "gcloud", "fake", *arguments]
        return subprocess.run(
            command, env=self.environment(), check=True, capture_output=True, encoding="utf-8"
        ).stdout

    def preempt(self, name: str = "slice", hard: bool = False) -> None:
        self.fake("preempt", name, *(["--hard"] if hard else []))

    def goes_wrong(self, **script) -> None:
        """From now on, this goes wrong, too."""
        file = self.folder / "script.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | script))

    def signal(self, machine: Path, number: int) -> None:
        """To every process on a worker."""
        for process in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if f"FAKE_MACHINE={machine}".encode() in (process / "environ").read_bytes().split(
                    b"\0"
                ):
                    os.kill(int(process.name), number)

    def resources(self) -> list[dict]:
        """All that costs money."""
        return [json.loads(line) for line in self.fake("list").splitlines()]

    def log(self) -> list[dict]:
        file = self.folder / "log.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def calls(self, *words: str) -> list[list[str]]:
        """The calls of gcloud that contain all these words."""
        calls = [record["call"] for record in self.log() if "call" in record]
        return [call for call in calls if set(words) <= set(call)]

    def creations(self) -> int:
        return sum(record.get("state") == "ACCEPTED" for record in self.log())


def finish(process: subprocess.Popen, check: int | None = 0, seconds: float = 300):
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        raise AssertionError(f"still running after {seconds} s\n{out}{err}") from None
    process.stdout_text, process.stderr_text = out, err
    if check is not None:
        assert process.returncode == check, out + err
    return process


def wait_until(true, seconds: float = 120.0) -> None:
    """Until true() is true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)
