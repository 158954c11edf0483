"""What is imported: rooms only from rooms before them, TensorFlow and JAX only where they work."""

import ast
import pathlib
import subprocess
import sys

import pytest

from tests.support.runs import ROOT, SMOKE

PACKAGE = ROOT / "poison_scaling"
# Each imports only from those before it, and from itself.
ROOMS = (
    *("runtime", "config", "filters", "formats", "model", "data", "evaluate", "attacks", "study"),
    *("train", "workdir", "interchange", "cli"),
)
# By every room; the rest of the analysis by the last alone.
SHARED_WITH_ANALYSIS = ("analysis.errors", "analysis.files", "analysis.fit.estimates")
# An adaptive study chooses its runs by the analysis of those so far.
ADAPTIVE = ("analysis.design", "analysis.fit.words", "analysis.read")

WITHOUT = """
import importlib.abc, sys

missing = set(sys.argv.pop(1).split(","))

class Refusing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in missing:
            # Nothing that takes an ImportError for a package that is not installed gets past this.
            raise AssertionError(f"{name} is imported")

sys.meta_path.insert(0, Refusing())
from poison_scaling import cli
try:
    cli.main()
finally:
    found = missing & {name.partition(".")[0] for name in sys.modules}
    assert not found, found
"""


def run_without(packages: str, *arguments) -> None:
    """Run `poison-scaling ARGUMENTS` in a process in which importing any of these packages is an error."""
    process = subprocess.run(
        [sys.executable, "-c", WITHOUT, packages, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
    )
    assert process.returncode == 0, process.stdout + process.stderr


def test_training_on_prepared_data_imports_neither_tensorflow_nor_seqio(inputs, tmp_path):
    name = "40k-2x-d8-s0"
    arguments = ("train", SMOKE, "--workdir", tmp_path, "--run", name)
    run_without("tensorflow,tensorflow_text,tensorflow_datasets,seqio", *arguments)
    assert (tmp_path / "runs" / name / "DONE").exists()


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_a_plan_imports_neither_jax_nor_tensorflow(more):
    run_without("jax,jaxlib,flax,tensorflow,seqio", "plan", SMOKE, *more)


# -------------------------------------------------------------------------------------- rooms


def test_every_module_is_in_a_room():
    files = PACKAGE.glob("*.py")
    folders = (path for path in PACKAGE.iterdir() if path.is_dir() and list(path.rglob("*.py")))
    assert {path.stem for path in (*files, *folders)} - {"__init__"} == set(ROOMS)


def test_every_room_imports_only_from_rooms_before_it():
    wrong = []
    for file, line, module in imports():
        own, (package, *below) = room(file), module.split(".")
        allowed = ROOMS[: ROOMS.index(own) + 1]  # no public names: they are of any room
        if package == "poison_scaling" and (not below or below[0] not in allowed):
            wrong.append(f"{file}:{line}: {own} imports {module}")
    assert not wrong, "\n".join(wrong)


def test_data_imports_nothing_of_models():
    assert not [where for *where, m in imports("data") if within(m, "poison_scaling.model")]


def test_only_the_command_line_imports_the_analysis():
    wrong = [
        f"{file}:{line}: {module}"
        for file, line, module in imports()
        if within(module, "analysis")
        and room(file) != "cli"
        and not any(within(module, shared) for shared in SHARED_WITH_ANALYSIS)
        and not (file.stem == "adaptive" and any(within(module, own) for own in ADAPTIVE))
    ]
    assert not wrong, "\n".join(wrong)


def test_imports_are_seen_wherever_they_stand():
    source = """
from __future__ import annotations
import numpy as np, poison_scaling.train.loop
if TYPE_CHECKING:
    from poison_scaling.study import grid, run as r
def f():
    from ..data.stream import Stream
    from . import sharding
    from poison_scaling import Study
"""
    file = PACKAGE / "model" / "transformer.py"
    assert [module for _, module in imported(source, file)] == [
        "__future__.annotations",
        "numpy",
        "poison_scaling.train.loop",
        "poison_scaling.study.grid",
        "poison_scaling.study.run",
        "poison_scaling.data.stream.Stream",
        "poison_scaling.model.sharding",
        "poison_scaling.Study",
    ]


def imports(only: str | None = None) -> list[tuple[pathlib.Path, int, str]]:
    """Return file, line and full name of all that the rooms import, or one of them."""
    found = []
    for file in sorted(PACKAGE.rglob("*.py")):
        if file != PACKAGE / "__init__.py" and only in (None, room(file)):
            found += [(file.relative_to(ROOT), *of) for of in imported(file.read_text(), file)]
    assert found
    return found


def imported(source: str, file: pathlib.Path) -> list[tuple[int, str]]:
    """Return line and full name of every import of a file, in functions and for type checkers, too."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        if isinstance(node, ast.ImportFrom):
            folder = file.relative_to(ROOT).parts[: -node.level] if node.level else ()
            before = ".".join((*folder, *filter(None, [node.module])))
            found += [(node.lineno, f"{before}.{alias.name}") for alias in node.names]
    return sorted(found, key=lambda of: of[0])


def room(file: pathlib.Path) -> str:
    return file.parts[file.parts.index("poison_scaling") + 1].removesuffix(".py")


def within(module: str, other: str) -> bool:
    return module == other or module.startswith(f"{other}.")
