"""Chains of stages: every run of a study with its ancestors, and success along the way.

A line of evals.jsonl has the success of the stage's own attack at its top level, and that of the attacks of
earlier stages under `also`, in the order in which they were first used. Pretraining may have several
insertions at once, and those that are only counted, such as ambient triggers, have no success.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.read.runs import Run, quantity

PRETRAINING = "pretraining"
COUNTEREXAMPLES = "counterexamples"  # the attack that removes those of earlier stages


@dataclass(frozen=True)
class Leg:
    """One run of a chain: pretraining, or a stage."""

    run: str
    label: str  # of the stage
    attack: str  # whose poisons it has, if any
    dose: float
    doses: dict[str, float]  # documents of every insertion, by its name
    tokens: float  # of this leg, as planned
    # tokens of this leg seen at each evaluation, and by attack the success rate there; shape [evaluations]
    seen: np.ndarray
    success: dict[str, np.ndarray]

    def bears_on(self, attack: str) -> float:
        """Return the number of its documents of an attack, or of counterexamples; 0 without any."""
        return self.doses.get(attack, 0.0) or (self.dose if removes(self.attack) else 0.0)

    def end(self, attack: str) -> float | None:
        """Return the success rate of an attack at the end of the leg; None where it was not measured."""
        if attack not in self.success or self.seen[-1] < 0.999 * self.tokens:
            return None
        return float(self.success[attack][-1])


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
        """Return the last leg with poisons of an attack or, after them, counterexamples; None without any."""
        first = next((i for i, leg in enumerate(self.legs) if leg.doses.get(attack)), None)
        # Ancestors in another study may have poisons.
        first = 0 if self.before else first
        if first is None:
            return None
        bearing = (i for i, leg in enumerate(self.legs) if i >= first and leg.bears_on(attack))
        return max(bearing, default=None)

    def last_dose(self, attack: str) -> float:
        """Return the dose of the leg that `poisoned` names; 0 without any."""
        place = self.poisoned(attack)
        return 0.0 if place is None else self.legs[place].bears_on(attack)


def removes(attack: str) -> bool:
    """Return whether an attack, by its name in a chain, removes those of earlier stages."""
    return attack.partition(" #")[0] == COUNTEREXAMPLES


def of(tree: tuple[Run, ...]) -> tuple[Chain, ...]:
    """Return a chain for every run of a study; `tree` has parents before their children."""
    budgets: dict[str, set[float]] = {}
    for run in tree:
        root = [run, *run.ancestors][-1]
        budgets.setdefault(root.size, set()).add(root.tokens)
    legs: dict[str, Leg] = {}
    known: dict[str, list[str]] = {}  # by run: the attacks up to it, as they were first used
    chains = []
    for run in tree:
        before = known.get(run.parent.name, []) if run.parent else []
        legs[run.name], known[run.name] = _leg(run, before)
        own = [run, *run.ancestors][::-1]
        several = len(budgets[own[0].size]) > 1
        size = f"{own[0].size}, {quantity(own[0].tokens)} tokens" if several else own[0].size
        begun = own[0].tokens_before
        chains.append(Chain(size, run.seed, begun, tuple(legs[one.name] for one in own)))
    return tuple(chains)


def _leg(run: Run, before: list[str]) -> tuple[Leg, list[str]]:
    """Return the leg of a run, and the attacks up to it; `before` are those of its ancestors."""
    attack, known, success = run.settings.get("attack", ""), before, {}
    doses = {attack: run.dose}
    named = [[name for name, _ in record.others] for record in run.records]
    if named:
        others = named[0] if all(names == named[0] for names in named) else []
        known, own = _identified(before, [attack, *others])
        attack = own[0]
        doses = {attack: run.dose, **dict(zip(own[1:], run.other_doses, strict=False))}
        success = {attack: run.success}
        for i, name in enumerate(own[1:]):
            rates = [record.others[i][1] for record in run.records]
            if None not in rates:
                success[name] = np.array(rates, float)
    leg = Leg(
        run=run.name,
        label=run.settings.get("stage", PRETRAINING),
        attack=attack,
        dose=run.dose,
        doses=doses,
        tokens=run.tokens,
        seen=run.evaluations["tokens"],
        success=success,
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
