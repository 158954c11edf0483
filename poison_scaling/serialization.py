"""Frozen dataclasses to JSON and back, with the types of their fields; a hash of them for every machine.

The JSON of a dataclass is an object of its fields, and its class as `kind`. This file knows no dataclass in
particular; three things one may say of itself: that other files may extend it (`extensible`), what a whole
number stands for in its place (a class method `from_int`), and what its fields may be (`ranges`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import functools
import hashlib
import json
import math
import pathlib
import sys
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any, Literal

from poison_scaling import user_code
from poison_scaling.errors import InputError, shown
from poison_scaling.ranges import LARGEST, Range

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
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
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
    source = user_code.digest(pathlib.Path(file))
    return {"kind": f"{cls.__module__}.{cls.__name__}", "source": source}


def stable_hash(value: Any) -> str:
    """16 hexadecimal digits of SHA-256 over the canonical JSON: the same on every machine."""
    text = json.dumps(to_json(value), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


# -------------------------------------------------------------------------------------------- from JSON


class Written(str):
    """A value as someone wrote it, and the literal that it spells: where text is meant, "0x10" is not 16."""

    def __new__(cls, text: str, literal: Any) -> Written:
        written = super().__new__(cls, text)
        written.literal = literal
        return written


def from_json(value: Any, hint: Any, where: str = "") -> Any:
    """`value`, JSON or a Python literal, as the type `hint`: a dataclass, or what a field of one can be.

    Raises InputError when it is none, or out of range: `where`, the dotted name of the field, its value, and
    what would be right.
    """
    try:
        return _typed(value, hint)
    except _Misfit as e:
        parts = (where, ".".join(e.path), str(e))
        raise InputError(": ".join(part for part in parts if part)) from e


def checked(value: Any, where: str = "") -> Any:
    """A dataclass made in Python, with its fields as their types say: Python itself checks neither types nor
    ranges, and 20 becomes 20.0 where a float is meant, so that one study has one hash.

    Raises InputError as `from_json` does.
    """
    return from_json(to_json(value), type(value), where)


@functools.cache
def field_types(cls: type) -> dict[str, Any]:
    """The types of the fields of a dataclass, by name, without their ranges."""
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    """The types of the fields of a dataclass, by name, with their ranges."""
    try:
        hints = typing.get_type_hints(cls, include_extras=True)
    except (NameError, TypeError) as e:  # of a class of a user's
        raise InputError(f"{cls.__name__}: the types of its fields cannot be read: {e}.") from e
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
    if isinstance(value, Written):
        value = str(value) if _is_of(str, hint) else value.literal
    if origin is Annotated:
        plain, *limits = arguments
        with contextlib.suppress(_Misfit):
            typed = _typed(value, plain)
            if all(typed in limit for limit in limits if isinstance(limit, Range)):
                return typed
        raise _Misfit(f"{shown(value)} is not {_named(hint)}.")
    if origin in (typing.Union, types.UnionType):
        return _one_of(value, hint)
    if origin is tuple:
        return _several(value, hint)
    if hint in _EXTENSIBLE:
        return _extension(value, hint)
    if dataclasses.is_dataclass(hint):
        return _instance(value, hint)
    if origin is Literal:
        if value is None and "none" in arguments:
            return "none"  # which reads as nothing where it is a name
        if any(type(value) is type(known) and value == known for known in arguments):
            return value
        raise _Misfit(f"{shown(value)} is none of {', '.join(map(repr, arguments))}.")
    if type(value) is int and abs(value) > LARGEST:
        raise _Misfit(f"{shown(value)} is beyond 64 bits; give a smaller number.")
    if hint is float and type(value) is int:
        value = float(value)
    if hint is str and type(value) in (int, float, bool):
        value = str(value)  # a name may look like a number
    if type(value) is not hint:
        raise _Misfit(f"{shown(value)} is not {_named(hint)}.")
    if hint is float and not math.isfinite(value):
        raise _Misfit(f"{value} is not a finite number.")
    if hint is str and not _is_text(value):
        raise _Misfit(f"{shown(value)} cannot be encoded as UTF-8; it holds half a surrogate pair.")
    return value


def _is_of(plain: type, hint: Any) -> bool:
    """Whether a type is `plain`, whatever else it may be and whatever its range."""
    arguments = typing.get_args(hint) if typing.get_origin(hint) is not tuple else ()
    return hint is plain or any(_is_of(plain, part) for part in arguments)


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _several(value: Any, hint: Any) -> tuple:
    """`value` as a tuple; what is none stands for a tuple of itself."""
    arguments = typing.get_args(hint)
    items = value if isinstance(value, (tuple, list)) else (value,)
    if arguments[-1] is Ellipsis:
        arguments = (arguments[0],) * len(items)
    if len(items) != len(arguments):
        raise _Misfit(f"{shown(value)} must have {len(arguments)} parts.")
    pairs = zip(items, arguments, strict=True)
    return tuple(_part(str(i), item, of) for i, (item, of) in enumerate(pairs))


def _one_of(value: Any, union: Any) -> Any:
    """`value` as the option that its `kind` names, or else as the first that it fits."""
    options = typing.get_args(union)
    kind = value.get("kind", value) if isinstance(value, dict) else value
    for option in options:
        if dataclasses.is_dataclass(option) and isinstance(kind, str) and option.__name__ == kind:
            return _instance(value, option)  # whose sentence says more, if it does not fit
    misfits = []
    for option in options:
        try:
            return _typed(value, option)
        except _Misfit as e:
            misfits.append(e)
    deeper = [misfit for misfit in misfits if misfit.path]
    if len(deeper) == 1:  # such as a part of a tuple, where none would do as well
        raise deeper[0]
    raise _Misfit(f"{shown(kind)} is not {_named(union)}.")


_NAMES = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    types.NoneType: "none",
}


def _named(hint: Any) -> str:
    """What is of this type, for a sentence."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(_named, arguments))
    if origin is Literal:
        return " or ".join(map(repr, arguments))
    if origin is Annotated:
        limits = " and ".join(str(limit) for limit in arguments[1:] if isinstance(limit, Range))
        return f"{_named(arguments[0])} {limits}".strip()
    if origin is tuple:
        return "a list" if arguments[-1] is Ellipsis else f"a list of {len(arguments)}"
    return _NAMES.get(hint) or (str(hint) if arguments else hint.__name__)


def _extension(value: Any, base: type) -> Any:
    """A class that extends `base`, from its name, or from a dict of its fields and `kind`: one of the file
    of `base`, or "module.Class" of a user's; see `user_code.module`.
    """
    noun = base.__name__.lower()
    fields = dict(value) if isinstance(value, dict) else {"kind": value}
    kind, source = fields.pop("kind", _EXTENSIBLE[base]), fields.pop("source", None)
    if not isinstance(kind, str):
        raise _Misfit(f"{shown(kind)} is not an {noun}.")
    what = f"{noun} {shown(kind)}"
    module, _, name = kind.rpartition(".")
    found = user_code.module(module or base.__module__, source, what)
    # As it stands there: a `__getattr__` of the module might import others.
    cls = vars(found).get(name)
    if not (isinstance(cls, type) and issubclass(cls, base)) or cls is base:
        known = [c.__name__ for c in base.__subclasses__() if c.__module__ == base.__module__]
        raise _Misfit(
            f"{shown(kind)} is not an {noun}; there are {', '.join(known)}, and your own as 'module.Class'."
        )
    if source not in (None, _kind(cls).get("source")):
        raise user_code.changed(what, pathlib.Path(sys.modules[cls.__module__].__file__))
    return _instance({**fields, "kind": name}, cls)


def _instance(value: Any, cls: type) -> Any:
    """A dataclass from its name, or from a dict of its fields, in which `kind` may be its name."""
    if type(value) is int and hasattr(cls, "from_int"):
        value = to_json(cls.from_int(value))
    given = value if isinstance(value, dict) else {"kind": value}
    kind = given.get("kind", cls.__name__)
    if not isinstance(kind, str) or kind != cls.__name__:
        raise _Misfit(f"{shown(kind)} is not {cls.__name__}.")
    hints = _hints(cls)
    fields = {}
    for name, part in given.items():
        if name == "kind":
            continue
        if name not in hints:
            near = difflib.get_close_matches(str(name)[:100], hints, n=1, cutoff=0.0)
            there = f"the nearest is {near[0]!r}" if near else "it has none"
            raise _Misfit(f"{shown(name)} is not a field of {cls.__name__}; {there}.")
        fields[name] = _part(name, part, hints[name])
    for field in dataclasses.fields(cls):
        required = field.default is field.default_factory is dataclasses.MISSING
        if required and field.name not in fields:
            raise _Misfit(f"{cls.__name__} needs {field.name!r}.")
    try:
        return cls(**fields)
    except (TypeError, ValueError) as e:  # of a check of its own
        raise _Misfit(str(e)) from e
