"""How often a design would decide between the laws, by simulating it, before paying for it."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from etils import epath

from analysis.dose_response import fit
from analysis.errors import InputError
from analysis.findings import reach_of
from analysis.laws import Law, fit_law, verdict
from analysis.observations import observe
from analysis.runs import quantity
from analysis.simulation import Cell, Design, Truth, crossed, simulate
from analysis.sources import number, parsed

LAWS = {"count": 0.0, "fraction": 1.0}


@dataclass(frozen=True)
class Power:
    """What `studies` simulated studies under one law concluded.

    Attributes:
      law: "count" or "fraction", the truth.
      studies: how many were simulated.
      verdicts: how many of them said each of count, fraction, undecided.
      halfwidth: median half-width of the 95% interval of a; None where most have no such interval.
    """

    law: str
    studies: int
    verdicts: dict[str, int]
    halfwidth: float | None

    @property
    def right(self) -> float:
        return self.verdicts[self.law] / self.studies

    @property
    def wrong(self) -> float:
        other = "fraction" if self.law == "count" else "count"
        return self.verdicts[other] / self.studies


def power(
    design: Design, truth: Truth, studies: int, margin: float, seed: int = 0
) -> Iterator[Power]:
    """Simulates the design under both laws with the noise of `truth`, one law at a time."""
    for name, a in LAWS.items():
        verdicts = dict.fromkeys(("count", "fraction", "undecided"), 0)
        halfwidths = []
        for index in range(studies):
            study = simulate(design, dataclasses.replace(truth, a=a), seed=seed + index)
            observations = observe(study)
            if reach_of(observations) != "some":
                verdicts["undecided"] += 1
                halfwidths.append(np.inf)
                continue
            law = fit_law(fit(observations))
            verdicts[verdict(law, margin)] += 1
            halfwidths.append(_halfwidth(law))
        median = float(np.median(halfwidths))
        yield Power(name, studies, verdicts, median if np.isfinite(median) else None)


def _halfwidth(law: Law) -> float:
    if law.a is None or law.a.low is None or law.a.high is None:
        return np.inf
    return (law.a.high - law.a.low) / 2


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
    runs = parsed(path.read_text(), str(path)).get("runs")
    if not isinstance(runs, list) or not runs:
        raise InputError(f"{path}: field 'runs' must list the planned runs.")
    doses: dict[tuple, list[int]] = {}
    for index, run in enumerate(runs):
        where = f"{path}, run {index}"
        size = str(run.get("size"))
        parameters = number(run, "parameters", where, minimum=1)
        tokens = number(run, "tokens", where, minimum=1)
        key = (size, parameters, tokens, str(run.get("seed")))
        doses.setdefault(key, []).append(int(number(run, "dose", where, minimum=0)))
    return Design(tuple(Cell(*key, tuple(sorted(d))) for key, d in doses.items()))
