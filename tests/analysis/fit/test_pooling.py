"""Groups that agree share a value, and groups that do not keep their own."""

import numpy as np
import pytest

from analysis.fit.laws import _curve_estimate
from analysis.fit.pooling import Pool, Prior, estimate_spread, nodes_of

PRIOR = Prior(centre=0.0, width=1.0, spread=0.5, least=0.03)
KNOWN = np.full(6, 100.0)  # standard error 0.1


def test_the_spread_follows_how_far_groups_lie_apart():
    alike = estimate_spread(PRIOR, np.zeros(6), np.zeros(6), KNOWN).sd
    apart = estimate_spread(PRIOR, np.linspace(-1, 1, 6), np.zeros(6), KNOWN).sd
    assert alike < 0.12 < 0.4 < apart


def test_the_penalty_has_its_own_gradient():
    pool, values = Pool(PRIOR, 0.3), np.array([0.1, -0.4, 0.9])
    slopes = [
        (pool.penalty(values + step)[0] - pool.penalty(values - step)[0]) / 2e-6
        for step in 1e-6 * np.eye(3)
    ]
    assert pool.penalty(values)[1] == pytest.approx(slopes, abs=1e-5)


def test_a_group_without_information_is_as_wide_as_the_groups():
    information = np.array([1e4, 1e4, 1e4, 0.0])
    variance = Pool(PRIOR, 0.3).posterior_variance(information)
    assert variance[:3] == pytest.approx(1e-4, rel=0.01)
    assert variance[3] == pytest.approx(0.3**2 * 4 / 3, rel=0.05)


def test_nodes_of_a_single_group_weigh_by_the_prior_alone():
    nodes, weight = nodes_of(Pool(PRIOR, 0.3), np.zeros(1), np.zeros(1), np.zeros(1), 5)
    assert nodes[2] == 0 and weight.argmax() == 2


def test_a_peak_narrower_than_the_grid_has_an_interval():
    grid = np.arange(0, 8, 0.08)
    curve = -0.5 * ((grid - 4.03) / 0.01) ** 2
    found = _curve_estimate(grid, curve - curve.max(), 1.92)
    assert found.value == pytest.approx(4.03, abs=0.05)
    assert found.low < found.value < found.high
