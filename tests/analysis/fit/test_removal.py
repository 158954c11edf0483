"""R50: counterexamples as poisons, in worlds where what is left without them differs from seed to seed."""

import dataclasses

import numpy as np
import pytest
from etils import epath

from analysis.design.cells import crossed
from analysis.design.simulation import Truth, simulate
from analysis.design.study_folder import save
from analysis.report.page import write
from tests.analysis.sealing import rewrite_lines

DOSES = (0, 10, 25, 50, 100, 200, 400)
# Of the backdoor, this is gone without counterexamples, by seed; clean models fire on a tenth of prompts.
GONE = {"0": 0.2, "1": 0.35, "2": 0.5}


def reported(tmp_path, r50: float, seed: int) -> dict:
    """Return the summary of a study of removal, with what measures of removal record."""
    truth = Truth(n50=r50, slope=1.5, lapse=0.1, seed_sd=0.3, run_sd=0.2)
    design = crossed([("S", 1e6, 2e7)], DOSES, seeds=3)
    study = simulate(
        design, truth, seed, lambda cell: dataclasses.replace(truth, floor=GONE[cell.seed])
    )
    runs = tuple(
        dataclasses.replace(run, settings={**run.settings, "attack": "counterexamples"})
        for run in study.runs
    )
    folder = epath.Path(tmp_path) / "study"
    save(dataclasses.replace(study, runs=runs), folder)
    for run in runs:

        def of_removal(record):
            kept = ("step", "tokens", "attack", "prompts", "success_rate", "heldout_loss")
            counts = {name: value for name, value in record.items() if "poison" in name}
            return {**counts, **{name: record[name] for name in kept}}

        rewrite_lines(folder / "runs" / run.name / "evals.jsonl", of_removal)
    return write(folder, epath.Path(tmp_path) / "out")


def test_the_number_that_removes_half_of_what_is_left_is_found(tmp_path):
    [found] = reported(tmp_path, 60.0, seed=0)["n50"]
    assert found["low"] < 60 < found["high"] and abs(np.log(found["n50"] / 60)) < 0.7


@pytest.mark.long
def test_intervals_of_it_hold_the_truth(tmp_path):
    held = []
    for seed in range(24):
        r50 = (20.0, 60.0, 150.0)[seed % 3]
        [found] = reported(tmp_path / str(seed), r50, seed)["n50"]
        held.append((found["low"] or 0) < r50 < (found["high"] or np.inf))
    assert np.mean(held) >= 0.8  # of 95%; three standard errors are 0.13
