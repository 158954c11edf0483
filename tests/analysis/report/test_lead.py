"""The lead of a report answers from sampled success and without sampling, and names what a threshold does."""

import dataclasses

import numpy as np
import pytest

from analysis.design.cells import crossed
from analysis.fit.estimates import Estimate
from analysis.fit.findings import find
from analysis.fit.sensitivity import Answer
from analysis.measures.blocks import Paragraph, Table
from analysis.read.rules import Fixed, Rule
from analysis.report.lead import lead_blocks, threshold_words
from analysis.report.page import fit_figures
from analysis.report.summary import summarise
from tests.analysis.rises import World

SMALL = crossed((("S", 1e8, 1e9), ("S", 1e8, 4e9)), (0, 100, 250), seeds=2, evaluations=6)


@pytest.fixture(scope="module")
def findings():
    return find(World(design=SMALL).make(0))


def test_both_answers_stand_side_by_side_and_the_figure_without_sampling_leads(findings):
    blocks = lead_blocks(findings, "Words.")
    assert isinstance(blocks[0], Paragraph) and blocks[0].lead
    questions, n50s = (block for block in blocks if isinstance(block, Table))
    exact = findings.model.unsampled.conclusion.questions(findings.margin)
    for row, sampled, unsampled in zip(questions.rows, findings.questions, exact, strict=True):
        assert row == (sampled.question, sampled.words, unsampled.words)
    assert any("(nats per token)" in b.text for b in blocks if isinstance(b, Paragraph))
    assert n50s.header[-1] == "N50 without sampling" and len(n50s.rows) == 2
    drawings = fit_figures(findings)
    assert drawings[0].name == "rises"
    assert len(drawings[0].rows) == sum(dose > 0 for cell in SMALL.cells for dose in cell.doses)


def test_the_question_of_the_rule_is_answered_first(findings):
    fixed = Fixed(Rule(question="ladder"), runs_begun=0)
    ruled = dataclasses.replace(findings.study, rules=(fixed,))
    summary = summarise(find(ruled), [])
    for answers in (summary["questions"], summary["unsampled"]["questions"]):
        ends = [one["question"].split("grow with ")[1] for one in answers]
        assert ends == ["size along the ladder?", "data at fixed size?", "size at fixed data?"]


def test_what_the_threshold_does_is_said_in_words(findings):
    def answers(*values):
        found = [Estimate(a, a - 0.2, a + 0.2) for a in values]
        thresholds = zip((10.0, 50.0, 200.0), found, strict=True)
        told = [Answer(t, {"S": t * 2}, a, "undecided") for t, a in thresholds]
        return dataclasses.replace(findings.model, thresholds=told)

    same, other = answers(0.0, 0.01, 0.02), answers(-0.5, 0.0, 0.5)
    assert "does not change with the threshold" in threshold_words(same, 0.25)
    assert "depends on the threshold" in threshold_words(other, 0.25)
    assert "-0.50 (-0.70 to -0.30), 0.00 (-0.20 to 0.20) or 0.50" in threshold_words(other, 0.25)
    assert "N50 at 200 is 20 times that at 10" in threshold_words(same, 0.25)
    assert threshold_words(dataclasses.replace(same, thresholds=[]), 0.25) == ""


def test_success_is_drawn_on_the_scale_of_its_fit(findings):
    """A control's success is the bottom of both the points and the curve."""
    figure = next(d for d in fit_figures(findings) if d.name == "dose_response").figure
    curve = max((line.get_ydata() for line in figure.axes[0].lines), key=len)
    floor = findings.model.dose_response.observations.floor
    assert np.nanmin(curve) >= floor.min() - 1e-9
