"""Fields of the JSON objects that a study writes."""

import math

from analysis.errors import InputError
from analysis.words import printable, shown


def number(
    record: dict, name: str, where: str, minimum: float = -math.inf, maximum: float = math.inf
) -> float:
    """Return a number within its limits.

    Raises:
      InputError: saying the limits, where the field holds none.
    """
    value = _finite(record.get(name))
    if value is None or not minimum <= value <= maximum:
        limits = f" from {minimum:g} to {maximum:g}" if math.isfinite(maximum) else ""
        limits = limits or (f" of at least {minimum:g}" if math.isfinite(minimum) else "")
        raise InputError(_not_expected(record, name, where, f"a number{limits}"))
    return value


def label(record: dict, name: str, where: str, default: str | None = None) -> str:
    """Return a text or number as printable text; `default`, if that is given, where there is none.

    Raises:
      InputError: where the field holds something else.
    """
    value = record.get(name, default)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise InputError(_not_expected(record, name, where, "text or a number"))
    return printable(str(value))


def labels(record: dict, name: str, where: str) -> dict[str, str]:
    """Return an object of texts and numbers as `label` does; an empty one where there is none.

    Raises:
      InputError: where the field holds something else.
    """
    values = record.get(name)
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise InputError(_not_expected(record, name, where, "a JSON object"))
    return {printable(key): label(values, key, f"{where}, field {name!r}") for key in values}


def objects(record: dict, name: str, where: str) -> list[tuple[str, dict]]:
    """Return a list of objects, each with the words that name its place.

    Raises:
      InputError: where the field holds something else, or nothing.
    """
    values = record.get(name)
    if not isinstance(values, list) or not values:
        raise InputError(_not_expected(record, name, where, "a list of objects, one a run"))
    for index, value in enumerate(values):
        if not isinstance(value, dict):
            raise InputError(f"{where}: {name}.{index} is {shown(value)}; expected an object.")
    return [(f"{where}, {name}.{index}", value) for index, value in enumerate(values)]


def steps(record: dict, name: str, where: str) -> list[int] | None:
    """Return ascending whole numbers; None where the field is not there.

    Raises:
      InputError: where it holds something else.
    """
    values = record.get(name)
    if values is None:
        return None
    whole = isinstance(values, list) and all(type(v) is int and 0 < v < 2**63 for v in values)
    if not whole or not values or values != sorted(set(values)):
        raise InputError(_not_expected(record, name, where, "ascending numbers of steps"))
    return values


def _finite(value) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:  # an integer beyond the largest float
        return None
    return number if math.isfinite(number) else None


def _not_expected(record: dict, name: str, where: str, expected: str) -> str:
    found = shown(record[name]) if name in record else "missing"
    return f"{where}: field {name!r} is {found}; expected {expected}."
