"""Convert frozen dataclasses to JSON and back, guided by the types of their fields, and hash them.

A dataclass becomes a JSON object of its fields, with the name of its class as `kind`. This module knows no
particular dataclass. A dataclass may declare that it can be extended (`extensions`), what an integer in its
place stands for (a class method `from_int`), and the ranges of its fields (`ranges`).
"""

from __future__ import annotations

import collections.abc
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
from typing import TYPE_CHECKING, Annotated, Any, Literal

from poison_scaling.config import extensions, user_code
from poison_scaling.config.ranges import LARGEST, Range
from poison_scaling.runtime.errors import InputError, shown

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

# ---------------------------------------------------------------------------------- to JSON, and hashes

_ADDED = "left out of JSON at its default"


def added(default: Any, repr: bool = True) -> Any:
    """Return a field that a class gained later: JSON and hashes leave it out while it is at its default.

    So the hashes of studies that do not use it stay as they were. `repr` is as in `dataclasses.field`.
    """
    return dataclasses.field(default=default, repr=repr, metadata={_ADDED: True})


def to_json(value: Any) -> Any:
    """Return the JSON of a dataclass, of the value of a field, or of a dict of them.

    Raises InputError if the class of an extension cannot be imported by other processes.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {
            field.name: to_json(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if not (field.metadata.get(_ADDED) and getattr(value, field.name) == field.default)
        }
        return {**_kind(type(value)), **fields}
    if isinstance(value, (tuple, list)):
        return [to_json(v) for v in value]
    if isinstance(value, dict):
        return {name: to_json(v) for name, v in value.items()}
    return value


@functools.cache
def _kind(cls: type) -> dict[str, str]:
    """Return the `kind` of a dataclass and, if it is the user's own, the SHA-256 of its file."""
    base = extensions.base_of(cls)
    if base is None or extensions.is_built_in(cls, base):
        return {"kind": cls.__name__}
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    if file is None or cls.__module__ == "__main__":
        raise InputError(
            f"{_noun(base)} {cls.__name__}: other processes cannot import the file that defines it; move it "
            "to a file beside the study's and import it from there."
        )
    return {
        "kind": f"{cls.__module__}.{cls.__name__}",
        "source": user_code.digest(pathlib.Path(file)),
    }


def _noun(base: type) -> str:
    point = extensions.point(base)
    assert point is not None
    return point.noun


def stable_hash(value: Any) -> str:
    """Return the first 16 hex digits of the SHA-256 of the canonical JSON, the same on any machine."""
    text = json.dumps(to_json(value), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


# -------------------------------------------------------------------------------------------- from JSON


class Written(str):
    """A value as it was written, with the literal that it spells: for a field of text, "0x10" is not 16."""

    literal: Any

    def __new__(cls, text: str, literal: Any) -> Written:
        written = super().__new__(cls, text)
        written.literal = literal
        return written


def from_json(value: Any, hint: Any, where: str = "") -> Any:
    """Return `value`, JSON or a Python literal, as the type `hint`: a dataclass or a type of fields.

    Raises InputError if the value is not of that type or is out of range. The message starts with `where` and
    the dotted name of the field, and says what would be valid.
    """
    try:
        return _typed(value, hint)
    except _Misfit as e:
        parts = (where, ".".join(e.path), str(e))
        raise InputError(": ".join(part for part in parts if part)) from e


def checked(value: Any, where: str = "") -> Any:
    """Return a dataclass with its fields checked and converted to their types, as `from_json` does.

    Python itself checks neither types nor ranges. Equal studies get equal hashes, because 20 becomes 20.0 for
    a field of type float.
    """
    return from_json(to_json(value), type(value), where)


@functools.cache
def field_types(cls: type[DataclassInstance]) -> dict[str, Any]:
    """Return the types of the fields of a dataclass, by name, without their ranges."""
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


@functools.cache
def _hints(cls: type[DataclassInstance]) -> dict[str, Any]:
    """Return the types of the fields of a dataclass, by name, with their ranges."""
    try:
        hints = typing.get_type_hints(cls, include_extras=True)
    except (NameError, TypeError) as e:  # in the user's own class
        raise InputError(f"{cls.__name__}: the types of its fields cannot be read: {e}.") from e
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


class _Misfit(Exception):
    """A value does not match its type: a message, and the path of field names to the value."""

    def __init__(self, sentence: str, *path: str):
        super().__init__(sentence)
        self.path = path


def _part(name: str, value: Any, hint: Any) -> Any:
    """Return `value`, the part `name` of another value, as the type `hint`."""
    try:
        return _typed(value, hint)
    except _Misfit as e:
        raise _Misfit(str(e), name, *e.path) from e


def _typed(value: Any, hint: Any) -> Any:
    """Return `value` as the type `hint`. Raises _Misfit if it does not match."""
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
    if extensions.point(hint) if isinstance(hint, type) else None:
        return _extension(value, hint)
    if dataclasses.is_dataclass(hint):
        return _instance(value, hint)
    if origin is Literal:
        if value is None and "none" in arguments:
            return "none"  # the command line parses this name as None
        if any(type(value) is type(known) and value == known for known in arguments):
            return value
        raise _Misfit(f"{shown(value)} is none of {', '.join(map(repr, arguments))}.")
    if origin is collections.abc.Callable:
        raise _Misfit(
            f"{shown(value)} is code, which no setting can be; extend the class, and give it there."
        )
    if type(value) is int and abs(value) > LARGEST:
        raise _Misfit(f"{shown(value)} is beyond 64 bits; give a smaller number.")
    if hint is float and type(value) is int:
        value = float(value)
    if hint is str and type(value) in (int, float, bool):
        value = str(value)  # a name may look like a number
    if type(value) is not hint:
        raise _Misfit(f"{shown(value)} is not {_named(hint)}.")
    if isinstance(value, float) and not math.isfinite(value):
        raise _Misfit(f"{value} is not a finite number.")
    if isinstance(value, str) and not _is_text(value):
        raise _Misfit(f"{shown(value)} cannot be encoded as UTF-8; it holds half a surrogate pair.")
    return value


def _is_of(plain: type, hint: Any) -> bool:
    """Whether a type is `plain` or a union that contains it, whatever its ranges."""
    arguments = typing.get_args(hint) if typing.get_origin(hint) is not tuple else ()
    return hint is plain or any(_is_of(plain, part) for part in arguments)


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _several(value: Any, hint: Any) -> tuple:
    """Return `value` as a tuple; any other value stands for a tuple of one."""
    arguments = typing.get_args(hint)
    items = value if isinstance(value, (tuple, list)) else (value,)
    if arguments[-1] is Ellipsis:
        arguments = (arguments[0],) * len(items)
    if len(items) != len(arguments):
        raise _Misfit(f"{shown(value)} must have {len(arguments)} parts.")
    pairs = zip(items, arguments, strict=True)
    return tuple(_part(str(i), item, of) for i, (item, of) in enumerate(pairs))


def _one_of(value: Any, union: Any) -> Any:
    """Return `value` as the option that its `kind` names, or else as the first that it matches."""
    options = typing.get_args(union)
    kind = value.get("kind", value) if isinstance(value, dict) else value
    for option in options:
        if dataclasses.is_dataclass(option) and isinstance(kind, str) and option.__name__ == kind:
            return _instance(value, option)  # whose message says more if it does not match
    misfits = []
    for option in options:
        try:
            return _typed(value, option)
        except _Misfit as e:
            misfits.append(e)
    deeper = [misfit for misfit in misfits if misfit.path]
    if len(deeper) == 1:  # say what is wrong inside the only option with the right structure
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
    """Return a noun phrase for values of this type, for messages."""
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
    """Return an instance of a class that extends `base`, from its name or from a dict of fields and `kind`.

    The class is built in, or the user's own as "module.Class": see `user_code.module`.
    """
    point = extensions.point(base)
    assert point is not None
    fields = dict(value) if isinstance(value, dict) else {"kind": value}
    kind, source = fields.pop("kind", point.default), fields.pop("source", None)
    known = extensions.built_in(base)
    unknown = _Misfit(
        f"{shown(kind)} is not {point.a_noun}; there are {', '.join(known)}, and your own as 'module.Class'."
    )
    if not isinstance(kind, str):
        raise unknown
    module, _, name = kind.rpartition(".")
    if not module:
        if name not in known or source is not None:
            raise unknown
        return _instance({**fields, "kind": name}, known[name])
    what = f"{point.noun} {shown(kind)}"
    # Not getattr: a `__getattr__` of the module might import other modules.
    cls = vars(user_code.module(module, source, what)).get(name)
    if not (isinstance(cls, type) and issubclass(cls, base)) or cls is base:
        raise unknown
    if lacking := extensions.missing(cls, base):
        raise _Misfit(
            f"{what}: it must define {' and '.join(f'{method}()' for method in lacking)}; see "
            f"docs/howto/{point.noun.replace(' ', '-')}.md."
        )
    if source not in (None, _kind(cls).get("source")):
        raise user_code.changed(what, pathlib.Path(sys.modules[cls.__module__].__file__ or ""))
    return _instance({**fields, "kind": name}, cls)


def _instance(value: Any, cls: type[DataclassInstance]) -> Any:
    """Return a dataclass from its name, or from a dict of its fields, which may have its name as `kind`."""
    from_int = getattr(cls, "from_int", None)
    if type(value) is int and from_int:
        value = to_json(from_int(value))
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
    except (TypeError, ValueError) as e:  # from its own __post_init__
        raise _Misfit(str(e)) from e
