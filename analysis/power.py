"""How often a design would decide between the laws, by simulating it, before paying for it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from etils import epath

from analysis import sealed
from analysis.dose_response import fit
from analysis.errors import InputError
from analysis.estimates import Estimate
from analysis.fields import label, number, objects
from analysis.laws import fit_law, half_doses, verdict
from analysis.observations import observe, reach_of
from analysis.runs import quantity
from analysis.simulation import Cell, Design, Truth, crossed, simulate


@dataclass(frozen=True)
class Power:
    """What simulated studies under one law concluded.

    Attributes:
      a: exponent of tokens in truth.
      right: share of studies whose verdict is true ("undecided" where neither law holds).
      wrong: share whose verdict is a law that does not hold.
      halfwidth: median half-width of the 95% interval of a; None where most have no such interval.
      coverage: share of the 95% intervals that hold the truth, of "a", "g" and "N50"; None where
        no interval was given.
    """

    a: float
    right: float
    wrong: float
    halfwidth: float | None
    coverage: dict[str, float | None]


def power(
    design: Design,
    truth: Truth,
    studies: int,
    margin: float,
    seed: int = 0,
    tick: Callable[[], None] = lambda: None,
) -> Power:
    """Simulates and analyses a design `studies` times; calls `tick` after each."""
    holds = {0.0: "count", 1.0: "fraction"}.get(truth.a, "undecided")
    verdicts, halfwidths = [], []
    covered: dict[str, list[bool]] = {"a": [], "g": [], "N50": []}
    log_n0, log_t0 = design.reference
    for index in range(studies):
        observations = observe(simulate(design, truth, seed + index))
        tick()
        if reach_of(observations) != "some":
            verdicts.append("undecided")
            halfwidths.append(np.inf)
            continue
        fitted = fit(observations)
        law = fit_law(fitted)
        verdicts.append(verdict(law, margin))
        halfwidths.append(_halfwidth(law.a))
        for name, estimate, true in (("a", law.a, truth.a), ("g", law.g, truth.g)):
            if estimate is not None and estimate.value is not None:
                covered[name].append(_holds(estimate, true))
        for n50 in half_doses(fitted):
            tokens = truth.a * (np.log(n50.group.tokens) - log_t0)
            parameters = truth.g * (np.log(n50.group.parameters) - log_n0)
            covered["N50"].append(_holds(n50.poisons, truth.n50 * np.exp(tokens + parameters)))
    median = float(np.median(halfwidths))
    return Power(
        a=truth.a,
        right=float(np.mean([v == holds for v in verdicts])),
        wrong=float(np.mean([v not in (holds, "undecided") for v in verdicts])),
        halfwidth=median if np.isfinite(median) else None,
        coverage={name: float(np.mean(c)) if c else None for name, c in covered.items()},
    )


def _halfwidth(a: Estimate | None) -> float:
    if a is None or a.low is None or a.high is None:
        return np.inf
    return (a.high - a.low) / 2


def _holds(estimate: Estimate, true: float) -> bool:
    """Whether an interval, open ends included, holds the truth."""
    above = estimate.low is None or estimate.low <= true
    return above and (estimate.high is None or true <= estimate.high)


def ladder(
    sizes: Sequence[float], tokens: Sequence[float], doses: Sequence[int], seeds: int
) -> Design:
    """Every size (parameters) on every number of tokens per parameter."""
    if not sizes or not tokens or max(doses, default=0) < 1 or seeds < 1:
        raise InputError("A design needs a size, a token budget, a dose of at least 1 and a seed.")
    groups = [(quantity(size), size, size * ratio) for size in sizes for ratio in tokens]
    return crossed(groups, tuple(sorted(set(doses))), seeds)


def planned(path: epath.Path) -> Design:
    """The design in a study.json, or in what `poison-scaling plan CONFIG --json` printed."""
    if not path.exists():
        raise InputError(f"{path} does not exist; give the output of `plan CONFIG --json`.")
    doses: dict[tuple, list[int]] = {}
    for where, run in objects(sealed.read_object(path), "runs", str(path)):
        size, seed = label(run, "size", where), label(run, "seed", where)
        parameters = number(run, "parameters", where, minimum=1)
        tokens = number(run, "tokens", where, minimum=1)
        dose = int(number(run, "dose", where, minimum=0))
        doses.setdefault((size, parameters, tokens, seed), []).append(dose)
    return Design(tuple(Cell(*key, tuple(sorted(d))) for key, d in doses.items()))
