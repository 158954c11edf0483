"""Study files, which define a function `study() -> Study`, and overrides of fields by dotted name."""

from __future__ import annotations

import ast
import pathlib
import re
import runpy
import stat
import warnings
from collections.abc import Sequence
from typing import Any

from poison_scaling.config import serialization, user_code
from poison_scaling.runtime.errors import InputError, shown
from poison_scaling.study.settings import Study


def load(path: str, overrides: Sequence[str] = ()) -> Study:
    """Return the study that a file describes, with `name=value` overrides applied in order.

    The file may import others beside it, such as one with your own attack. Raises InputError if the file
    cannot be read or run or does not define `study()`, or if an override is invalid.
    """
    where = f"config {shown(str(path))}"
    file = pathlib.Path(path)
    _require_file(file, where)
    user_code.find_beside(file)
    with user_code.running(where):
        defined = runpy.run_path(str(file))
        if not callable(defined.get("study")):
            raise InputError(f"{where}: it must define a function study() -> Study.")
        study = defined["study"]()
        if not isinstance(study, Study):
            raise InputError(
                f"{where}: study() returned {type(study).__name__}; it must return a Study."
            )
        record = serialization.to_json(study)
    return override(serialization.from_json(record, Study, where), overrides)


def _require_file(file: pathlib.Path, where: str) -> None:
    """Raise InputError unless the file is a regular one: reading a pipe might wait forever."""
    try:
        found = file.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{where}: no such file.") from None
    except (OSError, ValueError) as e:
        raise InputError(f"{where}: {getattr(e, 'strerror', None) or e}.") from e
    if not stat.S_ISREG(found.st_mode):
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "no regular file"
        raise InputError(f"{where}: it is {kind}; give the study's Python file.")


def override(study: Study, overrides: Sequence[str]) -> Study:
    """Return the study with `name=value` overrides applied in order. Raises InputError if one is invalid.

    `name` is the dotted path to a field, with indices from 0 for the items of a tuple: "ladder.1.size".
    """
    for text in overrides:
        name, equals, value = text.partition("=")
        where = f"--set {shown(text)}"
        if not equals:
            raise InputError(f"{where}: write it as name=value.")
        record = serialization.to_json(study)
        _set(record, name.strip().split("."), _written(value.strip()), where)
        study = serialization.from_json(record, Study, where)
    return study


def _set(record: Any, path: list[str], new: Any, where: str) -> None:
    """Set the value at `path` in JSON. Unknown names are left to `from_json`, which reports them."""
    for place, name in enumerate(path):
        last = place == len(path) - 1
        if isinstance(record, list):
            if not re.fullmatch("[0-9]{1,9}", name) or int(name) >= len(record):
                raise InputError(
                    f"{where}: {shown(name)} is not a position; there are {len(record)}, counted from 0."
                )
            name = int(name)
        elif not isinstance(record, dict):
            raise InputError(f"{where}: there is nothing named {shown(name)} below a plain value.")
        elif not last:
            record.setdefault(name, {})
        if last:
            record[name] = new
        else:
            record = record[name]


def _written(text: str) -> Any:
    """Return the Python or JSON literal that `text` spells, or else the text itself."""
    literal = _literal(text)
    return (
        literal
        if literal is None or isinstance(literal, str)
        else serialization.Written(text, literal)
    )


def _literal(text: str) -> Any:
    named = {"true": True, "false": False, "null": None, "none": None}
    if text.lower() in named:
        return named[text.lower()]
    try:
        with warnings.catch_warnings(action="ignore"):  # about text that resembles Python
            return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):  # nested too deeply
        return text
