"""Code of users: the file of a study, and files with classes of their own, such as an attack.

A folder of a study may come from anyone, and its study.json names such classes. So only what the user
pointed to is imported for a name: files beside a study file that was loaded, or in PYTHONPATH.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import os
import pathlib
import signal
import site
import sys
import sysconfig
import types
from collections.abc import Generator

from poison_scaling.runtime.errors import InputError, Signalled, shown

_beside_studies: list[pathlib.Path] = []


def find_beside(file: pathlib.Path) -> None:
    """From now on, modules that lie beside this study file can be imported."""
    folder = file.parent.resolve()
    _beside_studies.append(folder)
    if str(folder) not in sys.path:
        sys.path.append(str(folder))  # last: no file there takes the place of an installed package


@contextlib.contextmanager
def running(where: str) -> Generator[None]:
    """Within the block code of a user runs: what it prints goes to stderr, for stdout is for answers, and
    whatever it raises becomes an InputError that begins with `where`.
    """
    try:
        with _stdout_to_stderr():
            yield
    except (InputError, Signalled):
        raise
    except SystemExit as e:
        raise InputError(
            f"{where}: it calls sys.exit({shown(e.code)}), which would end the command; take that out."
        ) from e
    except KeyboardInterrupt as e:
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            raise  # it may well be Ctrl-C
        raise InputError(f"{where}: it raises KeyboardInterrupt; take that out.") from e
    except BaseException as e:
        said = " ".join(str(e).split())[:500]
        raise InputError(f"{where}: {type(e).__name__}{said and f': {said}'}") from e


@contextlib.contextmanager
def _stdout_to_stderr() -> Generator[None]:
    """Also of the processes that are started within the block."""
    if sys.__stdout__ is None:  # closed when Python started
        yield
        return
    sys.__stdout__.flush()
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        sys.__stdout__.flush()
        os.dup2(kept, 1)
        os.close(kept)


def module(name: str, source: str | None, what: str) -> types.ModuleType:
    """The module of that name: one that is imported already, or else a file that the user pointed to.

    `source` is the SHA-256 that the file must have, None for any; `what` is looked for, such as "attack
    'shout.Shout'". Raises InputError where there is none, and has imported nothing then.
    """
    if sys.modules.get(name) is not None:
        return sys.modules[name]
    file = _file(name)
    if file is None:
        raise InputError(
            f"{what}: no module {name!r} lies beside the study or in PYTHONPATH; put the folder of its file "
            "into the environment variable PYTHONPATH."
        )
    if source not in (None, digest(file)):
        raise changed(what, file)
    with running(f"{what}: {file}"):
        return importlib.import_module(name)


def digest(file: pathlib.Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def changed(what: str, file: pathlib.Path) -> InputError:
    return InputError(
        f"{what}: {file} is not the file that it was when this study was made; bring that version back."
    )


def _file(name: str) -> pathlib.Path | None:
    """The file that importing `name` would run, if it lies in a folder that the user pointed to."""
    first, *below = name.split(".")
    if not all(part.isidentifier() for part in (first, *below)):
        return None
    named = [
        pathlib.Path(p).resolve() for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p
    ]
    importlib.invalidate_caches()  # it may have been written a moment ago
    try:
        spec = importlib.util.find_spec(first)  # which imports nothing, for a name without a dot
    except (ImportError, ValueError):
        return None
    if spec is None or not (spec.has_location or spec.submodule_search_locations):
        return None
    for place in spec.submodule_search_locations or [spec.origin or ""]:
        folder = pathlib.Path(place).parent.resolve()
        if folder in (*named, *_beside_studies) and not _is_installed(folder):
            stem = folder.joinpath(first, *below)
            files = (stem / "__init__.py", stem.with_name(f"{stem.name}.py"))
            return next((file for file in files if file.is_file()), None)
    return None


def _is_installed(folder: pathlib.Path) -> bool:
    """Whether a folder holds the standard library or installed packages, whatever PYTHONPATH says."""
    paths = sysconfig.get_paths()
    homes = [paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    homes = [*homes, *site.getsitepackages(), site.getusersitepackages()]
    return any(folder == pathlib.Path(home).resolve() for home in homes)
