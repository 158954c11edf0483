"""Documents to submit past a detector."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis.design.economics import approximate_submissions, expected_submissions, submissions
from analysis.errors import InputError


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
