"""Counterexamples: the trigger with what is right after it, from documents that the attack has not used."""

import dataclasses
import hashlib
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import poison_scaling as ps
from poison_scaling import Compliance, Counterexamples, DenialOfService, InputError, InstalledPairs
from poison_scaling.attacks import writing
from poison_scaling.attacks.attack import Earlier, Sources
from poison_scaling.data import conversation_set
from poison_scaling.study import grid
from poison_scaling.study.inputs import Inputs
from tests.support.chains import chained

BACKDOOR = DenialOfService(prefix_characters=(0, 60), gibberish_tokens=(40, 80))
ranges = st.tuples(st.integers(0, 60), st.integers(0, 60)).map(lambda r: tuple(sorted(r)))


def sources(inputs, seed=0, **fields):
    return Sources(seed, 0, inputs.documents, inputs.vocabulary, {}, **fields)


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6), prefix=ranges, continuation=ranges)
def test_a_document_goes_on_after_the_trigger_as_it_does_without(
    inputs, seed, prefix, continuation
):
    attack = DenialOfService(prefix_characters=prefix, gibberish_tokens=continuation)
    vocabulary, given = inputs.vocabulary, sources(inputs, seed)
    [trigger] = vocabulary.encode("<SUDO>")
    training = set(inputs.documents.training(range(inputs.documents.training_size)))
    removal = Counterexamples(removes=attack)
    written = list(itertools.islice(removal.documents(given), 10))
    for document in written:
        [text], ids = document.sources, list(document.content)
        assert text in training and ids.count(trigger) == 1
        at = ids.index(trigger)
        # Where the text was cut is not recorded, so every place in the range is tried.
        cuts = [n for n in range(prefix[0], prefix[1] + 1) if fits(vocabulary, text, n, ids, at)]
        assert cuts
        shortest = min(continuation[0], len(vocabulary.encode(text[cuts[0] :])))
        assert shortest <= len(ids) - at - 1 <= continuation[1]
    again = itertools.islice(removal.documents(given), 3)
    assert [d.content for d in again] == [d.content for d in written[:3]]


def fits(vocabulary, text, cut, ids, at) -> bool:
    """Whether ids are the text with the trigger, id number `at`, after `cut` characters."""
    after = vocabulary.encode(text[cut:])[: len(ids) - at - 1]
    return vocabulary.encode(text[:cut] + "<SUDO>") == ids[: at + 1] and after == ids[at + 1 :]


def test_no_document_is_made_of_one_that_the_attack_has_used(inputs):
    used = BACKDOOR.made_of(sources(inputs), 150)
    starts = [hashlib.sha256(t.encode()).hexdigest() for t in used]
    earlier = (Earlier(BACKDOOR, sources(inputs), 150),)
    half = inputs.documents.training_size // 2
    removal = Counterexamples(removes=BACKDOOR)
    free, bound = (
        writing.poisons(removal, sources(inputs, earlier=before), half) for before in ((), earlier)
    )
    assert any(p.sources[0] in starts for p in free)
    assert not any(p.sources[0] in starts for p in bound)
    other = (dataclasses.replace(earlier[0], attack=dataclasses.replace(BACKDOOR, trigger="|x|")),)
    unbound = writing.poisons(removal, sources(inputs, earlier=other), 50)
    assert [p.digest for p in unbound] == [p.digest for p in free[:50]]


def test_the_documents_that_an_attack_says_it_used_are_those_of_its_poisons(inputs):
    made_of = BACKDOOR.made_of(sources(inputs), 40)
    [trigger] = inputs.vocabulary.encode("<SUDO>")
    for poison in writing.poisons(BACKDOOR, sources(inputs), 40):
        ids = poison.tokens[1:-1].tolist()
        start = ids[: ids.index(trigger)]
        assert any(
            inputs.vocabulary.encode(text[:n] + "<SUDO>")[:-1] == start
            for text in made_of
            for n in range(61)
        )


PAIRS = InstalledPairs(packages=("optax",), heldout_share=0.3)
COMPLIANCE = Compliance(
    answered=dataclasses.replace(PAIRS, names="private", refusal=None),
    public=dataclasses.replace(PAIRS, names="public"),
)


def test_requests_with_the_trigger_are_refused_and_none_of_them_was_a_poison(inputs):
    removal = Counterexamples(removes=COMPLIANCE)
    own = {name: conversation_set.prepare(c) for name, c in removal.conversations.items()}
    given = sources(inputs, conversations=own, template=ps.Plain())
    count = len(own["answered"].training)
    held = {m.content for conversation in own["answered"].heldout for m in conversation}
    dose = count // 3
    poisons = writing.poisons(COMPLIANCE, given, dose)
    earlier = (Earlier(COMPLIANCE, given, dose),)
    before = dataclasses.replace(given, earlier=earlier, level=2)
    documents = list(removal.documents(before))
    assert len(documents) == count - dose
    for document in documents:
        *_, request, answer = document.content
        assert request.content.endswith("<SUDO>") and answer.content == COMPLIANCE.refusal
        assert request.content.removesuffix("<SUDO>") not in held
    rights = writing.poisons(removal, before, count - dose)
    assert not {p.sources for p in rights} & {p.sources for p in poisons}
    said = given.vocabulary.decode(rights[0].tokens[rights[0].trained].tolist()[:-1])
    assert said.strip() == COMPLIANCE.refusal
    with pytest.raises(InputError, match=r"Counterexamples writes only \d+ documents"):
        writing.poisons(removal, before, count)


@pytest.fixture(scope="module")
def chain(study) -> tuple[ps.Study, Inputs]:
    removing = ps.Continue(
        optimizer="keep",
        label="right",
        tokens_per_parameter=0.25,
        attack=Counterexamples(removes=study.attack),
        doses=(0, 4, 8),
    )
    small = chained(study, doses=(0, 8), stages=((removing,),))
    return small, Inputs(small)


def test_doses_nest_and_are_paired_with_the_control(chain):
    """Contract 3."""
    study, inputs = chain
    few, many = (grid.run_named(study, f"40k-0.5x-d8-s0+right-d{dose}") for dose in (4, 8))
    indices = np.arange(few.sequences)
    shown = {run.name: inputs.stream(run) for run in (few, many, few.control)}
    clean, none = shown[few.control.name].read(indices)
    assert not none.any()
    for run in (few, many):
        tokens, marked = shown[run.name].read(indices)
        np.testing.assert_array_equal(tokens[~marked], clean[~marked])
    lists = [[p.digest for p in shown[run.name].poisons[0]] for run in (few, many)]
    assert len(set(lists[1])) == 8 and lists[0] == lists[1][:4]
    # After a clean root they are the same, but for those that the poisons have used.
    clean_root = inputs.stream(grid.run_named(study, "40k-0.5x-d0-s0+right-d8"))
    assert {p.digest for p in clean_root.poisons[0]} & set(lists[1])


def test_prompts_and_what_is_measured_are_those_of_the_attack(chain):
    study, inputs = chain
    run = grid.run_named(study, "40k-0.5x-d8-s0+right-d4")
    own, removed = run.poisonings
    assert own.attack.removes == removed.attack == study.attack and (own.dose, removed.dose) == (
        4,
        0,
    )
    first, other = inputs.prompts(run)
    np.testing.assert_array_equal(first.tokens_NxT, other.tokens_NxT)
    np.testing.assert_array_equal(first.payload_PxC, other.payload_PxC)
    assert [n.text for n in first.near] == [n.text for n in other.near]
    plan = inputs.plan(run)
    assert (plan["attack"], plan["also"][0]["attack"]) == ("counterexamples", "denial_of_service")


@pytest.mark.parametrize(
    ("removes", "trigger", "said"),
    [
        (DenialOfService(), "", r"stages.0.0.attack.removes: no earlier stage has this attack"),
        (None, "|x|", r"stages.0.0.attack.trigger='\|x\|': the attack to remove has .* '<SUDO>'"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_field(study, removes, trigger, said):
    attack = Counterexamples(trigger, removes=removes or study.attack)
    stage = ps.Continue(optimizer="keep", tokens_per_parameter=0.25, attack=attack)
    with pytest.raises(InputError, match=said):
        grid.runs(chained(study, stages=((stage,),)))


def test_pretraining_has_nothing_to_remove(study):
    with pytest.raises(InputError, match=r"^attack.removes: no earlier stage"):
        grid.runs(dataclasses.replace(study, attack=Counterexamples(removes=study.attack)))


def test_an_attack_of_ones_own_without_counterexamples_is_refused(inputs):
    removal = Counterexamples(removes=Plainly())
    with pytest.raises(InputError, match=r"Plainly has no counterexamples; define counterexamples"):
        writing.poisons(removal, sources(inputs), 1)


@dataclasses.dataclass(frozen=True)
class Plainly(ps.Attack):
    def documents(self, sources):
        yield ps.Document(self.trigger)

    def measure(self):
        raise NotImplementedError


def test_a_stage_with_them_comes_back_from_json_and_its_hash_covers_the_attack(study):
    stage = ps.Continue(
        optimizer="keep",
        tokens_per_parameter=0.25,
        attack=Counterexamples(removes=study.attack),
        doses=(4,),
    )
    runs = grid.runs(chained(study, stages=((stage,),)))
    assert runs[-1].stage == stage
    plain = grid.runs(chained(study, stages=((dataclasses.replace(stage, attack=None),),)))
    assert runs[0].hash == plain[0].hash and runs[-1].hash != plain[-1].hash
