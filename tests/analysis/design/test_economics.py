"""Documents to submit past a detector."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis.design.economics import (
    approximate_submissions,
    expected_submissions,
    submissions,
    submitted,
)
from analysis.errors import InputError
from analysis.fit.estimates import Estimate, wilson


def test_the_numbers_in_circulation():
    assert round(expected_submissions(250, 0.919)) == 3086
    assert approximate_submissions(250, 0.919) == 3404
    assert submissions(250, 0.919) == 3401


@given(st.integers(1, 500), st.floats(0, 0.99), st.floats(0.5, 0.999))
def test_the_smallest_number_that_suffices(passing, sensitivity, confidence):
    needed = submissions(passing, sensitivity, confidence)
    tail = stats.binom.sf(passing - 1, [needed, needed - 1], 1 - sensitivity)
    assert tail[0] >= confidence - 1e-9
    assert needed == passing or tail[1] < confidence + 1e-9


def test_without_a_detector_nothing_is_lost():
    assert expected_submissions(250, 0.0) == submissions(250, 0.0) == 250
    assert approximate_submissions(250, 0.0) == 250


@pytest.mark.parametrize(("passing", "sensitivity"), [(0, 0.5), (250, 1.0), (250, -0.1)])
def test_the_impossible_is_refused(passing, sensitivity):
    with pytest.raises(InputError):
        submissions(passing, sensitivity)


@pytest.mark.parametrize("survival", [0.05, 0.3, 0.9])
def test_the_interval_of_n50_submitted_covers_the_truth(survival):
    rng, truth, sd, tries, covered = np.random.default_rng(0), 150 / survival, 0.25, 250, 0
    for _ in range(400):
        log = np.log(150) + sd * rng.normal()
        n50 = Estimate(log, log - 1.96 * sd, log + 1.96 * sd).exp()
        found = submitted(n50, wilson(int(rng.binomial(tries, survival)), tries))
        assert found.low is not None
        covered += found.low <= truth and (found.high is None or truth <= found.high)
    assert covered >= 0.93 * 400


def test_n50_submitted_is_at_least_n50_and_has_a_lower_limit_if_none_survive():
    n50 = Estimate(150.0, 100.0, 220.0)
    every, none = submitted(n50, wilson(250, 250)), submitted(n50, wilson(0, 250))
    assert every.value == pytest.approx(150) and every.low == pytest.approx(100)
    assert none.value is None and none.high is None
    assert none.low == pytest.approx(100 / wilson(0, 250).high)
    assert submitted(Estimate(150.0, None, None), wilson(125, 250)) == Estimate(
        pytest.approx(300), None, None
    )
