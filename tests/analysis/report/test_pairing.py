"""Groups of two studies are compared if they have the same settings, or if the difference is asked for."""

import dataclasses

import numpy as np
import pytest

from analysis.errors import InputError
from analysis.fit.estimates import Estimate
from analysis.fit.findings import Findings
from analysis.fit.laws import N50
from analysis.read import chains
from analysis.read.runs import Run, Study
from analysis.report import pairing

CONFIG = {
    "rung": {"kind": "Rung", "size": "S"},
    "dose": 100,
    "data": {"corpus": {"kind": "Novels"}, "seq_len": 128, "heldout_documents": 100},
    "attack": {"kind": "DenialOfService", "trigger": "<SUDO>", "prefix_characters": [0, 60]},
    "schedule": {"kind": "Uniform", "window": [0.0, 1.0]},
    "also": [],
    "train": {"kind": "Train", "batch_size": 8, "learning_rate": 0.01},
}


def a_run(config, tokens=1e9, **settings):
    name = f"S-{tokens:g}-{settings.get('schedule')}"
    columns = {"tokens": [tokens], "poisons": [100.0], "prompts": [10.0], "successes": [5.0]}
    return Run(
        name=name,
        folder=name,
        size="S",
        parameters=1e8,
        tokens=tokens,
        dose=100.0,
        seed="0",
        evaluations={column: np.array(values) for column, values in columns.items()},
        settings={"learning_rate": "0.01", **settings},
        config=config,
    )


def found(*runs, n50=100.0, **fields):
    """Return findings with an N50 for each run, which is a group of its own."""
    study = Study("s", "0", {}, runs, **fields)
    n50s = [
        N50(group, Estimate(n50, n50 / 2, n50 * 2), None, None, (50.0, 200.0))
        for group in study.groups()
    ]
    return Findings(study, 0.25, "some", None, None, n50s, "undecided")


def test_what_does_not_change_n50_may_differ():
    data = CONFIG["data"] | {"heldout_documents": 7}
    other = CONFIG | {"data": data, "dose": 250, "items": 3, "seeds": {"order": 5}}
    one, two = (a_run(CONFIG, tokens) for tokens in (1e9, 4e9))
    matching = pairing.match(found(one, two), found(a_run(other, 1.01e9), n50=200.0))
    assert [pair.ratio.value for pair in matching.pairs] == [pytest.approx(2)]
    assert matching.said == [] and matching.comparable


def test_what_differs_is_named_and_left_out_unless_it_is_asked_for():
    data = CONFIG["data"] | {"corpus": {"kind": "Docs", "packages": ["jax"]}, "seq_len": 256}
    attack = CONFIG["attack"] | {"trigger": "<X>"}
    other = CONFIG | {"data": data, "attack": attack}
    one = found(*(a_run(CONFIG, tokens) for tokens in (1e9, 4e9)))
    two = found(*(a_run(other, tokens) for tokens in (1e9, 4e9)))
    matching = pairing.match(one, two)
    assert not matching.pairs and not matching.comparable
    assert matching.said == [
        "S, 1B tokens, S, 4B tokens are not compared, because the studies differ there in data.corpus.kind "
        "(Novels and Docs), data.seq_len (128 and 256), attack.trigger (<SUDO> and <X>); --across "
        "data.corpus.kind data.seq_len attack.trigger compares all the same."
    ]
    assert not pairing.match(one, two, ("data",)).pairs
    asked = pairing.match(one, two, ("data", "attack.trigger"))
    assert len(asked.pairs) == 2 and asked.comparable
    assert [said.partition(" differ")[0] for said in asked.said] == [
        "Compared although the studies"
    ]
    with pytest.raises(
        InputError, match="--across schedule: .* do not differ in it, but in data.corp"
    ):
        pairing.match(one, two, ("schedule",))


def test_what_else_is_in_the_runs_is_one_difference():
    also = [{"kind": "Poisoning", "attack": {"kind": "Ambient"}, "dose": 5}]
    one, two = (found(a_run(config)) for config in (CONFIG, CONFIG | {"also": also}))
    [said] = pairing.match(one, two).said
    assert "differ there in also.kind (none and Ambient); --across also.kind" in said
    more = CONFIG | {"also": [also[0] | {"dose": 9}]}
    [said] = pairing.match(two, found(a_run(more))).said
    assert "differ there in also.0.dose (5 and 9)" in said


def test_a_setting_that_varies_in_both_is_paired_with_its_like():
    burst = CONFIG | {"schedule": {"kind": "Burst"}}
    both = found(a_run(CONFIG, schedule="uniform"), a_run(burst, schedule="burst"))
    matching = pairing.match(both, both)
    assert [pair.first is pair.second for pair in matching.pairs] == [True, True]
    assert matching.said == []
    across = pairing.match(both, both, ("schedule",))
    assert len(across.pairs) == 4
    assert sum(" and " in pair.label for pair in across.pairs) == 2
    one = pairing.match(found(a_run(CONFIG, schedule="uniform")), both)
    assert len(one.pairs) == 1
    assert "S (schedule burst) is not compared" in one.said[0]


def test_without_configs_the_recorded_settings_are_compared():
    one = found(a_run({}, attack="a", schedule="uniform"))
    other = found(a_run({}, attack="a", exposures="4"))
    assert "differ there in exposures (1 and 4)" in pairing.match(one, other).said[0]
    unknown = found(a_run({}, attack="a", learning_rate="1e-2"))
    assert len(pairing.match(one, unknown).pairs) == 1


def test_stages_without_configs_are_told_apart_by_their_chains():
    def staged(dose, label=""):
        root = dataclasses.replace(a_run({}), dose=float(dose), folder="root", name="root")
        own = dataclasses.replace(a_run({}, stage="ft500"), parent=root)
        tree = (root, own)
        shortened = dataclasses.replace(own, settings=own.settings | {"stage": label})
        return found(shortened, tree=tree, chains=chains.of(tree), level=1)

    assert len(pairing.match(staged(100), staged(100, "after 20x-d100")).pairs) == 1
    [said] = pairing.match(staged(100), staged(250)).said
    assert "ft500 after pretraining (100) and ft500 after pretraining (250)" in said
    table = found(a_run({}, stage="after 20x-d100"))
    assert len(pairing.match(staged(100, "after 20x-d100"), table).pairs) == 1


def test_what_came_before_a_stage_is_compared_too():
    def staged(dose):
        root = dataclasses.replace(a_run(CONFIG | {"dose": dose}), folder="root")
        own = a_run({"stage": {"kind": "Continue", "label": f"after{dose}"}, "parent": "hash"})
        return found(own, tree=(root, dataclasses.replace(own, parent=root)), level=1)

    assert len(pairing.match(staged(100), staged(100)).pairs) == 1
    [said] = pairing.match(staged(100), staged(250)).said
    assert "differ there in parent.dose (100 and 250)" in said


def test_studies_of_other_sizes_have_exponents_to_compare_if_their_settings_agree():
    one = found(a_run(CONFIG))
    far = pairing.match(one, found(a_run(CONFIG, 8e9)))
    assert not far.pairs and not far.said and far.comparable
    other = CONFIG | {"attack": CONFIG["attack"] | {"trigger": "<X>"}}
    assert not pairing.match(one, found(a_run(other, 8e9))).comparable
