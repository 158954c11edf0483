"""Frozen dataclasses to JSON and back, with the types of their fields; a hash of them for every machine.

The JSON of a dataclass is an object of its fields, and its class as `kind`. This file knows no dataclass in
particular; two things one may say of itself: that other files may extend it (`extensible`), and what a whole
number stands for in its place (a class method `from_int`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import functools
import hashlib
import importlib
import json
import pathlib
import sys
import types
import typing
from collections.abc import Callable
from typing import Any, Literal

from poison_scaling.errors import InputError

_EXTENSIBLE: dict[
    type, str
] = {}  # base -> name of the class beside it that is meant without a kind


def extensible(default: str) -> Callable[[type], type]:
    """Decorates a dataclass that classes of other files may extend; see `_kind`.

    In its place may stand any class that extends it, and `default`, of the same file, where none is named.
    """

    def declare(base: type) -> type:
        _EXTENSIBLE[base] = default
        return base

    return declare


# ---------------------------------------------------------------------------------- to JSON, and hashes


def to_json(value: Any) -> Any:
    """The plain JSON value of a dataclass, of what a field of one holds, or of several by name.

    Raises InputError for a class that extends one of ours and that no other process could import.
    """
    if dataclasses.is_dataclass(value):
        fields = {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {**_kind(type(value)), **fields}
    if isinstance(value, (tuple, list)):
        return [to_json(v) for v in value]
    if isinstance(value, dict):
        return {name: to_json(v) for name, v in value.items()}
    return value


@functools.cache
def _kind(cls: type) -> dict[str, str]:
    """What names a dataclass. One that extends ours from another file has its module before it, and the
    SHA-256 of that file beside it: what such a class does is written there.
    """
    base = next((c for c in cls.__mro__ if c in _EXTENSIBLE), cls)
    if cls.__module__ == base.__module__:
        return {"kind": cls.__name__}
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    if file is None or cls.__module__ == "__main__":
        raise InputError(
            f"{base.__name__.lower()} {cls.__name__}: other processes cannot import what defines it; move it "
            "to a file beside the study's and import it from there."
        )
    source = pathlib.Path(file).read_bytes()
    return {
        "kind": f"{cls.__module__}.{cls.__name__}",
        "source": hashlib.sha256(source).hexdigest(),
    }


def stable_hash(value: Any) -> str:
    """16 hexadecimal digits of SHA-256 over the canonical JSON: the same on every machine."""
    text = json.dumps(to_json(value), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


# -------------------------------------------------------------------------------------------- from JSON


def from_json(value: Any, hint: Any, where: str = "") -> Any:
    """`value`, JSON or a Python literal, as the type `hint`: a dataclass, or what a field of one can be.

    Raises InputError when it is none: `where`, the dotted name of the field, and what is wrong with it.
    """
    try:
        return _typed(value, hint)
    except _Misfit as e:
        parts = (where, ".".join(e.path), str(e))
        raise InputError(": ".join(part for part in parts if part)) from e


def field_types(cls: type) -> dict[str, Any]:
    """The types of the fields of a dataclass, by name."""
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


class _Misfit(Exception):
    """A value is not of its type: a sentence why, and the names of fields that lead to the value."""

    def __init__(self, sentence: str, *path: str):
        super().__init__(sentence)
        self.path = path


def _part(name: str, value: Any, hint: Any) -> Any:
    """`value`, a part of another called `name`, as the type `hint`."""
    try:
        return _typed(value, hint)
    except _Misfit as e:
        raise _Misfit(str(e), name, *e.path) from e


def _typed(value: Any, hint: Any) -> Any:
    """`value` as the type `hint`; raises _Misfit where it is none."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _one_of(value, hint)
    if origin is Literal:
        if value is None and "none" in arguments:
            return "none"  # which reads as nothing where it is a name
        if value not in arguments:
            raise _Misfit(f"{value!r} is none of {', '.join(map(repr, arguments))}.")
        return value
    if origin is tuple:
        items = value if isinstance(value, (tuple, list)) else (value,)
        if arguments[-1] is Ellipsis:
            arguments = (arguments[0],) * len(items)
        if len(items) != len(arguments):
            raise _Misfit(f"{value!r} must have {len(arguments)} parts.")
        pairs = zip(items, arguments, strict=True)
        return tuple(_part(str(i), item, of) for i, (item, of) in enumerate(pairs))
    if hint in _EXTENSIBLE:
        return _extension(value, hint)
    if dataclasses.is_dataclass(hint):
        if type(value) is int and hasattr(hint, "from_int"):
            return hint.from_int(value)
        return _instance(value, hint)
    if hint is float and type(value) is int:
        return float(value)
    if hint is str and value is not None:
        return str(value)  # a name may look like a number
    if type(value) is not hint:
        raise _Misfit(f"{value!r} is not {_named(hint)}.")
    return value


def _one_of(value: Any, union: Any) -> Any:
    """`value` as the option that its `kind` names, or else as the first that it fits."""
    options = typing.get_args(union)
    kind = value.get("kind", value) if isinstance(value, dict) else value
    for option in options:
        if dataclasses.is_dataclass(option) and option.__name__ == kind:
            return _instance(value, option)  # whose sentence says more, if it does not fit
    for option in options:
        with contextlib.suppress(_Misfit):
            return _typed(value, option)
    raise _Misfit(f"{kind!r} is not {_named(union)}.")


def _named(hint: Any) -> str:
    """What is of this type, for a sentence."""
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join(map(_named, arguments))
    if typing.get_origin(hint) is Literal:
        return " or ".join(map(repr, arguments))
    if hint is type(None):
        return "none"
    return str(hint) if arguments else hint.__name__


def _extension(value: Any, base: type) -> Any:
    """A class that extends `base`, from its name, or from a dict of its fields and `kind`: one of the file
    of `base`, or "module.Class" of any that can be imported.
    """
    noun = base.__name__.lower()
    fields = dict(value) if isinstance(value, dict) else {"kind": value}
    kind = str(fields.pop("kind", _EXTENSIBLE[base]))
    source = fields.pop("source", None)
    module, _, name = kind.rpartition(".")
    try:
        cls = getattr(importlib.import_module(module or base.__module__), name, None)
    except ImportError as e:
        raise InputError(
            f"{noun} {kind!r}: {e}; put the folder of its file into the environment variable PYTHONPATH."
        ) from e
    except Exception as e:
        raise InputError(f"{noun} {kind!r}: its file fails with {type(e).__name__}: {e}") from e
    if not (isinstance(cls, type) and issubclass(cls, base)) or cls is base:
        known = [c.__name__ for c in base.__subclasses__() if c.__module__ == base.__module__]
        raise _Misfit(
            f"{kind!r} is not an {noun}; there are {', '.join(known)}, and your own as 'module.Class'."
        )
    if source not in (None, _kind(cls).get("source")):
        raise InputError(
            f"{noun} {kind!r}: {sys.modules[cls.__module__].__file__} is not the file that it was when this "
            "study was made; bring that version back."
        )
    return _instance({**fields, "kind": name}, cls)


def _instance(value: Any, cls: type) -> Any:
    """A dataclass from its name, or from a dict of its fields, in which `kind` may be its name."""
    given = value if isinstance(value, dict) else {"kind": value}
    if given.get("kind", cls.__name__) != cls.__name__:
        raise _Misfit(f"{given['kind']!r} is not {cls.__name__}.")
    hints = field_types(cls)
    fields = {}
    for name, part in given.items():
        if name == "kind":
            continue
        if name not in hints:
            near = difflib.get_close_matches(str(name), hints, n=1, cutoff=0.0)
            there = f"the nearest is {near[0]!r}" if near else "it has none"
            raise _Misfit(f"{name!r} is not a field of {cls.__name__}; {there}.")
        fields[name] = _part(name, part, hints[name])
    for field in dataclasses.fields(cls):
        required = field.default is field.default_factory is dataclasses.MISSING
        if required and field.name not in fields:
            raise _Misfit(f"{cls.__name__} needs {field.name!r}.")
    try:
        return cls(**fields)
    except (TypeError, ValueError) as e:  # of a check of its own
        raise _Misfit(str(e)) from e
