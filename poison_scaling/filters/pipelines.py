"""Chains of filters, as published pipelines have them, and filters by name."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Sequence

from poison_scaling.config import extensions, serialization
from poison_scaling.filters.c4 import C4
from poison_scaling.filters.dolma import Dolma, DolmaLines, Madlad
from poison_scaling.filters.duplicates import Duplicates
from poison_scaling.filters.filter import Decision, Filter, Judge, Scorer
from poison_scaling.filters.fineweb import FineWeb
from poison_scaling.filters.gopher import Gopher
from poison_scaling.filters.language import Language
from poison_scaling.filters.near_duplicates import NearDuplicates
from poison_scaling.filters.repeats import Repeats
from poison_scaling.filters.repetition import Repetition
from poison_scaling.runtime.errors import InputError, shown


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """Filters in the order in which documents pass them."""

    name: str
    filters: tuple[Filter, ...]
    about: str = ""  # where it is published, and what is left out here


PIPELINES = (
    Pipeline(
        "c4",
        (Language(), C4(), Duplicates()),
        "Raffel et al. 2020: without its list of words, and with exact duplicates of documents instead of "
        "spans of three sentences; fastText at 0.65 instead of langdetect at 0.99",
    ),
    Pipeline(
        "massivetext",
        (Gopher(), Repetition(), Duplicates(), NearDuplicates(ngram=13, bands=9, rows=13)),
        "Rae et al. 2021, appendix A.1: without its safe search filter",
    ),
    Pipeline(
        "fineweb",
        (
            *(Language(), Repetition(), Gopher(), C4(terminal_punctuation=False), FineWeb()),
            NearDuplicates(),
        ),
        "Penedo et al. 2024, and the example of datatrove: without lists of addresses",
    ),
    Pipeline(
        "dolma3",
        (
            *(Dolma(), Repetition(), DolmaLines(), Language(), Madlad(), Repeats()),
            *(Duplicates(), NearDuplicates(bands=9, rows=13)),
        ),
        "OLMo 3 (2025): without lists of addresses and expressions, the quality classifier, and duplicate "
        "substrings",
    ),
)
DEFAULT = (
    *("gopher", "repetition", "c4", "fineweb", "dolma", "dolma-lines"),
    *("madlad", "lang", "repeats", "dedup", "minhash", "ppl"),
)


def chain(filters: Sequence[Filter], scorer: Scorer | None = None) -> Chain:
    """Return a judge that passes documents through filters in order."""
    return Chain([(name_of(each), each.judge(scorer)) for each in filters])


class Chain:
    """A judge that passes documents through others, each with a name; later ones see what earlier ones leave.

    Names of rules are "name.rule". Judges after the one that removes a document do not see it.
    """

    def __init__(self, judges: list[tuple[str, Judge]]):
        self.judges = judges

    def __call__(self, texts: Sequence[str]) -> list[Decision]:
        decisions = [Decision((), text) for text in texts]
        for name, judge in self.judges:
            left = [i for i, decision in enumerate(decisions) if decision.is_kept]
            passed = judge([decisions[i].text for i in left]) if left else []
            for i, decision in zip(left, passed, strict=True):
                broken = tuple(f"{name}.{rule}" for rule in decision.broken)
                decisions[i] = Decision(broken, decision.text)
        return decisions


def name_of(filter: Filter) -> str:
    """Return the name of a filter on the command line."""
    return filter.name or type(filter).__name__


def filters(names: Iterable[str]) -> tuple[Pipeline, ...]:
    """Return each named filter as a pipeline of its own.

    Raises InputError for an unknown name, with the nearest. A class of the user's own is "module.Class".
    """
    known = {cls.name: cls for cls in extensions.built_in(Filter).values()}
    found = []
    for name in names:
        if "." in name:
            own = serialization.from_json(name, Filter, "--filters")
            found.append(Pipeline(name, (own,)))
            continue
        if name not in known:
            raise InputError(_unknown("--filters", name, known))
        found.append(Pipeline(name, (known[name](),)))
    return tuple(found)


def named(name: str, where: str) -> tuple[Filter, ...]:
    """Return the filters that a name stands for: that of a filter, or of a pipeline with all of its filters.

    A name of both needs the kind: "c4 filter" or "c4 pipeline". Raises InputError, which begins with `where`,
    for other names. A class of the user's own is "module.Class".
    """
    if "." in name:
        return (serialization.from_json(name, Filter, where),)
    single = {cls.name: (cls(),) for cls in extensions.built_in(Filter).values()}
    several = {pipeline.name: pipeline.filters for pipeline in PIPELINES}
    if name in single and name in several:
        passed = ", ".join(map(name_of, several[name]))
        raise InputError(
            f"{where}={name!r}: a filter and a pipeline have this name; write '{name} filter', or "
            f"'{name} pipeline' for {passed}."
        )
    known = {n: own for n, own in (single | several).items() if not (n in single and n in several)}
    known |= {f"{n} filter": own for n, own in single.items() if n not in known}
    known |= {f"{n} pipeline": own for n, own in several.items() if n not in known}
    if name not in known:
        raise InputError(_unknown(f"{where}:", name, known))
    return known[name]


def pipelines(names: Iterable[str]) -> tuple[Pipeline, ...]:
    """Return the named pipelines. Raises InputError for an unknown name, with the nearest."""
    known = {pipeline.name: pipeline for pipeline in PIPELINES}
    for name in (names := tuple(names)):
        if name not in known:
            raise InputError(_unknown("--pipelines", name, known))
    return tuple(known[name] for name in names)


def _unknown(option: str, name: str, known: Iterable[str]) -> str:
    known = list(known)
    [near] = difflib.get_close_matches(name[:100], known, n=1, cutoff=0.0)
    return f"{option} {shown(name)}: the nearest is {near!r}; there are {', '.join(known)}."
