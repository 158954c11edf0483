"""Rooms of the analysis import downhill, and no room imports what trains models."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
# From the bottom to the top: each may import itself and those before it.
ROOMS = ("errors", "files", "read", "fit", "design", "measures", "report", "commands")
FORBIDDEN = {"jax", "jaxlib", "flax", "tensorflow", "seqio", "poison_scaling"}
HEAVY = {"scipy", "pandas", "matplotlib", "numpy"}


def imports(path: pathlib.Path) -> list[str]:
    """Return every imported module of a file, wherever the import stands, as an absolute name."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            # "from analysis import files" imports a module of that name.
            found += [module, *(f"{module}.{alias.name}" for alias in node.names)]
    return found


def files() -> list[pathlib.Path]:
    return sorted((ROOT / "analysis").rglob("*.py"))


def test_the_top_floor_holds_the_rooms_and_nothing_else():
    top = {p.stem for p in (ROOT / "analysis").iterdir() if p.suffix == ".py" or p.is_dir()}
    assert top - {"__init__", "__main__", "__pycache__"} == set(ROOMS)


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_run_downhill(path):
    parts = path.relative_to(ROOT / "analysis").with_suffix("").parts
    allowed = ROOMS[: ROOMS.index(parts[0]) + 1] if parts[0] in ROOMS else ROOMS
    allowed = () if parts[0] == "__init__" else allowed
    for name in imports(path):
        top, _, rest = name.partition(".")
        assert top not in FORBIDDEN, name
        if top == "analysis" and rest:
            assert rest.split(".")[0] in allowed, f"{path} imports {name}"


def test_no_module_is_imported_by_a_name_that_is_made_up_at_run_time():
    for path in files():
        text = path.read_text()
        assert "import_module(" not in text and "__import__(" not in text, path


@pytest.mark.parametrize(
    ("module", "absent"),
    [("analysis.files", FORBIDDEN | HEAVY), ("analysis.__main__", FORBIDDEN)],
)
def test_what_importing_it_loads(module, absent):
    code = f"import sys, {module}; print(*{absent} & set(sys.modules))"
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert process.stdout.strip() == ""
