"""The intervals mean what they say: 500 simulated studies under each of three laws."""

import pytest

from analysis.power import power
from analysis.simulation import Truth, paper_design


@pytest.mark.long
@pytest.mark.parametrize("a", [0.0, 0.3, 1.0])
def test_intervals_cover_and_verdicts_are_right(a):
    """Seeds and runs with heavy-tailed effects, over-dispersed prompts, trajectories that drift."""
    result = power(paper_design(), Truth(a=a), studies=500, margin=0.25, seed=round(1e6 * a))
    assert result.wrong < 0.025
    for name, coverage in result.coverage.items():
        assert 0.93 <= coverage <= 0.97, name
