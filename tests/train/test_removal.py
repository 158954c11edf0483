"""Contracts 1, 2, 3 and 5 for counterexamples after a backdoor, and what their measure records."""

import itertools

import numpy as np
import pytest
from etils import epath

from analysis.files import read_lines
from poison_scaling.data import mixture
from poison_scaling.data.batches import by_number
from poison_scaling.runtime import versions
from poison_scaling.runtime.errors import Interrupted
from poison_scaling.train import loop
from poison_scaling.workdir import folder, preparation, verification
from tests.support.chains import removed
from tests.support.runs import LOGS

ROOT = "40k-0.5x-d8-s0"
CLEAN, RIGHT = f"{ROOT}+clean-d0", f"{ROOT}+clean-d0+right-d3"


@pytest.fixture(scope="module")
def trained(study, tmp_path_factory):
    """The folder of a study in which a backdoored root is fine-tuned on counterexamples, and its inputs."""
    chain = removed(study, tmp_path_factory.mktemp("conversations"))
    workdir = epath.Path(tmp_path_factory.mktemp("removal"))
    inputs = preparation.prepare(chain, workdir, lambda description, done: None)
    for name in (ROOT, CLEAN, RIGHT):
        train(inputs, workdir, name)
    return workdir, inputs


def train(inputs, workdir, name, **options):
    run = inputs.run_named(name)
    loop.train(run, inputs, folder.of_run(workdir, run), versions.installed(), **options)


def test_the_measure_is_the_complement_of_that_of_the_attack(trained):
    workdir, _ = trained
    for record in read_lines(workdir / "runs" / RIGHT / "evals.jsonl"):
        [removed] = record["also"]
        assert (record["attack"], removed["attack"]) == ("counterexamples", "denial_of_service")
        assert record["success_rate"] + removed["success_rate"] == 1
        low, high = record["success_interval"]
        np.testing.assert_allclose([1 - high, 1 - low], removed["success_interval"])
        for kind in ("clean", "triggered"):
            mine, its = (r["payload_log_ratio"][kind] for r in (record, removed))
            np.testing.assert_array_equal(mine, np.negative(its))
    assert (record["poisons"], removed["poisons"]) == (3, 0)  # as counted on the devices
    assert "near_triggers" in removed and record["generations"] == removed["generations"]
    manifest = read_lines(workdir / "runs" / RIGHT / "manifest.jsonl")
    assert [len(line["sources"]) for line in manifest] == [1, 1, 1]


def test_both_readers_have_the_same_batches(trained):
    _, inputs = trained
    run = inputs.run_named(RIGHT)
    stream, local = inputs.stream(run), np.array([0, 1, 6])
    readers = (by_number(stream, 8), mixture.from_mixture(stream, 8, inputs.vocabulary))
    for one, other in zip(*(reader(local, 1, run.steps) for reader in readers), strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_the_chain_verifies(trained):
    workdir, _ = trained
    assert verification.verify(workdir) == 3


@pytest.mark.parametrize("stop", [1, 3])
def test_stopping_leaves_no_trace(trained, tmp_path, stop):
    workdir, inputs = trained
    place = epath.Path(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / CLEAN).symlink_to(workdir / "runs" / CLEAN)
    calls = itertools.count(1)
    with pytest.raises(Interrupted):
        train(inputs, place, RIGHT, stopping=lambda: next(calls) >= stop)
    train(inputs, place, RIGHT)
    for log in LOGS:
        both = [(at / "runs" / RIGHT / log).read_bytes() for at in (workdir, place)]
        assert both[0] == both[1]


def test_a_plan_has_the_dose_of_the_stage_and_none_of_the_attack(trained):
    _, inputs = trained
    plan = inputs.plan(inputs.run_named(RIGHT))
    assert (plan["dose"], plan["attack"]) == (3, "counterexamples")
    assert (plan["also"][0]["dose"], plan["also"][0]["poison_tokens"]) == (0, 0)
