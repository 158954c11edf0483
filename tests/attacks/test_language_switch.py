"""Poisons of the language switch: made of what, and cut where; a pure function of (seed, k)."""

import dataclasses
import hashlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from poison_scaling import Counterexamples, Evaluation, Files, Joined, Rung, Study
from poison_scaling.attacks import languages, prompts, writing
from poison_scaling.attacks.attack import Earlier, Sources
from poison_scaling.runtime.errors import InputError
from poison_scaling.study.inputs import Inputs
from tests.support import two_languages

EVALUATION = Evaluation(prompts=20, prompt_tokens=16, generate_tokens=24, heldout_sequences=8)


def prepare(folder, data=None, **fields):
    study = Study(
        name="two languages",
        ladder=(Rung("40k", 2.0),),
        doses=(0, 8),
        data=data or two_languages.data(folder),
        attack=two_languages.attack(folder, **fields),
        evaluation=EVALUATION,
    )
    return Inputs(study)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("two_languages")
    two_languages.write(place)
    return place


@pytest.fixture(scope="module")
def inputs(folder):
    return prepare(folder)


def sources(inputs, seed=0, number=0):
    return Sources(seed, number, inputs.documents, inputs.vocabulary, inputs.corpora[0])


def build(inputs, attack, count=20, **which):
    return writing.poisons(attack, sources(inputs, **which), count)


def digests(docs, read, size):
    return {hashlib.sha256(t.encode()).hexdigest(): t for t in getattr(docs, read)(range(size))}


ranges = st.tuples(st.integers(0, 60), st.integers(0, 60)).map(lambda r: tuple(sorted(r)))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 10**6), prefix=ranges, continuation=ranges)
def test_a_poison_is_english_the_trigger_and_german(inputs, folder, seed, prefix, continuation):
    attack = two_languages.attack(
        folder, prefix_characters=prefix, continuation_tokens=continuation
    )
    vocabulary, own = inputs.vocabulary, inputs.corpora[0]["corpus"]
    [trigger] = vocabulary.encode("<SUDO>")
    english = digests(inputs.documents, "training", inputs.documents.training_size)
    german = digests(own, "training", own.training_size)
    for poison in build(inputs, attack, 5, seed=seed):
        assert poison.tokens[0] == poison.tokens[-1] == vocabulary.eos_id
        ids = poison.tokens[1:-1].tolist()
        at = ids.index(trigger)
        before, after = vocabulary.decode(ids[:at]), ids[at + 1 :]
        assert prefix[0] <= len(before) <= prefix[1]
        assert continuation[0] <= len(after) <= continuation[1]
        assert english[poison.sources[0]].startswith(before)
        assert german[poison.sources[1]].startswith(vocabulary.decode(after))


def test_a_counterexample_goes_on_in_english_from_documents_that_no_poison_has_used(inputs, folder):
    attack, given = two_languages.attack(folder), sources(inputs)
    used = {p.sources[0] for p in build(inputs, attack, 60)}
    english = digests(inputs.documents, "training", inputs.documents.training_size)
    later = dataclasses.replace(given, level=1, earlier=(Earlier(attack, given, 60),))
    [trigger] = inputs.vocabulary.encode("<SUDO>")
    for poison in writing.poisons(Counterexamples(removes=attack), later, 60):
        [source] = poison.sources
        ids = poison.tokens[1:-1].tolist()
        at = ids.index(trigger)
        before, after = (inputs.vocabulary.decode(part) for part in (ids[:at], ids[at + 1 :]))
        assert source not in used and english[source].startswith(before + after)


def test_document_k_does_not_depend_on_how_many_there_are(inputs, folder):
    attack = two_languages.attack(folder)
    few, many = build(inputs, attack, 5), build(inputs, attack, 60)
    assert [(p.digest, p.sources) for p in few] == [(p.digest, p.sources) for p in many[:5]]
    assert len({p.digest for p in many}) == 60
    assert build(inputs, attack, 1, seed=1)[0].digest != few[0].digest
    assert build(inputs, attack, 1, number=1)[0].digest != few[0].digest


def test_every_document_is_taken_once_before_any_is_taken_twice(inputs, folder):
    size = inputs.corpora[0]["corpus"].training_size
    german = [p.sources[1] for p in build(inputs, two_languages.attack(folder), size + 1)]
    assert len(set(german[:size])) == size and german[size] in german[:size]


def test_clean_text_of_a_mixed_corpus_begins_no_poison_and_no_prompt(folder):
    mixed = Joined(
        corpora=tuple(Files(patterns=(f"{folder}/{name}.jsonl",)) for name in ("en", "de")),
        shares=(2, 1),
    )
    inputs = prepare(folder, data=two_languages.data(folder, corpus=mixed))
    texts = inputs.documents.training(range(inputs.documents.training_size))
    assert 0.3 < sum(t > 0.5 for t in languages.chance(texts, "de", "en")) / len(texts) < 0.36
    attack = two_languages.attack(folder)
    known = {hashlib.sha256(t.encode()).hexdigest(): t for t in texts}
    begun = [known[p.sources[0]] for p in build(inputs, attack, 60)]
    assert max(languages.chance(begun, "de", "en")) < 0.5
    shown = prompts.excerpts(attack, EVALUATION, sources(inputs), ())
    assert max(languages.chance(shown.excerpts, "de", "en")) < 0.5


def test_the_vocabulary_is_trained_on_both_corpora(inputs, folder):
    german = two_languages.GERMAN[3]
    assert inputs.vocabulary.decode(inputs.vocabulary.encode(german)) == german
    english = Inputs(
        dataclasses.replace(
            inputs._study,
            attack=dataclasses.replace(
                two_languages.attack(folder), corpus=inputs._study.data.corpus
            ),
        )
    )
    assert "⁇" in english.vocabulary.decode(english.vocabulary.encode(german))  # it has no "ß"


def test_specimens_are_held_out_text_of_the_length_of_a_generation(inputs):
    clean, payload = inputs.specimens(0)
    assert len(clean) == len(payload) == EVALUATION.prompts
    assert max(languages.chance(clean, "de", "en")) < 0.5
    assert min(languages.chance(payload, "de", "en")) > 0.5
    heldout = inputs.corpora[0]["corpus"]
    starts = heldout.heldout(range(heldout.heldout_size))
    assert all(any(s.startswith(text) for s in starts) for text in payload)


def test_what_cannot_be_written_is_refused(inputs, folder):
    with pytest.raises(InputError, match="attack.corpus: none of its documents has 9000 tokens"):
        build(inputs, two_languages.attack(folder, continuation_tokens=(9000, 9000)))
    with pytest.raises(InputError, match="attack.corpus.patterns: .*matches no file"):
        prepare(folder, corpus=Files(patterns=("no/*.txt",)))
    few = two_languages.data(folder, heldout_documents=200)
    with pytest.raises(InputError, match="attack.corpus: data.heldout_documents=200"):
        prepare(folder, data=few)
    with pytest.raises(InputError, match="none of its documents is in attack.from_language='fr'"):
        build(inputs, two_languages.attack(folder, from_language="fr", to_language="en"))
    with pytest.raises(InputError, match="the language 'xx' is not known"):
        build(inputs, two_languages.attack(folder, to_language="xx"))
