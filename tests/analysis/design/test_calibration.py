"""The intervals mean what they say: 500 simulated studies under each of three laws."""

import numpy as np
import pytest

from analysis.design.cells import paper_design
from analysis.design.power import simulate_power
from analysis.design.simulation import Truth

STUDIES = 500
# Of a coverage of 95% in that many studies.
STANDARD_ERROR = 0.01


@pytest.mark.long
def test_intervals_cover_and_verdicts_are_right():
    """Seeds and runs with heavy-tailed effects, over-dispersed prompts, trajectories that drift."""
    results = [
        simulate_power(paper_design(), Truth(a=a), STUDIES, margin=0.25, seed=round(1e6 * a))
        for a in (0.0, 0.3, 1.0)
    ]
    for name in ("a", "g", "N50"):
        coverage = [result.coverage[name] for result in results]
        assert 0.93 <= np.mean(coverage) <= 0.97, name
        assert min(coverage) >= 0.93 - STANDARD_ERROR, name
        assert max(coverage) <= 0.97 + STANDARD_ERROR, name
    assert max(result.wrong for result in results) < 0.025
