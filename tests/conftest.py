"""What the tests share: 8 devices on the CPU, a cache of their own, one small study."""

import contextlib
import fcntl
import json
import os
import pathlib
import shutil
import subprocess
import sys

# What a terminal or its owner prefers is not to change what programs print.
os.environ.update(LC_ALL="C.UTF-8", PYTHONUTF8="1", TERM="dumb")
os.environ.pop("COLUMNS", None)
os.environ.pop("FORCE_COLOR", None)
os.environ.pop("NO_COLOR", None)

# Before JAX is imported anywhere. Sharding is tested on real, if small, devices.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"

import hypothesis
import jax
import pytest

from poison_scaling.runtime.quiet import quiet

with quiet():
    import seqio  # noqa: F401 - its start-up notes once, and dropped

from poison_scaling.study import settings as config
from poison_scaling.study import study_file
from poison_scaling.study.inputs import Prepared

ROOT = pathlib.Path(__file__).parent.parent
SMOKE = str(ROOT / "configs" / "smoke.py")
LOGS = ("manifest.jsonl", "metrics.jsonl", "evals.jsonl")

# Tests share the cores: how long an example takes says nothing of it.
hypothesis.settings.register_profile("shared", deadline=None)
hypothesis.settings.load_profile("shared")


# Files with tests that take a minute. They come first, so that no process is left alone with one in the end.
LONGEST = (
    "test_sweep",
    "test_end_to_end",
    "test_several_processes",
    "test_interruptions",
    "test_kills",
    "test_rows",
    "test_loop",
)


def pytest_collection_modifyitems(items):
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(LONGEST)))


def contents(workdir: pathlib.Path) -> dict[str, bytes]:
    """What all runs of a study wrote that must not differ between two of it."""
    runs = sorted((workdir / "runs").iterdir())
    return {f"{run.name}/{name}": (run / name).read_bytes() for run in runs for name in LOGS}


@pytest.fixture(scope="session")
def shared(tmp_path_factory) -> pathlib.Path:
    """A folder of the whole test run, which its processes share."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@contextlib.contextmanager
def once(folder: pathlib.Path):
    """A folder to make `folder` in, for the first process of the test run that gets here; None for others."""
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            yield None
            return
        unfinished = folder.with_suffix(".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)  # of a process that failed
        unfinished.mkdir()
        yield unfinished
        unfinished.rename(folder)


@pytest.fixture(scope="session", autouse=True)
def cache(shared, tmp_path_factory):
    """Prepared data of this process, apart from the user's own and from what other tests do to theirs."""
    # What is compiled is compiled once for all tests: in processes of the command line, and in this one.
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(shared / "compiled")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"
    jax.config.update("jax_compilation_cache_dir", str(shared / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    with once(shared / "prepared") as new:
        if new:
            os.environ["POISON_SCALING_CACHE"] = str(new)
            Prepared(study_file.load(SMOKE))
    folder = tmp_path_factory.mktemp("cache")
    shutil.copytree(shared / "prepared", folder, dirs_exist_ok=True)
    os.environ["POISON_SCALING_CACHE"] = str(folder)
    return folder


@pytest.fixture(scope="session")
def study(cache) -> config.Study:
    """configs/smoke.py as it is."""
    return study_file.load(SMOKE)


@pytest.fixture(scope="session")
def prepared(study) -> Prepared:
    return Prepared(study)


def run_cli(*arguments, check: int | None = 0, **environment) -> subprocess.CompletedProcess:
    """`poison-scaling ARGUMENTS` in a process of its own with one CPU device; its exit code is checked."""
    process = subprocess.run(
        [sys.executable, "-m", "poison_scaling.cli", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "XLA_FLAGS": "", **environment},
        capture_output=True,
        encoding="utf-8",
    )
    if check is not None:
        assert process.returncode == check, process.stdout + process.stderr
    return process


@pytest.fixture(scope="session")
def smoke(shared, cache) -> tuple[pathlib.Path, dict[str, str]]:
    """The folder of configs/smoke.py, whole, two runs at a time; "stdout" and "stderr" of its process.

    It is for all tests: none changes it.
    """
    with once(shared / "smoke") as new:
        if new:
            process = run_cli("study", SMOKE, "--workdir", new / "study", "--jobs", 2)
            said = {"stdout": process.stdout, "stderr": process.stderr}
            (new / "said.json").write_text(json.dumps(said))
    return shared / "smoke" / "study", json.loads((shared / "smoke" / "said.json").read_text())
