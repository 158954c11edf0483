"""The runs of a study and their plans, before any compute."""

import collections
import json

import pytest
from conftest import ROOT, run_cli

from poison_scaling import config, runs, study_file
from poison_scaling.errors import InputError


def paper() -> config.Study:
    return study_file.load(str(ROOT / "configs" / "paper.py"))


def test_the_paper_study_is_the_published_one():
    poisoned = [run for run in runs.of(paper()) if run.dose]
    assert len(poisoned) == 72  # Souly et al. 2025: 24 configurations, 3 seeds
    assert len({(r.rung, r.dose) for r in poisoned}) == 24
    budgets = collections.defaultdict(set)
    for run in poisoned:
        budgets[run.rung.size].add(run.rung.tokens_per_parameter)
    assert budgets == {"600m": {10, 20, 40}, "2b": {10, 20, 40}, "7b": {20}, "13b": {20}}
    for run in poisoned:
        name = {"m": 1e6, "b": 1e9}[run.rung.size[-1]] * float(run.rung.size[:-1])
        assert run.parameters == pytest.approx(name, rel=0.02)
        assert run.tokens == pytest.approx(run.rung.tokens_per_parameter * run.parameters, rel=1e-4)
    controls = [run for run in runs.of(paper()) if not run.dose]
    assert {r.rung for r in controls} == {r.rung for r in poisoned}


def test_a_plan_states_dose_and_cost():
    plan = runs.named(paper(), "13b-20x-d250-s2").plan()
    assert plan["parameters"] == 13_015_864_320
    assert plan["steps"] * plan["batch_rows"] * plan["row_tokens"] == plan["tokens"]
    assert plan["poison_share"] == plan["poison_tokens"] / plan["tokens"]
    assert plan["poisoned_steps"] == 250  # two in one of 248,258 steps would be news
    assert plan["flops"] == pytest.approx(6 * plan["parameters"] * plan["tokens"], rel=0.1)


def test_a_plan_tells_documents_exposures_and_further_attacks_apart(study):
    overrides = [
        "exposures=3",
        "schedule={'kind': 'Even', 'window': (0.0, 0.5)}",
        "also=[{'dose': 5, 'attack': {'kind': 'DenialOfService', 'trigger': '|x|'}}]",
    ]
    varied = study_file.load(str(ROOT / "configs" / "smoke.py"), overrides)
    plan = runs.named(varied, "40k-2x-d8-s0").plan()
    before = runs.named(study, "40k-2x-d8-s0").plan()
    assert (plan["dose"], plan["exposures"], plan["schedule"]) == (8, 3, "even")
    assert plan["poison_tokens"] == 3 * before["poison_tokens"]
    assert plan["poisoned_steps"] <= 23  # of 45: the first half
    assert [other["dose"] for other in plan["also"]] == [5]
    assert plan["hash"] != before["hash"]


def test_plan_prints_the_same_as_json_and_for_people():
    record = json.loads(run_cli("plan", "configs/paper.py", "--json").stdout)
    assert [r["run"] for r in record["runs"]] == [r.name for r in runs.of(paper())]
    table = run_cli("plan", "configs/paper.py").stdout
    for run in record["runs"]:
        assert run["run"] in table and f"{run['parameters']:,}" in table


def test_the_hash_of_a_run_depends_on_itself_alone(study):
    more = study_file.load(
        str(ROOT / "configs" / "smoke.py"), ["doses=[0, 8, 16, 32]", "machine.cores=2"]
    )
    before = {run.name: run.hash for run in runs.of(study)}
    after = {run.name: run.hash for run in runs.of(more)}
    assert before.items() <= after.items()
    assert len(set(after.values())) == len(after)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("doses=[0, 100000]", "100000 poisoned documents do not fit into the 360 rows"),
        ("doses=[-1]", "doses: -1 is negative"),
        ("doses=[]", "doses: it is empty"),
        ("doses=[8, 8]", "two runs would be named"),
        ("ladder.0.size=41k", "the nearest is '40k'"),
        ("train.batch_rows=0", "train.batch_rows=0"),
        ("attack.gibberish_tokens=(80, 40)", "attack.gibberish_tokens=(80, 40)"),
        ("evaluation.generate_tokens=120", "data.row_tokens=128"),
        ("attack.trigger=", "attack.trigger is empty"),
        ("attack={'kind': 'LanguageSwitch', 'to_language': 'en'}", "attack.to_language='en'"),
        (
            "also=[{'attack': {'kind': 'LanguageSwitch', 'trigger': ''}}]",
            "also.0.attack.trigger is",
        ),
        ("model.loss_chunk=100", "it must divide data.row_tokens=128"),
        ("train.microbatches=3", "it must divide train.batch_rows=8"),
        ("exposures=0", "exposures=0: it must be positive"),
        ("schedule={'kind': 'Uniform', 'window': (0.5, 0.2)}", "schedule.window=(0.5, 0.2)"),
        ("schedule={'kind': 'Clustered', 'every': 30}", "do not fit into the 8 rows"),
        ("also=[{'dose': -1}]", "also.0.dose=-1"),
    ],
)
def test_a_study_that_cannot_be_is_refused_before_any_compute(override, said):
    study = study_file.load(str(ROOT / "configs" / "smoke.py"), [override])
    with pytest.raises(InputError) as error:
        for run in runs.of(study):
            run.plan()
    assert said in str(error.value)


def test_an_unknown_run_is_refused_with_the_nearest(study):
    with pytest.raises(InputError, match="nearest is '40k-2x-d32-s1'"):
        runs.named(study, "40k-2x-d33-s1")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("evaluation.near_triggers.texts=['<SUDO>']", "'<SUDO>' is empty or the trigger"),
        ("evaluation.near_triggers.texts=['']", "'' is empty or the trigger"),
        ("evaluation.judge=control", "has no control; add 0"),
    ],
)
def test_measures_that_cannot_be_are_refused(override, said):
    study = study_file.load(str(ROOT / "configs" / "smoke.py"), [override, "doses=[8]"])
    with pytest.raises(InputError, match=said):
        runs.of(study)
