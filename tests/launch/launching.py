"""Fixtures of the tests of launch/: a clone to launch from, and a cloud. Named in their `pytest_plugins`."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.launch.cloud import Cloud

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def repository(tmp_path_factory):
    """A repository with a space in its name, that holds what a worker needs, and a command to run there."""
    root = tmp_path_factory.mktemp("launch") / "my clone"
    root.mkdir()
    for name in ("launch", "poison_scaling", "analysis", "configs"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "constraints.txt", "pyproject.toml", ".gitignore"):
        shutil.copy(ROOT / name, root / name)
    (root / "work.sh").write_text(WORK)
    (root / "trainer.py").write_text(TRAINER)
    for command in (
        ["init", "-q"],
        ["add", "-A"],
        ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "all"],
    ):
        subprocess.run(["git", "-C", root, *command], check=True)
    return root


# In place of poison-scaling train, where only who trains what matters: writes DONE after half a second.
TRAINER = """
import pathlib, sys, time
from poison_scaling.study import grid, study_file
from analysis.files import write_json
file, workdir, name = sys.argv[2], pathlib.Path(sys.argv[4]), sys.argv[-1]
with (workdir / "started").open("a") as f:
    f.write(name + "\\n")
time.sleep(0.5)
if (workdir / f"{name}.fails").exists():
    sys.exit(1)
run = grid.run_named(study_file.load(file), name)
write_json(workdir / "runs" / name / "DONE", {"hash": run.hash})
"""

# Counts to a number in a file, a twentieth of a second each, and resumes. A worker adds its name to
# FOLDER/started and FOLDER/finished. Exits with the code in FOLDER/code, once, if that is there.
WORK = """#!/bin/bash
set -e
folder=$1 most=$2
mkdir -p "$folder"
echo "$HOME" >> "$folder/started"
if [ -e "$folder/code" ]; then code=$(cat "$folder/code"); rm "$folder/code"; exit "$code"; fi
stop() { echo "$HOME" >> "$folder/interrupted"; exit 75; }
trap stop TERM
count=$folder/count-$(basename "$HOME")
if [ $# -gt 2 ]; then count=$folder/count-$3; fi
echo "working on $folder"
while true; do
  n=$(cat "$count" 2>/dev/null || echo 0)
  if [ "$n" -ge "$most" ]; then break; fi
  sleep 0.05 & wait $!
  echo $((n + 1)) > "$count.part"; mv "$count.part" "$count"
done
echo "$HOME" >> "$folder/finished"
"""


@pytest.fixture
def cloud(repository, tmp_path):
    """Makes a cloud from the words of what goes wrong, and ends whatever still runs in it."""
    made = []

    def make(**script) -> Cloud:
        made.append(Cloud(tmp_path / "cloud", repository, **script))
        return made[-1]

    yield make
    for each in made:
        for resource in each.resources():
            each.fake("preempt", resource["name"], "--hard")
