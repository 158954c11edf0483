"""What the tests share: 8 CPU devices, a cache of their own, one small study."""

import json
import os
import pathlib
import shutil

# What a terminal or its owner prefers must not change what programs print.
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

from poison_scaling import Study, load
from poison_scaling.study.inputs import Inputs
from tests.support.runs import SMOKE, once, run_cli

# Tests share the cores, so how long an example takes says nothing.
hypothesis.settings.register_profile("shared", deadline=None)
hypothesis.settings.load_profile("shared")


# Files with tests that take a minute. They come first, so that no process is left alone with one in the end.
LONGEST = (
    "test_sweep",
    "test_end_to_end",
    "test_several_processes",
    "test_interruptions",
    "test_kills",
    "test_sequences",
    "test_loop",
)


def pytest_collection_modifyitems(items):
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(LONGEST)))


@pytest.fixture(scope="session")
def shared(tmp_path_factory) -> pathlib.Path:
    """A folder of the whole test run, which its processes share."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session", autouse=True)
def cache(shared, tmp_path_factory):
    """Inputs data of this process, apart from the user's own and from what other tests do to theirs."""
    # What is compiled is compiled once for all tests: in processes of the command line, and in this one.
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(shared / "compiled")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"
    jax.config.update("jax_compilation_cache_dir", str(shared / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    with once(shared / "prepared") as new:
        if new:
            os.environ["POISON_SCALING_CACHE"] = str(new)
            Inputs(load(SMOKE))
    folder = tmp_path_factory.mktemp("cache")
    shutil.copytree(shared / "prepared", folder, dirs_exist_ok=True)
    os.environ["POISON_SCALING_CACHE"] = str(folder)
    return folder


@pytest.fixture(scope="session")
def study(cache) -> Study:
    """configs/smoke.py as it is."""
    return load(SMOKE)


@pytest.fixture(scope="session")
def inputs(study) -> Inputs:
    """What the runs of configs/smoke.py read."""
    return Inputs(study)


@pytest.fixture(scope="session")
def smoke(shared, cache) -> tuple[pathlib.Path, dict[str, str]]:
    """The folder of configs/smoke.py, complete, two runs at a time; "stdout" and "stderr" of its process.

    It is for all tests: none changes it.
    """
    with once(shared / "smoke") as new:
        if new:
            process = run_cli("study", SMOKE, "--workdir", new / "study", "--jobs", 2)
            said = {"stdout": process.stdout, "stderr": process.stderr}
            (new / "said.json").write_text(json.dumps(said))
    return shared / "smoke" / "study", json.loads((shared / "smoke" / "said.json").read_text())
