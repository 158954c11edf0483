"""The user's code: study files, and files with classes of their own, such as an attack.

The folder of a study may come from anyone, and its study.json names classes to import. So only files that the
user has pointed to are imported: those beside a study file that was loaded, or in PYTHONPATH.
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
    """Make the modules beside this study file importable from now on."""
    folder = file.parent.resolve()
    _beside_studies.append(folder)
    if str(folder) not in sys.path:
        sys.path.append(str(folder))  # last, so that no file there shadows an installed package


@contextlib.contextmanager
def running(where: str) -> Generator[None]:
    """Run the user's code in the block: its output goes to stderr, its exceptions become InputError.

    The message of the InputError begins with `where`. stdout is reserved for the output of the command.
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
            raise  # it may be Ctrl-C
        raise InputError(f"{where}: it raises KeyboardInterrupt; take that out.") from e
    except BaseException as e:
        said = " ".join(str(e).split())[:500]
        raise InputError(f"{where}: {type(e).__name__}{said and f': {said}'}") from e


@contextlib.contextmanager
def _stdout_to_stderr() -> Generator[None]:
    """Redirect stdout to stderr within the block, also that of processes started there."""
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
    """Return the module of that name, which is imported already or is a file that the user has pointed to.

    `source` is the SHA-256 that the file must have; None allows any. `what` begins messages, such as "attack
    'shout.Shout'". Raises InputError, without importing anything, if there is no such file.
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
    """Return the file that importing `name` would run; None unless the user has pointed to its folder."""
    first, *below = name.split(".")
    if not all(part.isidentifier() for part in (first, *below)):
        return None
    named = [
        pathlib.Path(p).resolve() for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p
    ]
    importlib.invalidate_caches()  # the file may have just been written
    try:
        spec = importlib.util.find_spec(first)  # which imports nothing for a name without a dot
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
