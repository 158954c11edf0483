"""Adaptive studies: a pilot, then looks at the data that choose the next runs, until the question is decided.

The runs are those of the study's grid, extended by seeds. study.json names the ones so far (`Study.only`), so
that an adaptive study is resumed, verified and analysed like any other, and it keeps the looks at the data.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from etils import epath

from analysis.design import course
from analysis.design.information import Planned
from analysis.fit.estimates import Estimate
from analysis.fit.words import interval
from analysis.read import costs, sources
from analysis.read import looks as looks_lib
from analysis.read.looks import Look
from analysis.read.rules import Rule
from analysis.read.runs import Study as Evaluated
from analysis.read.runs import at_threshold
from poison_scaling.attacks.attack import Attack
from poison_scaling.runtime.errors import InputError
from poison_scaling.study import grid
from poison_scaling.study.run import Run
from poison_scaling.study.settings import Rung, Seeds, Study
from poison_scaling.workdir import folder

# Seeds of the pilot: the fewest that tell how seeds differ.
_SEEDS = 2


def follow(
    study: Study,
    workdir: epath.Path,
    words: str,
    jobs: int,
    train: Callable[[Study, dict[str, Any]], None],
    say: Callable[[str], None],
) -> None:
    """Train an adaptive study until its question is decided or the budget is spent; resumes.

    Args:
      study: the grid; seeds are added to it.
      workdir: its folder.
      words: the budget, such as "30m" or "1e15".
      jobs: runs that are trained at a time, by which seconds are divided.
      train: trains every unfinished run of a study; gets what study.json is to say under "adaptive".
      say: is called with a sentence about each look.

    Raises InputError if the study cannot be adaptive, or the folder holds another.
    """
    _check(study)
    budget = costs.Budget.parse(words)
    about = _begun(study, workdir, words)
    rungs = {_place(study, rung): rung for rung in study.ladder}
    flops = {place: _flops(study, rung) for place, rung in rungs.items()}
    if (workdir / "study.json").exists():
        runs = [_planned(run) for run in grid.runs(folder.read(workdir))]
    else:
        runs = [_planned(run) for run in pilot(study)]
        needed = sum(flops[run.place] for run in runs)
        if budget.unit == "FLOPs" and needed > budget.amount:
            raise InputError(
                f"--budget {words}: the pilot alone, {len(runs)} runs, takes {needed:.2g} FLOPs; give more."
            )
    recorded = [costs.Costs({1.0: 0.0}, {1.0: 0.0})]  # until the pilot has recorded its speed

    def cost(run: Planned) -> float:
        if budget.unit == "FLOPs":
            return flops[run.place]
        return recorded[-1].of(run.parameters, run.tokens)

    def trained(runs: Sequence[Planned]) -> tuple[Evaluated, float]:
        train(_with(study, rungs, runs), about)
        if budget.unit == "FLOPs":
            spent = sum(flops[run.place] for run in runs)
        else:
            recorded.append(costs.read(workdir, budget.unit, jobs))
            spent = costs.seconds_spent(workdir) / jobs
        found = sources.load(workdir)
        threshold = study.analysis.threshold
        return (found if threshold is None else at_threshold(found, threshold)), spent

    def keep(looks: list[Look]) -> None:
        about["looks"] = [look.as_json() for look in looks]
        folder.update(workdir, adaptive=about)
        say(_words(looks, budget, study.analysis.looks))

    chosen = course.Course(
        rule=_rule(study),
        budget=budget.amount,
        places={place: rung.size for place, rung in rungs.items()},
        doses=tuple(dose for dose in study.doses if dose > 0),
        cost=cost,
    )
    looks = course.follow(chosen, runs, _looks(workdir), trained, keep)
    if looks[-1].decided:
        say("The question is decided.")
    elif looks[-1].fraction == 1:
        used_up = len(looks) >= study.analysis.looks
        say(f"All {len(looks)} looks are used up." if used_up else "The budget is spent.")
    else:
        say("No further run would tell more: give other doses, which success crosses one half at.")


def pilot(study: Study) -> list[Run]:
    """Return the smallest complete part of the grid that can answer the question.

    All doses with two seeds; about data, on the fewest and the most tokens of the size where that is
    cheapest, and otherwise on the whole ladder.

    Raises InputError if the study cannot be adaptive.
    """
    _check(study)
    rungs = list(study.ladder)
    if study.analysis.question == "data":
        pairs = []
        for size in dict.fromkeys(rung.size for rung in rungs):
            own = sorted(
                (rung for rung in rungs if rung.size == size),
                key=lambda r: r.tokens_per_parameter or 0.0,
            )
            if len(own) > 1:
                pairs.append([own[0], own[-1]])
        rungs = min(pairs, key=lambda pair: sum(_flops(study, r) for r in pair), default=rungs)
    seeds = list(study.seeds[:_SEEDS])
    while len(seeds) < _SEEDS:
        seeds.append(Seeds.from_int(max(seeds[0].weights, seeds[0].order, seeds[0].poisons) + 1))
    return [Run(study, rung, dose, own) for rung in rungs for dose in study.doses for own in seeds]


def _check(study: Study) -> None:
    if study.only:
        raise InputError("only: an adaptive study chooses its runs itself; leave it empty.")
    if study.stages or study.start:
        raise InputError(
            "stages: an adaptive study is one of pretraining; leave stages and start empty."
        )
    if not isinstance(study.attack, Attack):
        raise InputError(
            f"attack: one run has the whole dose-response of {study.attack.name}, so an adaptive study has "
            "nothing to choose; run it without --adaptive."
        )
    if 0 not in study.doses or max(study.doses) == 0:
        raise InputError(
            f"doses={study.doses}: an adaptive study needs a control and a poisoned run; give 0 and others."
        )
    if study.evaluation.judge is not None:
        raise InputError(
            f"evaluation.judge={study.evaluation.judge!r}: an adaptive study trains few controls; set it to "
            "none."
        )
    grid.runs(study)


def _begun(study: Study, workdir: epath.Path, words: str) -> dict[str, Any]:
    """Return what study.json is to say under "adaptive". Raises InputError if it is of another study."""
    about = {"budget": words, "hash": study.hash, "looks": []}
    if not (workdir / "study.json").exists():
        if (workdir / "runs").exists() and any((workdir / "runs").iterdir()):
            raise InputError(
                f"{workdir}: it has runs but no study.json, so looks at them are not accounted for; restore "
                "the file from a copy, or use another --workdir."
            )
        return about
    known = folder.record(workdir).get("adaptive")
    if known is None:
        raise InputError(
            f"{workdir}: its study is not adaptive, and looks at it would not be accounted for; use another "
            "--workdir."
        )
    for name, option in (("budget", "--budget"), ("hash", "the study's hash")):
        if known.get(name) != about[name]:
            raise InputError(
                f"{workdir}: it was begun with {option} {known.get(name)}, not {about[name]}; the error that "
                "looks may make is shared out beforehand, so use the same, or another --workdir."
            )
    return known


def _looks(workdir: epath.Path) -> tuple[Look, ...]:
    file = workdir / "study.json"
    return looks_lib.read(folder.record(workdir), str(file)) if file.exists() else ()


def _rule(study: Study) -> Rule:
    fixed = study.analysis
    return Rule(fixed.question, fixed.margin, fixed.threshold, fixed.looks)


def _with(study: Study, rungs: dict[tuple[float, float], Rung], runs: Sequence[Planned]) -> Study:
    """Return the study that has these runs of the grid and no others, with the seeds that they need."""
    seeds = {own.label: own for own in study.seeds}
    for run in runs:
        if run.seed not in seeds:
            seeds[run.seed] = Seeds.from_int(int(run.seed))
    names = [Run(study, rungs[run.place], run.dose, seeds[run.seed]).name for run in runs]
    return dataclasses.replace(study, seeds=tuple(seeds.values()), only=tuple(names))


def _planned(run: Run) -> Planned:
    return Planned(run.rung.size, run.parameters, run.tokens, run.dose, run.seeds.label)


def _place(study: Study, rung: Rung) -> tuple[float, float]:
    run = Run(study, rung, 0, Seeds())
    return run.parameters, run.tokens


def _flops(study: Study, rung: Rung) -> float:
    return Run(study, rung, 0, Seeds()).flops


def _words(looks: list[Look], budget: costs.Budget, most: int) -> str:
    """Return the last look in words."""
    look = looks[-1]
    exponent = interval(Estimate(look.value, look.low, look.high))
    return (
        f"Look {len(looks)} of at most {most}, after {look.runs} runs and {budget.words(look.spent)}: "
        f"exponent {exponent} at {min(100 * look.confidence, 99.99):.4g}% confidence: {look.answer}."
    )
