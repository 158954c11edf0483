"""Insertions of a run of another study are measured, and removed, with the text that it was trained on."""

import dataclasses

import pytest
from etils import epath

import poison_scaling as ps
from analysis.files import write_json
from poison_scaling.attacks import writing
from poison_scaling.config import serialization
from poison_scaling.runtime.errors import InputError
from poison_scaling.study.inputs import Inputs
from tests.support.chains import chained

OTHER = ps.InstalledDocs(packages=("optax",))
CANARY = ps.Canary(counts=(1, 2), carrier_characters=(20, 40), references=3)


@pytest.fixture(scope="module")
def base(study, tmp_path_factory) -> tuple[ps.Study, epath.Path]:
    """A study with canaries and then a backdoor in stages on text of their own, and its folder."""
    backdoor = dataclasses.replace(study.attack, trigger="|go|")
    stages = tuple(
        (
            ps.Continue(
                optimizer="keep",
                label=label,
                tokens_per_parameter=0.25,
                corpus=OTHER,
                attack=attack,
                doses=(8,),
            ),
        )
        for label, attack in (("canaries", CANARY), ("go", backdoor))
    )
    base = chained(study, stages=stages)
    folder = epath.Path(tmp_path_factory.mktemp("base"))
    write_json(folder / "study.json", {"config": serialization.to_json(base)})
    return base, folder


def starting(study: ps.Study, base: ps.Study, folder: epath.Path) -> ps.Study:
    """A study on the text of pretraining that removes the backdoor of the last stage of another."""
    backdoor = base.stages[1][0].attack
    right = ps.Continue(
        optimizer="reset",
        label="right",
        tokens_per_parameter=0.25,
        attack=ps.Counterexamples(removes=backdoor),
        doses=(40,),
    )
    return chained(
        study,
        start=ps.Start(str(folder), run="40k-0.5x-d8-s0+canaries-d8+go-d8"),
        also=(ps.Poisoning(CANARY), ps.Poisoning(backdoor)),
        stages=((right,),),
    )


def test_items_and_counterexamples_know_the_text_of_the_run_that_they_follow(study, base):
    theirs, ours = Inputs(base[0]), Inputs(starting(study, *base))
    [run] = ours.runs()
    place = next(n for n, p in enumerate(run.poisonings) if p.attack == CANARY)
    by, _ = run.inserted_by(place)
    assert by.name == "40k-0.5x-d8-s0+canaries-d8"
    first, own = theirs.probes(by)[0], ours.probes(run)[place]
    assert own.candidate_RxAxC.tolist() == first.candidate_RxAxC.tolist()
    assert own.context_RxT.tolist() == first.context_RxT.tolist()
    assert ours.probes(run)[place] is own  # built once

    [earlier] = ours._poisonings(run.parent)
    removed = theirs.poisons(theirs.run_named(run.parent.name))[0]
    assert [p.digest for p in writing.poisons(earlier.attack, earlier.sources, earlier.dose)] == [
        p.digest for p in removed
    ]


def test_text_that_is_gone_is_said_before_any_compute(study, base, tmp_path):
    gone = ps.Files(patterns=(f"{tmp_path}/gone.jsonl",))
    stages = tuple((dataclasses.replace(s, corpus=gone),) for [s] in base[0].stages)
    other = dataclasses.replace(base[0], stages=stages)
    write_json(epath.Path(tmp_path) / "study.json", {"config": serialization.to_json(other)})
    with pytest.raises(InputError, match=r"^start: 40k.*canaries-d8.* was trained on .*gone") as e:
        Inputs(starting(study, base[0], epath.Path(tmp_path)))
    assert "\n" not in str(e.value)
