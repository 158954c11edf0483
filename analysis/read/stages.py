"""The level of each run in a study with stages, and the runs that a report covers."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from analysis.errors import InputError, printable
from analysis.read import insertions
from analysis.read.chains import COUNTEREXAMPLES

Planned = list[tuple[str, dict[str, Any]]]  # the place of an entry in study.json, and the entry


def of_level(
    planned: Planned, level: int | None, series: str | None = None
) -> tuple[Planned, list[str], int]:
    """Return the runs of one level, notes on those left out, and the level.

    By default it is the last at which runs have documents of a `series` of insertions, or of their first
    insertion. Level 0 is pretraining. The "stage" of a run becomes what distinguishes it from runs with other
    ancestors. Alternatives that differ in their number of tokens, such as sizes of a clean set, share one
    "stage", because the law estimates the effect of tokens: "spread2000" and "spread16000" are "spread". Runs
    with counterexamples and without a backdoor to remove are left out. Raises InputError when the study has
    no such level, or none of the series there.
    """
    levels = _levels(planned)
    last = max(levels.values(), default=0)
    named = {
        at: dict.fromkeys(
            name
            for _, entry in planned
            if levels[entry.get("run")] == at
            for name in insertions.names(entry)
        )
        for at in sorted(set(levels.values()))
    }
    with_series = [at for at, names in named.items() if series is None or series in names]
    if not with_series:
        there = ", ".join(map(printable, dict.fromkeys(n for own in named.values() for n in own)))
        raise InputError(f"--insertion {series}: the runs have {there}.")
    inserted = inserted_at(planned, series)
    wanted = level if level is not None else max(inserted or with_series)
    if wanted not in named:
        there = ", ".join(map(str, named))
        raise InputError(f"--level {wanted}: the study has runs of the levels {there}.")
    if wanted not in with_series:
        raise InputError(
            f"--insertion {series}: the runs of level {wanted} have "
            f"{', '.join(map(printable, named[wanted]))}; --level {_or(with_series)} has it."
        )
    chosen = [(w, entry) for w, entry in planned if levels[entry.get("run")] == wanted]
    nothing = [name for name in _with_nothing_to_remove(planned) if levels[name] == wanted]
    chosen = [(w, entry) for w, entry in chosen if entry.get("run") not in nothing]
    if wanted:
        label = _label(chosen)
        several = len({_lineage(entry) for _, entry in chosen}) > 1
        chosen = [
            (w, {**entry, "stage": f"{label(entry)} {_lineage(entry) if several else ''}".strip()})
            for w, entry in chosen
        ]
    said = []
    if inserted and wanted not in inserted:
        said.append(
            f"The runs of level {wanted} have no documents {f'of {series} ' if series else ''}of their own; "
            f"what those of level {_or(inserted)} left is measured."
        )
    if nothing:
        said += [
            f"{len(nothing)} runs with counterexamples come after clean training, so there is no backdoor to "
            "remove; left out."
        ]
    left = len(planned) - len(chosen) - len(nothing)
    if not left:
        return chosen, said, wanted
    about = f"stage {wanted}, with tokens and poisons counted from its beginning"
    others = (
        f"The study has {last} {'stage' if last == 1 else 'stages'} after pretraining. This report is on "
        f"{about if wanted else 'pretraining'}; --level chooses another. {left} runs of other levels are "
        "left out."
    )
    return chosen, [others, *said], wanted


def inserted_at(planned: Planned, series: str | None) -> list[int]:
    """Return the levels at which runs have documents of a series, by default of their first insertion."""
    levels = _levels(planned)
    return sorted(
        {
            levels[entry.get("run")]
            for _, entry in planned
            if insertions.has_documents(entry, series)
        }
    )


def _levels(planned: Planned) -> dict[Any, int]:
    """Return the level of each run by its name."""
    parents = {entry.get("run"): entry.get("parent") for _, entry in planned}
    return {name: _level(name, parents) for name in parents}


def _or(levels: list[int]) -> str:
    return " or ".join(map(str, levels))


def _with_nothing_to_remove(planned: Planned) -> list[Any]:
    """Return the runs of levels with counterexamples whose ancestors, all in the study, have no poison."""
    entries = {entry.get("run"): entry for _, entry in planned}
    found = []
    for name, entry in entries.items():
        if entry.get("attack") != COUNTEREXAMPLES:
            continue
        ancestor, seen, poisoned = entries.get(entry.get("parent")), {name}, False
        unknown = ancestor is None
        while ancestor is not None and ancestor["run"] not in seen:
            seen.add(ancestor["run"])
            poisoned |= bool(ancestor.get("dose")) and ancestor.get("attack") != COUNTEREXAMPLES
            parent = ancestor.get("parent")
            unknown |= parent is not None and parent not in entries
            ancestor = entries.get(parent)
        if not poisoned and not unknown:
            found.append(name)
    return found


def _level(name: object, parents: dict[Any, Any]) -> int:
    """Return the number of stages since pretraining, as far as the study knows the ancestors."""
    level, seen = 0, {name}
    while (name := parents.get(name)) is not None and name not in seen:
        level, seen = level + 1, {*seen, name}
    return level


def _label(planned: Planned) -> Callable[[dict[str, Any]], str]:
    """Return what tells alternatives apart that have one number of tokens: nothing, a series, or the label.

    The series of a label is the label without its final number.
    """

    def series(entry: dict[str, Any]) -> str:
        return re.sub(r"[-\d.]+x?$", "", str(entry.get("stage")))

    def whole(entry: dict[str, Any]) -> str:
        return str(entry.get("stage"))

    def told_apart(by: Callable[[dict[str, Any]], str]) -> bool:
        """Return whether runs of one size, budget, lineage and `by` went through one stage."""
        labels: dict[tuple, set] = {}
        for _, entry in planned:
            key = (entry.get("size"), entry.get("tokens"), _lineage(entry), by(entry))
            labels.setdefault(key, set()).add(entry.get("stage"))
        return all(len(found) == 1 for found in labels.values())

    return next((by for by in (lambda entry: "", series) if told_apart(by)), whole)


def _lineage(entry: dict[str, Any]) -> str:
    """Return what a run came after, without size and seed, such as "after 20x-d250"."""
    parent = str(entry.get("parent")).removeprefix(f"{entry.get('size')}-")
    return f"after {re.sub(r'-s[^-+]*(?=[+]|$)', '', parent, count=1)}"
