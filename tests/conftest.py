"""What the tests share: 8 devices on the CPU, a cache of their own, one small prepared study."""

import os
import pathlib
import subprocess
import sys

# Before JAX is imported anywhere. Sharding is tested on real, if small, devices.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"

import hypothesis
import pytest

from poison_scaling.data.quiet import quiet

with quiet():
    import seqio  # noqa: F401 - its start-up notes once, and dropped

from poison_scaling import config
from poison_scaling.data.prepared import Prepared

ROOT = pathlib.Path(__file__).parent.parent

# Tests share the cores: how long an example takes says nothing of it.
hypothesis.settings.register_profile("shared", deadline=None)
hypothesis.settings.load_profile("shared")


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """Prepared data of the whole test run, apart from the user's own."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["POISON_SCALING_CACHE"] = str(folder)
    return folder


@pytest.fixture(scope="session")
def study(cache) -> config.Study:
    """configs/smoke.py as it is."""
    return config.load(str(ROOT / "configs" / "smoke.py"))


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
        text=True,
    )
    if check is not None:
        assert process.returncode == check, process.stdout + process.stderr
    return process


@pytest.fixture(scope="session")
def smoke(tmp_path_factory, cache):
    """The folder of configs/smoke.py, whole, two runs at a time, and the process that trained it."""
    workdir = tmp_path_factory.mktemp("smoke")
    process = run_cli("study", "configs/smoke.py", "--workdir", workdir, "--jobs", 2)
    return workdir, process
