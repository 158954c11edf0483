"""Chains of stages: every run of a study with its ancestors, and success along the way.

A line of evals.jsonl has the success of the stage's own attack at its top level, and that of the attacks of
earlier stages under `also`, in the order in which they were first used.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from etils import epath

from analysis import files
from analysis.errors import InputError
from analysis.read.fields import number, text
from analysis.read.runs import quantity

PRETRAINING = "pretraining"
ANTIDOTE = "antidote"  # the attack that removes those of earlier stages


@dataclass(frozen=True)
class Leg:
    """One run of a chain: pretraining, or a stage."""

    run: str
    label: str  # of the stage
    attack: str  # whose poisons it has, if any
    dose: float
    tokens: float  # of this leg, as planned
    # tokens of this leg seen at each evaluation, and by attack the success rate there; shape [evaluations]
    seen: np.ndarray
    success: dict[str, np.ndarray]

    def end(self, attack: str) -> float | None:
        """Return the success rate of an attack at the last evaluation; None where it was not measured."""
        return float(self.success[attack][-1]) if attack in self.success else None


@dataclass(frozen=True)
class Chain:
    """A run with its ancestors, the oldest first."""

    size: str  # label of the rung, with its token budget where a size has several
    seed: str
    before: float  # tokens before the first leg, of a chain that starts in another study
    legs: tuple[Leg, ...]

    @property
    def run(self) -> str:
        """Return the name of the run at its end."""
        return self.legs[-1].run

    @property
    def labels(self) -> tuple[str, ...]:
        """Return the labels of its legs."""
        return tuple(leg.label for leg in self.legs)

    @property
    def path(self) -> tuple[tuple[str, float], ...]:
        """Return label and dose of each leg: what runs of different seeds have in common."""
        return tuple((leg.label, leg.dose) for leg in self.legs)

    @property
    def words(self) -> str:
        """Return the path in words, such as "pretraining (250) → clean"."""
        return " → ".join(f"{label} ({dose:g})" if dose else label for label, dose in self.path)

    def poisoned(self, attack: str) -> int | None:
        """Return the last leg with poisons of an attack, or with an antidote to them; None without any."""
        dosed = [(i, leg.attack) for i, leg in enumerate(self.legs) if leg.dose]
        first = next((i for i, own in dosed if own == attack), None)
        if first is None:
            return None
        return max(i for i, own in dosed if i >= first and own in (attack, ANTIDOTE))


def read(folder: epath.Path, planned: list[tuple[str, dict[str, Any]]]) -> tuple[Chain, ...]:
    """Return a chain for every run of a study folder; none when no run has a parent in the study.

    `planned` has the entries of study.json, each with the name of its place. Raises InputError, naming file,
    line and field, when an evals.jsonl cannot be used.
    """
    entries = {entry["run"]: (where, entry) for where, entry in planned}
    if not any(entry.get("parent") for _, entry in planned):
        return ()
    legs: dict[str, Leg] = {}
    known: dict[
        str, list[str]
    ] = {}  # by run: the attacks up to it, in the order of their first use
    chains = []
    roots: dict[str, set[float]] = {}
    for name, (where, entry) in entries.items():
        lineage = _lineage(name, entries)
        for own in lineage:
            if own not in legs:
                parent = entries[own][1].get("parent")
                legs[own], known[own] = _leg(folder, *entries[own], known.get(parent, []))
        root = entries[lineage[0]][1]
        size = text(root, "size", where)
        roots.setdefault(size, set()).add(legs[lineage[0]].tokens)
        begun = number(root, "chain_tokens", where, 0) if root.get("parent") else 0.0
        before = max(begun - legs[lineage[0]].tokens, 0.0)
        seed = text(entry, "seed", where)
        chains.append(Chain(size, seed, before, tuple(legs[own] for own in lineage)))
    return tuple(
        replace(chain, size=f"{chain.size}, {quantity(chain.legs[0].tokens)} tokens")
        if len(roots[chain.size]) > 1
        else chain
        for chain in chains
    )


def _lineage(name: str, entries: dict[str, tuple[str, dict[str, Any]]]) -> list[str]:
    """Return the run and its ancestors within the study, the oldest first."""
    found = [name]
    while (parent := entries[found[0]][1].get("parent")) in entries and parent not in found:
        found.insert(0, parent)
    return found


def _leg(
    folder: epath.Path, where: str, entry: dict[str, Any], before: list[str]
) -> tuple[Leg, list[str]]:
    """Return the leg of a run, and the attacks up to it; `before` are those of its ancestors."""
    path = folder / "runs" / entry["run"] / "evals.jsonl"
    lines = files.scan_lines(path, sealed=False)
    if lines.problem:
        raise lines.problem
    attack = text(entry, "attack", where, default="")
    known, seen, success = list(before), [], {}
    for place, line in enumerate(lines.records, 1):
        about = f"{path}, line {place}"
        others = line.get("also") or []
        if not isinstance(others, list) or not all(isinstance(one, dict) for one in others):
            raise InputError(
                f"{about}: field 'also' does not have the form that evaluations write."
            )
        if any(one.get("success_rate") is None for one in (line, *others)):
            continue
        named = [text(one, "attack", about, default="") for one in (line, *others)]
        known, own = _identified(before, named)
        attack = own[0]
        seen.append(number(line, "tokens", about, minimum=0))
        for name, one in zip(own, (line, *others), strict=True):
            rate = number(one, "success_rate", about, minimum=0, maximum=1)
            success.setdefault(name, []).append(rate)
    whole = {name: np.array(rates) for name, rates in success.items() if len(rates) == len(seen)}
    leg = Leg(
        run=entry["run"],
        label=text(entry, "stage", where, default=PRETRAINING),
        attack=attack,
        dose=number(entry, "dose", where, minimum=0),
        tokens=number(entry, "tokens", where, minimum=1),
        seen=np.array(seen),
        success=whole,
    )
    return leg, known


def _identified(before: list[str], named: list[str]) -> tuple[list[str], list[str]]:
    """Return all attacks so far, and the attack of each record of a line, by names that tell them apart.

    `before` are the attacks of the ancestors, and `named` what the records of the line are called: the
    stage's own attack, then the others. Attacks with equal names differ in their settings.
    """
    own, others = named[0], named[1:]

    def plain(names: list[str]) -> list[str]:
        return [name.split(" #")[0] for name in names]

    for i, name in enumerate(before):
        if plain([name]) == [own] and plain(before[:i] + before[i + 1 :]) == others:
            return before, [name, *before[:i], *before[i + 1 :]]
    if not before:
        known: list[str] = []
        for name in named:
            known.append(_told_apart(name, known))
        return known, known
    new = _told_apart(own, before)
    if plain(before) == others:
        return [*before, new], [new, *before]
    # The line measures other attacks than its ancestors, which names alone can tell.
    return before, named


def _told_apart(name: str, known: list[str]) -> str:
    count = sum(other.split(" #")[0] == name for other in known)
    return f"{name} #{count + 1}" if count else name
