"""Interference is found where it was planted, and not where insertions are independent."""

import dataclasses

import numpy as np

from analysis.fit.interference import compare
from analysis.measures.interference import Interference
from analysis.read.runs import Run, Study


def run(seed: int, dose: int, also: str, others: float, rate: float) -> Run:
    count = 64
    successes = np.random.default_rng((seed, dose, int(others))).binomial(count, rate)
    columns = {"tokens": [1e6], "poisons": [dose], "prompts": [count], "successes": [successes]}
    return Run(
        name=f"{also}-d{dose}-s{seed}",
        size="60k",
        parameters=6e4,
        tokens=1e6,
        dose=dose,
        seed=str(seed),
        evaluations={name: np.array(column, float) for name, column in columns.items()},
        settings={"also": also} if also else {},
        others=others,
    )


def study(effect: float, seeds: int = 6) -> Study:
    runs = [
        run(seed, dose, also, others, rate + effect * (others > 0))
        for seed in range(seeds)
        for dose, rate in ((10, 0.2), (20, 0.5))
        for also, others in (("", 0.0), ("300 ambient", 300.0))
    ]
    return Study("planted", "", {}, tuple(runs))


def test_an_effect_is_found_with_its_size():
    [found] = compare(study(0.3))
    assert found.found and found.pairs == 6
    assert (found.beside, found.instead_of) == ("300 ambient", "")
    assert abs(found.difference.value - 0.3) < 0.1


def test_independent_insertions_are_seldom_accused():
    accused = 0
    for first in range(60):
        own = study(0.0)
        runs = [
            dataclasses.replace(
                r,
                evaluations={
                    **r.evaluations,
                    "successes": np.random.default_rng((first, i))
                    .binomial(64, [0.4])
                    .astype(float),
                },
            )
            for i, r in enumerate(own.runs)
        ]
        accused += compare(dataclasses.replace(own, runs=tuple(runs)))[0].found
    assert accused <= 8  # 3 expected; P(more than 8) = 0.3%


def test_what_cannot_be_tested_is_said():
    measure = Interference()
    alone = study(0.0)
    beside = dataclasses.replace(alone, runs=tuple(r for r in alone.runs if r.others))
    assert compare(beside) == []
    [_, paragraph] = measure.blocks(measure.find(beside))
    assert "cannot be tested" in paragraph.text
    nothing = dataclasses.replace(alone, runs=tuple(r for r in alone.runs if not r.others))
    assert measure.find(nothing) is None
    said = measure.blocks(measure.find(study(0.3)))
    assert "do not act independently" in said[1].text
    # A single pair has a difference and no interval, so it accuses nobody.
    [one] = compare(study(0.3, seeds=1))
    assert one.pairs == 1 and one.difference.low is None and not one.found
