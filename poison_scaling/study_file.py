"""A study as a Python file with a function `study() -> Study`, and overrides of its fields by dotted name."""

from __future__ import annotations

import ast
import pathlib
import runpy
import sys
from collections.abc import Sequence
from typing import Any

from poison_scaling import serialization
from poison_scaling.config import Study
from poison_scaling.errors import InputError


def load(path: str, overrides: Sequence[str] = ()) -> Study:
    """The study that a file describes, with `name=value` overrides applied in order.

    The file may import others that lie beside it, such as one with an attack of your own. Raises InputError
    when the file cannot be read or run, does not define `study()`, or an override does not fit.
    """
    where = f"config {str(path)!r}"
    file = pathlib.Path(path)
    if not file.is_file():
        raise InputError(f"{where}: no such file.")
    beside = str(file.parent.resolve())
    if beside not in sys.path:
        sys.path.append(beside)  # last: no file there takes the place of an installed package
    try:
        defined = runpy.run_path(str(file))
        if "study" not in defined:
            raise InputError(f"{where}: it must define a function study() -> Study.")
        study = defined["study"]()
    except InputError:
        raise
    except Exception as e:
        raise InputError(f"{where}: {type(e).__name__}: {e}") from e
    if not isinstance(study, Study):
        raise InputError(
            f"{where}: study() returned {type(study).__name__}; it must return a Study."
        )
    # There and back, because Python does not check types: 20 where a float is meant becomes 20.0, so that
    # one study has one hash.
    study = serialization.from_json(serialization.to_json(study), Study, where)
    return override(study, overrides)


def override(study: Study, overrides: Sequence[str]) -> Study:
    """The study with `name=value` overrides applied in order; raises InputError when one does not fit.

    `name` leads to a field, through positions counted from 0 where there are several: "ladder.1.size".
    """
    for text in overrides:
        name, equals, value = text.partition("=")
        where = f"--set {text!r}"
        if not equals:
            raise InputError(f"{where}: write it as name=value.")
        record = serialization.to_json(study)
        _set(record, name.strip().split("."), _literal(value.strip()), where)
        study = serialization.from_json(record, Study, where)
    return study


def _set(record: Any, path: list[str], new: Any, where: str) -> None:
    """Set what `path` leads to in JSON; for a name that is not there `from_json` has a sentence."""
    name, *below = path
    if isinstance(record, list):
        if not name.isdecimal() or int(name) >= len(record):
            raise InputError(
                f"{where}: {name!r} is not a position; there are {len(record)}, counted from 0."
            )
        name = int(name)
    elif not isinstance(record, dict):
        raise InputError(f"{where}: there is nothing named {name!r} below a plain value.")
    elif below:
        record.setdefault(name, {})
    if below:
        _set(record[name], below, new, where)
    else:
        record[name] = new


def _literal(text: str) -> Any:
    """The Python or JSON literal that `text` is; otherwise the text itself."""
    named = {"true": True, "false": False, "null": None, "none": None}
    if text.lower() in named:
        return named[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError):
        return text
