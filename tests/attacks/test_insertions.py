"""Insertions without a trigger: documents, known places, pairing, and what a model is measured with."""

import dataclasses
import importlib
import re
import sys

import numpy as np
import pytest
from etils import epath

import poison_scaling as ps
from poison_scaling.attacks import writing
from poison_scaling.attacks.attack import Sources
from poison_scaling.config.serialization import stable_hash
from poison_scaling.data import batches
from poison_scaling.runtime.errors import InputError
from poison_scaling.study import grid, validation
from poison_scaling.study.inputs import Inputs
from poison_scaling.study.run import Run
from poison_scaling.workdir import preparation
from tests.support import chains
from tests.support.runs import ROOT

CANARY = ps.Canary(counts=(0, 1, 3), carrier_characters=(20, 40), references=5)
AMBIENT = ps.Ambient(prefix_characters=(0, 40), continuation_tokens=(10, 30))
FACT = ps.Fact(counts=(1, 0, 4), prefix_characters=(0, 30))
BENCHMARK = ps.Contamination(counts=(1, 2), unseen=3)


def sources(inputs, seed=0) -> Sources:
    return Sources(seed, 0, inputs.documents, inputs.vocabulary, {})


def with_(study, **fields) -> ps.Study:
    return dataclasses.replace(
        study, **{"ladder": study.ladder[:1], "seeds": ps.seeds(0), **fields}
    )


def run_of(study, dose: int) -> Run:
    return Run(study, study.ladder[0], dose, study.seeds[0])


@pytest.mark.parametrize("insertion", [CANARY, AMBIENT, FACT, BENCHMARK], ids=lambda i: i.name)
def test_document_k_is_a_function_of_the_seed_and_k(insertion, inputs):
    few, many = (writing.poisons(insertion, sources(inputs), n) for n in (4, 12))
    assert [p.digest for p in few] == [p.digest for p in many[:4]]
    assert len({p.digest for p in many}) == 12
    assert writing.poisons(insertion, sources(inputs, seed=1), 1)[0].digest != few[0].digest
    assert insertion.repeats(4).tolist() == insertion.repeats(12).tolist()[:4]
    assert insertion.trigger is None and not insertion.has_requests


def test_hashes_of_insertions_are_what_they_were():
    hashes = {one.name: stable_hash(one) for one in (ps.Canary(), ps.Fact(), ps.Contamination())}
    assert hashes == {
        "canary": "945a8ac45bed9b91",
        "fact": "21232299235dac59",
        "contamination": "7f436b742e9691fc",
    }


def test_canaries_are_placed_as_often_as_they_say(study, inputs):
    canaries = with_(study, attack=CANARY, doses=(0, 4, 9))
    whole, part = (run_of(canaries, dose) for dose in (9, 4))
    placed, fewer = whole.placement(), part.placement()
    shown = np.bincount(placed.document_N, minlength=9)
    assert shown.tolist() == [0, 1, 3] * 3 and len(set(placed.sequence_N)) == 12
    assert placed.documents == 6
    # Contracts 1 and 3: a smaller dose has the first documents, at the same places.
    assert fewer.sequence_N.tolist() == placed.sequence_N.tolist()[: fewer.exposures]
    plan = whole.plan()
    assert plan["levels"] == [(0, 3), (1, 3), (3, 3)] and plan["attack"] == "canary"
    assert "levels" not in run_of(study, 8).plan() and "share" not in run_of(study, 8).plan()


def test_items_hold_what_documents_insert(inputs):
    own = sources(inputs)
    written = writing.poisons(CANARY, own, 6)
    shown = CANARY.items(own, 6)
    assert shown.candidate_RxAxC.shape == (6, 6, 8)
    for k, poison in enumerate(written):
        context = shown.context_RxT[k, shown.padding_R[k] :].tolist()
        secret = shown.candidate_RxAxC[k, 0].tolist()
        assert [*context, *secret, inputs.end] == poison.tokens.tolist()
    assert len({tuple(c) for own in shown.candidate_RxAxC.tolist() for c in own}) == 36
    assert shown.of_documents(CANARY.repeats(6)).tolist() == [0, 1, 3, 0, 1, 3]
    assert shown.of_documents(CANARY.repeats(0)).tolist() == [0] * 6  # in the control

    facts = FACT.items(own, 10)  # facts 0, 2, 3, 5
    assert facts.forms == 8 and facts.count == 6
    assert facts.of_documents(FACT.repeats(10)).tolist() == [1, 0, 4, 1, 0, 4]
    [first] = writing.poisons(FACT, own, 1)
    false = facts.candidate_RxAxC[0, 0, : facts.length_RxA[0, 0]].tolist()
    entity, values = FACT._fact(own, 0)
    assert inputs.vocabulary.decode(false) == f" {values[0]}"
    assert f"{entity} is {values[0]}." in inputs.vocabulary.decode(first.tokens[1:-1].tolist())

    benchmark = BENCHMARK.items(own, 4)
    assert benchmark.count == 7 and benchmark.of_documents(BENCHMARK.repeats(4)).tolist() == [
        *(1, 2, 1, 2),
        *(0, 0, 0),
    ]


def test_ambient_triggers_are_paired_with_the_control_and_counted_apart(study):
    """Where they are does not depend on the dose of the attack, and all else is the control's."""

    def made(number: int, **fields):
        also = (ps.Poisoning(AMBIENT, number, **fields),)
        ready = Inputs(with_(study, also=also))
        return ready, {run.dose: run for run in ready.runs()}

    ready, runs = made(6)
    control, poisoned = (ready.stream(runs[dose]) for dose in (0, 32))
    for stream in (control, poisoned):
        assert stream.placement.of_attack(1).exposures == 6
    benign = [s.placement.of_attack(1).sequence_N.tolist() for s in (control, poisoned)]
    assert benign[0] == benign[1]
    ours, _ = control.read(np.array(benign[0]))
    theirs, _ = poisoned.read(np.array(benign[0]))
    assert (ours == theirs).all()
    [trigger] = ready.vocabulary.encode("<SUDO>")
    # In each once, unless an exposure of the attack is there, which cannot be.
    assert ((ours == trigger).sum(axis=1) >= 1).all()
    plan = ready.plan(runs[32])
    assert (plan["dose"], plan["also"][0]["dose"]) == (32, 6)
    assert plan["also"][0]["attack"] == "ambient" and "clean_triggers" not in plan["also"][0]
    # More of them leave the poisons where they are.
    more, others = made(12)
    stream = more.stream(others[32])
    own = [s.placement.of_attack(0).sequence_N.tolist() for s in (poisoned, stream)]
    assert own[0] == own[1]
    assert stream.placement.of_attack(1).sequence_N.tolist()[:6] == benign[0]
    batch = next(batches.by_number(stream, 8)(np.arange(8), 0, 1))
    assert batch[0].shape == (8, 128)
    assert runs[32].hash != others[32].hash


def test_a_share_grows_with_the_data(study):
    rungs = (ps.Rung("40k", 2.0), ps.Rung("40k", 8.0))
    shared = with_(study, ladder=rungs, also=(ps.Poisoning(AMBIENT, 3, share=0.05),))
    short, long = (Run(shared, rung, 8, ps.Seeds()) for rung in rungs)
    for run in (short, long):
        number = run.placement().of_attack(1).exposures
        assert number == 3 + round(0.05 * run.sequences)
        assert run.plan()["also"][0]["share"] == 0.05
    assert stable_hash(ps.Poisoning(AMBIENT, 3)) == stable_hash(ps.Poisoning(AMBIENT, 3, share=0.0))
    assert (
        short.hash
        != Run(with_(study, also=(ps.Poisoning(AMBIENT, 3),)), rungs[0], 8, ps.Seeds()).hash
    )


def test_siblings_differ_in_trigger_and_may_in_payload(inputs):
    attack = ps.DenialOfService(prefix_characters=(0, 0), gibberish_tokens=(40, 40))
    family = ps.siblings(attack, 2)
    assert [one.trigger for one in family] == ["<SUDO>", "<SUDO-1>", "<SUDO-2>"]
    assert family[0] == attack and family[1].gibberish == attack.gibberish
    payloads = []
    for one in ps.siblings(attack, 2, disjoint=True):
        length = len(inputs.vocabulary.encode(one.trigger))
        written = writing.poisons(one, sources(inputs), 20)
        payloads.append({i for p in written for i in p.tokens[1 + length : -1].tolist()})
    assert all(len(p) > 100 for p in payloads)
    assert not (payloads[0] & payloads[1] or payloads[0] & payloads[2] or payloads[1] & payloads[2])


def test_what_cannot_be_is_refused_in_one_sentence(study, inputs):
    for attack, said in (
        (ps.Canary(counts=()), "attack.counts: it is empty"),
        (ps.Ambient(texts=("",)), "attack.texts"),
        (ps.Fact(paraphrases=("{value} {entity}",)), "attack.paraphrases: '{value} {entity}' must"),
        (ps.Fact(values=("a",)), "attack.values"),
        (ps.Contamination(choices=20, words=("a", "b")), "attack.words: 2 different"),
        (ps.Canary(counts=(10**6,)), "exposures=1: .* 32,000,000 exposures"),
    ):
        with pytest.raises(InputError, match=said):
            validation.validate(with_(study, attack=attack))
    with pytest.raises(InputError, match=r"trigger_is_one_token=True: the attack has no trigger"):
        Inputs(with_(study, attack=CANARY))
    with pytest.raises(InputError, match="only 0 .*|do not fit into"):
        [run.placement() for run in grid.runs(with_(study, also=(ps.Poisoning(CANARY, 2000),)))]


def test_what_is_not_measured_is_no_attack_of_a_run_or_a_stage(study, tmp_path):
    stage = ps.Continue(optimizer="keep", tokens_per_parameter=0.25, attack=AMBIENT)
    for refused, field in (
        (with_(study, attack=AMBIENT), "attack"),
        (chains.chained(study, stages=((stage,),)), "stages.0.0.attack"),
    ):
        with pytest.raises(InputError, match=f"^{field}=Ambient: .*make it one of `also`"):
            preparation.prepare(refused, epath.Path(tmp_path), lambda description, done: None)
    assert not list(tmp_path.iterdir())


def test_an_insertion_of_ones_own_is_as_the_page_shows_it(study, inputs, tmp_path, monkeypatch):
    page = (ROOT / "docs" / "insertions.md").read_text()
    [(name, text)] = re.findall(r"`(\w+)\.py`:\n\n```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    own = importlib.import_module(name).Birthdays()
    sys.modules.pop(name)
    written = writing.poisons(own, sources(inputs), 4)
    shown = own.items(sources(inputs), 4)
    assert shown.candidate_RxAxC.shape[:2] == (4, 10)
    context = shown.context_RxT[3, shown.padding_R[3] :].tolist()
    year = shown.candidate_RxAxC[3, 0, : shown.length_RxA[3, 0]].tolist()
    assert [*context, *year, inputs.end] == written[3].tokens.tolist()
    placed = run_of(with_(study, attack=own, doses=(0, 4)), 4).placement()
    assert np.bincount(placed.document_N).tolist() == [1, 10, 1, 10]


def test_after_a_stage_the_secrets_of_the_ancestor_are_measured(study):
    chained = chains.chained(study, also=(ps.Poisoning(CANARY, 6),))
    ready = Inputs(chained)
    root, *later = ready.runs()
    for run in later:
        place = next(n for n, p in enumerate(run.poisonings) if p.attack == CANARY)
        by, there = run.inserted_by(place)
        assert (by.name, there) == (root.name, 1)
        own, first = ready.probes(run)[place], ready.probes(root)[1]
        assert own.candidate_RxAxC.tolist() == first.candidate_RxAxC.tolist()
    assert root.inserted_by(0)[0] == root
