"""A simulated study's shape and N50 are recovered, and intervals behave as intervals should."""

import dataclasses

import numpy as np
import pytest

from analysis.design.cells import crossed, paper_design
from analysis.design.simulation import Truth, simulate
from analysis.fit.dose_response import fit_dose_response
from analysis.fit.laws import group_n50s
from analysis.fit.observations import observe

GROUPS = (("S", 1e8, 2e9), ("S", 1e8, 4e9), ("L", 4e8, 8e9))
QUIET = Truth(seed_sd=0.05, run_sd=0.05, wobble=0.1, correlation=0.01)


def fitted(truth, seed=0, **design):
    return fit_dose_response(observe(simulate(crossed(GROUPS, **design), truth, seed)))


def test_a_quiet_study_gives_its_shape_back():
    shape = fitted(QUIET, evaluations=24).shape
    assert shape.slope == pytest.approx(QUIET.slope, rel=0.1)
    assert shape.progress == pytest.approx(0, abs=0.1)
    assert shape.lapse == pytest.approx(QUIET.lapse, abs=0.02)
    assert np.hypot(shape.seed_sd, shape.run_sd) == pytest.approx(0.07, abs=0.04)


def test_n50_is_recovered_with_a_narrow_interval():
    for n50 in group_n50s(fitted(QUIET)):
        assert n50.poisons.value == pytest.approx(QUIET.n50, rel=0.15)
        assert n50.poisons.high / n50.poisons.low < 1.5
        assert n50.censored is None


def test_seeds_narrow_an_interval():
    few, many = (group_n50s(fitted(Truth(), seeds=seeds)) for seeds in (2, 6))
    for one, other in zip(few, many, strict=True):
        assert other.poisons.high / other.poisons.low < one.poisons.high / one.poisons.low


def test_more_evaluations_of_the_same_runs_are_no_more_runs():
    """A trajectory is one run however often it was looked at, which only tells its timing better."""
    study = simulate(crossed(GROUPS, evaluations=80), Truth(), 0)
    thinned = [
        dataclasses.replace(run, evaluations={k: v[7::8] for k, v in run.evaluations.items()})
        for run in study.runs
    ]
    widths = []
    for looked_at in (study, dataclasses.replace(study, runs=tuple(thinned))):
        n50s = group_n50s(fit_dose_response(observe(looked_at)))
        widths.append(np.mean([np.log(n.poisons.high / n.poisons.low) for n in n50s]))
    assert widths[0] == pytest.approx(widths[1], rel=0.35)


def test_noise_in_seeds_and_in_runs_is_told_apart():
    seeds = fitted(dataclasses.replace(QUIET, seed_sd=0.4), seeds=8).shape
    runs = fitted(dataclasses.replace(QUIET, run_sd=0.4), seeds=8).shape
    assert seeds.seed_sd > 2 * seeds.run_sd
    assert runs.run_sd > 2 * runs.seed_sd


def test_a_dose_that_never_reached_half_gives_a_bound_instead_of_a_guess():
    truth = Truth(n50=700, a=1)  # small budgets reach half, the largest does not
    study = simulate(crossed((("S", 1e8, 1e9), ("L", 4e8, 1.6e10))), truth, 0)
    reached, missed = group_n50s(fit_dose_response(observe(study)))
    assert reached.censored is None
    assert (missed.censored, missed.bound) == ("above", 500)
    assert missed.poisons.low > 300


def test_controls_set_the_floor():
    """A clean model that often passes for an attacked one must not count as success."""
    truth = dataclasses.replace(QUIET, floor=0.3)
    for n50 in group_n50s(fitted(truth)):
        assert n50.poisons.value == pytest.approx(QUIET.n50, rel=0.15)


def test_the_published_design_is_fitted_whole():
    fit_of_72_runs = fit_dose_response(observe(simulate(paper_design(), Truth(), 0)))
    assert len(fit_of_72_runs.observations.runs) == 72
