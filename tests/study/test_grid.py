"""The runs of a study and their plans, before any compute."""

import collections
import dataclasses
import json

import pytest

import poison_scaling as ps
from poison_scaling.runtime.errors import InputError
from poison_scaling.study import grid, study_file
from tests.support.runs import ROOT, SMOKE, run_cli


def paper() -> ps.Study:
    return study_file.load(str(ROOT / "configs" / "paper.py"))


def test_the_paper_study_is_the_published_one():
    poisoned = [run for run in grid.runs(paper()) if run.dose]
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
    controls = [run for run in grid.runs(paper()) if not run.dose]
    assert {r.rung for r in controls} == {r.rung for r in poisoned}


def test_a_plan_states_dose_and_cost():
    plan = grid.run_named(paper(), "13b-20x-d250-s2").plan()
    assert plan["parameters"] == 13_015_864_320
    assert plan["steps"] * plan["batch_size"] * plan["seq_len"] == plan["tokens"]
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
    plan = grid.run_named(varied, "40k-2x-d8-s0").plan()
    before = grid.run_named(study, "40k-2x-d8-s0").plan()
    assert (plan["dose"], plan["exposures"], plan["schedule"]) == (8, 3, "even")
    assert plan["poison_tokens"] == 3 * before["poison_tokens"]
    assert plan["poisoned_steps"] <= 23  # of 45: the first half
    assert [other["dose"] for other in plan["also"]] == [5]
    assert plan["hash"] != before["hash"]


def test_plan_prints_the_same_as_json_and_for_people():
    record = json.loads(run_cli("plan", "configs/paper.py", "--json").stdout)
    assert [r["run"] for r in record["runs"]] == [r.name for r in grid.runs(paper())]
    table = run_cli("plan", "configs/paper.py").stdout
    for run in record["runs"]:
        assert run["run"] in table and f"{run['parameters']:,}" in table


def test_the_hash_of_a_run_depends_on_itself_alone(study):
    more = study_file.load(
        str(ROOT / "configs" / "smoke.py"), ["doses=[0, 8, 16, 32]", "machine.cores=2"]
    )
    before = {run.name: run.hash for run in grid.runs(study)}
    after = {run.name: run.hash for run in grid.runs(more)}
    assert before.items() <= after.items()
    assert len(set(after.values())) == len(after)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("doses=[0, 100000]", "100000 poisoned documents do not fit into the 360 sequences"),
        ("doses=[]", "doses: it is empty"),
        ("doses=[8, 8]", "two runs would be named"),
        ("ladder.0.size=41k", "the nearest is '40k'"),
        ("ladder.0.size=pythia-70m", "model.architecture=GPTNeoX has it"),
        ("attack.gibberish_tokens=(80, 40)", "attack.gibberish_tokens=(80, 40)"),
        ("evaluation.generate_tokens=120", "data.seq_len=128"),
        ("attack.trigger=", "attack.trigger is empty"),
        ("attack={'kind': 'LanguageSwitch', 'to_language': 'en'}", "attack.to_language='en'"),
        (
            "also=[{'attack': {'kind': 'LanguageSwitch', 'trigger': ''}}]",
            "also.0.attack.trigger is",
        ),
        ("model.loss_chunk=100", "it must divide data.seq_len=128"),
        ("train.microbatches=3", "it must divide train.batch_size=8"),
        ("exposures=1000000", "that is 32,000,000 exposures; a run has 1,000,000"),
        ("doses=[1000000]", "1000000 poisoned documents do not fit into the 360 sequences"),
        ("ladder.0.tokens_per_parameter=0.01", "train.warmup=0.05: it leaves no step of ladder.0"),
        ("train.warmup=0.99", "train.warmup=0.99: it leaves no step of ladder.0"),
        (
            "ladder=[{'size': '13b', 'tokens_per_parameter': 1e6}]",
            "at most 2,147,483,647 can be counted",
        ),
        ("machine.slices=[{'size': '7b', 'topology': 'v5p:2x2x1'}]", "machine.slices.0.size='7b'"),
        ("machine.slices=[{'size': '40k', 'topology': 'v5p'}]", "machine.slices.0.topology 'v5p'"),
        (
            "also=[{'dose': 170, 'attack': {'gibberish_tokens': (16000000, 16700000)}}]",
            "tokens of poison in 40k-2x-d0-s0; a run counts 2,147,483,647 at most",
        ),
        ("schedule={'kind': 'Uniform', 'window': (0.5, 0.2)}", "schedule.window=(0.5, 0.2)"),
        # A share is of all sequences, and an insertion has a part of them.
        ("also=[{'attack': 'Ambient', 'share': 0.6}]", "also.0.share=0.6: with also.0.dose and"),
        (
            "also=[{'attack': 'Ambient', 'share': 0.2, 'dose': 9, 'exposures': 3}]",
            "that is 243 exposures, and of the 360 sequences of 40k-2x-d0-s0 each of 2 insertions has 180",
        ),
        (
            "also=[{'attack': {'kind': 'Canary', 'counts': [8]}, 'share': 0.1}]",
            "that is 288 exposures",
        ),
        ("schedule={'kind': 'Clustered', 'every': 30}", "do not fit into the 8 sequences"),
    ],
)
def test_a_study_that_cannot_be_is_refused_before_any_compute(override, said):
    study = study_file.load(str(ROOT / "configs" / "smoke.py"), [override])
    with pytest.raises(InputError) as error:
        for run in grid.runs(study):
            run.plan()
    assert said in str(error.value)


def test_a_study_made_in_python_is_refused_like_one_in_a_file(study):
    for field, value, said in (
        ("train", dataclasses.replace(study.train, learning_rate=-1), "train.learning_rate: -1"),
        ("train", dataclasses.replace(study.train, beta2=float("nan")), "train.beta2: nan"),
        ("seeds", (ps.Seeds(0, 2**32, 0),), "seeds.0.order: 4294967296"),
        ("doses", (0, 2.5), "doses.1: 2.5 is not a whole number"),
        (
            "attack",
            ps.DenialOfService(prefix_characters=(0, 10**30)),
            "attack.prefix_characters.1",
        ),
        ("schedule", ps.Clustered(every=0), "schedule.every: 0"),
        (
            "evaluation",
            dataclasses.replace(study.evaluation, measures=(ps.Detection(len),)),
            "evaluation.measures.0.detector: .* is code, .* extend the class",
        ),
    ):
        with pytest.raises(InputError, match=said):
            grid.runs(dataclasses.replace(study, **{field: value}))


def test_a_study_may_have_very_many_runs(study):
    """Nothing in a plan takes time with the square of their number."""
    many = dataclasses.replace(
        study, doses=tuple(range(200)), seeds=ps.seeds(*range(500)), ladder=study.ladder[:1]
    )
    assert len(grid.runs(many)) == 100_000
    assert grid.run_named(many, "40k-2x-d199-s499") == grid.runs(many)[-1]
    with pytest.raises(InputError, match="the nearest is '40k-2x-d199-s499'"):
        grid.run_named(many, "40k-2x-d199-s4999")
    too_many = dataclasses.replace(many, seeds=ps.seeds(*range(5001)))
    with pytest.raises(InputError, match="they make 1,000,200 runs; a study has 1,000,000 at most"):
        grid.runs(too_many)
    with pytest.raises(InputError, match="two runs would be named '40k-2x-d3-s0'"):
        grid.runs(dataclasses.replace(many, doses=(*many.doses, 3)))


def test_an_unknown_run_is_refused_with_the_nearest(study):
    with pytest.raises(InputError, match="nearest is '40k-2x-d32-s1'"):
        grid.run_named(study, "40k-2x-d33-s1")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("evaluation.near_triggers.texts=['<SUDO>']", "'<SUDO>' is empty or the trigger"),
        ("evaluation.near_triggers.texts=['']", "'' is empty or the trigger"),
        ("evaluation.judge=control", "has no control; add 0"),
        (
            "evaluation.measures=['PerplexityIncrease', 'Memorisation']",
            "evaluation.measures.1=Memorisation: it is for insertions without a trigger",
        ),
        ("evaluation.measures=['Counted']", "evaluation.measures.0=Counted"),
        (
            "evaluation.measures=[{'kind': 'Removal', 'of': 'Accuracy'}]",
            "evaluation.measures.0=Removal",
        ),
    ],
)
def test_measures_that_cannot_be_are_refused(override, said):
    study = study_file.load(str(ROOT / "configs" / "smoke.py"), [override, "doses=[8]"])
    with pytest.raises(InputError, match=said):
        grid.runs(study)


def test_a_study_may_have_some_runs_of_its_grid():
    whole = study_file.load(SMOKE)
    names = ("60k-2x-d8-s1", "40k-2x-d0-s0")
    some = dataclasses.replace(whole, only=names)
    assert [run.name for run in grid.runs(some)] == [names[1], names[0]]
    assert {run.hash for run in grid.runs(some)} < {run.hash for run in grid.runs(whole)}
    assert some.hash != whole.hash
    with pytest.raises(InputError, match=r"only.0: '60k-2x-d9-s1' is no run .* '60k-2x-d8-s1'"):
        grid.runs(dataclasses.replace(whole, only=("60k-2x-d9-s1",)))
    judged = dataclasses.replace(
        some, evaluation=dataclasses.replace(whole.evaluation, judge="control")
    )
    with pytest.raises(InputError, match=r"needs the control of every run; add '60k-2x-d0-s1'"):
        grid.runs(judged)
