"""Advice on a study folder: the runs to train next, their costs, and the lines of a study file with them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from etils import epath

from analysis import files
from analysis.design.fitted import fit
from analysis.design.information import Information, Planned
from analysis.design.proposals import Proposal, extensions, places_of, planned_of, propose
from analysis.errors import InputError, shown
from analysis.fit.laws import Law
from analysis.read import costs
from analysis.read.fields import objects
from analysis.read.runs import counted_by
from analysis.read.sources import load


@dataclass(frozen=True)
class Advice:
    """What to train next."""

    question: str  # the one whose exponent is to be known better, as in `Rule`
    budget: costs.Budget  # never exceeded
    now: float | None  # half-width of the exponent's interval; None when it is open
    expected_now: float  # the same under the linearised model
    proposals: list[Proposal]  # the runs, in the order in which they were chosen
    settings: list[str]  # lines for the study file that name all its runs, trained and proposed

    @property
    def cost(self) -> float:
        """Return the cost of all runs."""
        return sum(proposal.cost for proposal in self.proposals)

    def as_json(self) -> dict[str, Any]:
        """Return the advice as a JSON object."""
        return {
            "question": self.question,
            "unit": self.budget.unit,
            "budget": self.budget.amount,
            "cost": self.cost,
            "halfwidth": self.now,
            "runs": [
                asdict(p.run)
                | {
                    "tokens_per_parameter": p.run.tokens / p.run.parameters,
                    "cost": p.cost,
                    "expected_halfwidth": p.halfwidth,
                }
                for p in self.proposals
            ],
            "settings": self.settings,
        }

    def rows(self) -> list[tuple[str, ...]]:
        """Return size, tokens per parameter, dose, seeds, cost and expected half-width of the proposals.

        Successive runs that differ only in the seed share a row.
        """

        def same(proposal: Proposal) -> tuple[str, float, int]:
            return proposal.run.size, proposal.run.tokens, proposal.run.dose

        rows = []
        for (size, tokens, dose), several in itertools.groupby(self.proposals, same):
            alike = list(several)
            cost = self.budget.words(sum(p.cost for p in alike))
            ratio = f"{tokens / alike[0].run.parameters:.3g}"
            seeds = ", ".join(p.run.seed for p in alike)
            rows.append((size, ratio, str(dose), seeds, cost, f"±{alike[-1].halfwidth:.2f}"))
        return rows


def advise(
    folder: epath.Path,
    budget: costs.Budget,
    question: str | None = None,
    tokens: Sequence[float] = (),
    doses: Sequence[int] = (),
    jobs: int = 1,
) -> Advice:
    """Return the runs that are expected to shrink the interval of an exponent most per cost.

    Among the study's sizes and budgets, and further `tokens` per parameter and `doses`, with further seeds.
    The `question` is by default that of the study's rule; seconds are those of `jobs` runs at a time.

    Raises InputError when the study has stages, cannot be fitted, does not identify the exponent, or no run
    fits.
    """
    study = load(folder)
    record = files.read_json(folder / "study.json")
    for where, entry in objects(record, "runs", str(folder / "study.json")):
        if entry.get("parent") is not None:
            raise InputError(
                f"{where}: the run continues {shown(entry['parent'])}; runs are proposed for studies of "
                "pretraining alone, without stages."
            )
    planned = {entry.get("run") for _, entry in objects(record, "runs", str(folder / "study.json"))}
    if any(run.name not in planned for run in study.runs):
        raise InputError(
            f"{folder}: each of its runs has a whole dose-response, so no dose can be proposed; train more "
            "seeds of the budgets that it has."
        )
    rule = study.rule
    study = counted_by(study, rule)
    question = question or rule.question
    fitted = fit(study, rule.margin)
    information, runs = Information(fitted, question), planned_of(study)
    places = places_of(runs, tokens)
    every_dose = sorted({run.dose for run in runs if run.dose > 0} | set(doses))
    paid = costs.read(folder, budget.unit, jobs)
    proposals = propose(
        information,
        runs,
        lambda now: extensions(now, places, every_dose),
        lambda run: paid.of(run.parameters, run.tokens),
        budget.amount,
    )
    if not proposals:
        raise InputError(
            f"--budget {budget.words(budget.amount)}: no run that tells about question {question!r} fits; "
            "give more, or other --tokens and --doses."
        )
    return Advice(
        question=question,
        budget=budget,
        now=halfwidth(fitted.conclusion.law, question),
        expected_now=information.halfwidth(runs),
        proposals=proposals,
        settings=_settings(
            record.get("config") or {},
            [run.name for run in study.runs],
            [proposal.run for proposal in proposals],
        ),
    )


def halfwidth(law: Law, question: str) -> float | None:
    """Return the half-width of the interval of the exponent that a question asks for; None if it is open."""
    exponent = law.exponent(question)
    if exponent is None or exponent.low is None or exponent.high is None:
        return None
    return (exponent.high - exponent.low) / 2


def _settings(config: dict[str, Any], trained: list[str], runs: list[Planned]) -> list[str]:
    """Return the lines of a study file that name the runs of a study, those trained and `runs`.

    `config` is the study as study.json has it.
    """
    ladder = [
        (rung["size"], rung["tokens_per_parameter"], rung.get("learning_rate"))
        for rung in config.get("ladder") or []
    ]
    doses, seeds = list(config.get("doses") or []), list(config.get("seeds") or [])
    names = list(trained)
    for run in runs:
        ratio = run.tokens / run.parameters
        alike = [own for size, own, _ in ladder if size == run.size and abs(own / ratio - 1) < 0.02]
        if not alike:
            alike = [float(f"{ratio:.4g}")]
            ladder.append((run.size, alike[0], None))
        doses += [] if run.dose in doses else [run.dose]
        if run.seed.isdecimal() and _three(int(run.seed)) not in map(_plain, seeds):
            seeds.append(_three(int(run.seed)))
        names.append(f"{run.size}-{alike[0]:g}x-d{run.dose}-s{run.seed}")
    rungs = [
        f'Rung("{size}", {_exact(ratio)}{"" if rate is None else f", {_exact(rate)}"})'
        for size, ratio, rate in ladder
    ]
    of_seeds = [tuple(_plain(seed).values()) for seed in seeds]
    if all(len(set(three)) == 1 for three in of_seeds):
        said = f"seeds({', '.join(str(three[0]) for three in of_seeds)})"
    else:
        said = f"({', '.join(f'Seeds{three}' for three in of_seeds)},)"
    return [
        f"ladder=({', '.join(rungs)},),",
        f"doses=({', '.join(map(str, doses))},),",
        f"seeds={said},",
        "only=(",
        *(f'    "{name}",' for name in names),
        "),",
    ]


def _exact(number: float) -> str:
    """Return the number, so that it is read again without rounding, which would change hashes."""
    short = f"{number:g}"
    return short if float(short) == number else repr(number)


def _three(number: int) -> dict[str, int]:
    return dict.fromkeys(("weights", "order", "poisons"), number)


def _plain(seed: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in seed.items() if name != "kind"}
