"""Extension points: base classes whose subclasses a study may name.

There are eight: Insertion, and Attack within it, Measure, Schedule, Architecture, Corpus, Conversations,
Template and Filter. Each is a frozen dataclass with documented methods. A subclass in the package of its base
is built in, and a study names it by its class name alone. Any other subclass is the user's own: a study names
it as "module.Class", together with the SHA-256 of the file that defines it.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import pkgutil
from collections.abc import Callable, Iterator
from typing import Any, TypeVar


@dataclasses.dataclass(frozen=True)
class Point:
    """An extension point: what its classes are called, and the class to use if none is named."""

    noun: str
    default: str | None = None
    required: tuple[str, ...] = ()  # methods that a class must define

    @property
    def a_noun(self) -> str:
        return f"{'an' if self.noun[0] in 'aeiou' else 'a'} {self.noun}"


_POINTS: dict[type, Point] = {}
T = TypeVar("T")


def extensible(
    noun: str, required: tuple[str, ...], default: str | None = None
) -> Callable[[type[T]], type[T]]:
    """Declare a frozen dataclass to be the base of an extension point.

    `required` are the methods that subclasses must define; `default` is the built-in class to use if none is
    named by a study.
    """

    def declare(base: type[T]) -> type[T]:
        _POINTS[base] = Point(noun, default, required)
        return base

    return declare


def point(base: type) -> Point | None:
    """Return the extension point that `base` declares; None if it declares none."""
    return _POINTS.get(base)


def base_of(cls: type) -> type | None:
    """Return the base of the extension point that a class belongs to; None if it belongs to none."""
    return next((ancestor for ancestor in cls.__mro__ if ancestor in _POINTS), None)


def missing(cls: type, base: type) -> list[str]:
    """Return the names of required methods that a class does not define."""
    return [name for name in _POINTS[base].required if getattr(cls, name) is getattr(base, name)]


def is_built_in(cls: type, base: type) -> bool:
    """Whether a class is defined in the package of its base."""
    return cls.__module__.startswith(f"{_package(base)}.")


@functools.cache
def built_in(base: type) -> dict[str, Any]:
    """Return the built-in classes of an extension point by name: those in files of its base's package.

    One that lacks a required method is a base itself. They are in the order of their names, which does not
    depend on what was imported before.
    """
    package = importlib.import_module(_package(base))
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    own = (cls for cls in _descendants(base) if is_built_in(cls, base))
    return dict(sorted((cls.__name__, cls) for cls in own if not missing(cls, base)))


def _package(base: type) -> str:
    return base.__module__.rpartition(".")[0]


def _descendants(base: type) -> Iterator[type]:
    for cls in base.__subclasses__():
        yield cls
        yield from _descendants(cls)
