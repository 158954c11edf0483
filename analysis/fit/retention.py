"""Retention: what a stage without poisons of an attack leaves of it.

Success before and after the stage is compared above that of the control, the chain of the same seed and
stages without any poison, or else the mean of those of other seeds. Chains that had not learnt the attack
have no share to keep, nor have insertions that are in every run, which have no control.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.fit.estimates import Estimate, mean_of
from analysis.read.chains import Chain

# The smallest success above the control's, before a stage, that counts as learnt.
LEARNT = 0.2


@dataclass(frozen=True)
class Survivor:
    """One chain, before and after its last stage."""

    chain: Chain
    # success rates of the chain, and of its control or the mean of those of other seeds; None without any
    before: float
    after: float
    control_before: float | None
    control_after: float | None

    @property
    def share(self) -> float | None:
        """Return the share of success above the control that is kept; None where nothing was learnt."""
        if self.control_before is None or self.control_after is None:
            return None
        learnt = self.before - self.control_before
        if learnt < LEARNT:
            return None
        return (self.after - self.control_after) / learnt


@dataclass(frozen=True)
class Retention:
    """What a stage leaves of one attack, in chains that differ in their seeds alone."""

    attack: str
    survivors: tuple[Survivor, ...]  # by seed, at least one

    @property
    def chain(self) -> Chain:
        """Return one of the chains, for size and path."""
        return self.survivors[0].chain

    @property
    def clean(self) -> bool:
        """Return whether these are controls."""
        return self.chain.poisoned(self.attack) is None

    @property
    def share(self) -> Estimate | None:
        """Return the mean share kept, with its t interval over seeds that had learnt; None without any."""
        shares = [own.share for own in self.survivors if own.share is not None]
        return mean_of(np.array(shares)) if shares else None


def attacks_of(chains: tuple[Chain, ...]) -> list[str]:
    """Return the attacks whose success the chains record, in the order of their first use."""
    return list(dict.fromkeys(name for c in chains for leg in c.legs for name in leg.success))


def find_retention(chains: tuple[Chain, ...]) -> list[Retention]:
    """Return what stages leave of the attacks of their ancestors, controls included.

    Empty for attacks that no ancestor has poisons of.
    """
    found = []
    for attack in attacks_of(chains):
        own = [chain for chain in chains if _survives(chain, attack)]
        stages = {(c.size, c.labels) for c in own if c.poisoned(attack) is not None}
        members: dict[tuple, list[Chain]] = {}
        for chain in own:
            if (chain.size, chain.labels) in stages:
                members.setdefault((chain.size, chain.path), []).append(chain)
        for same in members.values():
            survivors = tuple(_survivor(c, attack, own) for c in sorted(same, key=lambda c: c.seed))
            found.append(Retention(attack, survivors))
    return found


def _survives(chain: Chain, attack: str) -> bool:
    """Return whether the last stage of a chain has no poison, and success was measured on both sides."""
    measured = len(chain.legs) > 1 and all(leg.end(attack) is not None for leg in chain.legs[-2:])
    return measured and not chain.legs[-1].dose


def _survivor(chain: Chain, attack: str, all_chains: list[Chain]) -> Survivor:
    controls = [
        other
        for other in all_chains
        if (other.size, other.labels) == (chain.size, chain.labels)
        and not any(leg.dose or leg.doses.get(attack) for leg in other.legs)
    ]
    paired = [other for other in controls if other.seed == chain.seed] or controls
    ends = np.array([[leg.end(attack) for leg in c.legs[-2:]] for c in (chain, *paired)], float)
    before, after = ends[0].tolist()
    if not paired:
        return Survivor(chain, before, after, None, None)
    return Survivor(chain, before, after, *ends[1:].mean(axis=0).tolist())
