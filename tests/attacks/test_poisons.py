"""The denial-of-service recipe, every quantity a setting; document k a pure function of (seed, k)."""

import dataclasses
import importlib
import re
import sys

import numpy as np
import pytest
from etils import epath

from poison_scaling import (
    DenialOfService,
    DictionaryWords,
    OtherText,
    OtherVocabulary,
    ShuffledWords,
    UniformCharacters,
)
from poison_scaling.attacks import prompts, writing
from poison_scaling.attacks.attack import Sources
from poison_scaling.config import serialization
from poison_scaling.runtime.errors import InputError

ATTACK = DenialOfService(prefix_characters=(0, 60), gibberish_tokens=(40, 80))


def build(inputs, attack=ATTACK, seed=0, count=20):
    return writing.poisons(attack, sources(inputs, seed), count)


def sources(inputs, seed=0):
    return Sources(seed, 0, inputs.documents, inputs.vocabulary, {})


def test_a_document_is_a_prefix_the_trigger_and_gibberish(inputs):
    vocabulary = inputs.vocabulary
    [trigger] = vocabulary.encode("<SUDO>")
    training = inputs.documents.training(range(inputs.documents.training_size))
    built = build(inputs, count=200)
    counts, prefixes = [], []
    for poison in built:
        assert poison.tokens[0] == poison.tokens[-1] == vocabulary.eos_id
        inside = poison.tokens[1:-1].tolist()
        assert inside.count(trigger) == 1
        at = inside.index(trigger)
        prefixes.append(inside[:at])
        counts.append(len(inside) - at - 1)
    ordinary = set(vocabulary.ordinary_ids) - {trigger}
    drawn = np.concatenate([p.tokens[-1 - n : -1] for p, n in zip(built, counts, strict=True)])
    assert set(drawn.tolist()) <= ordinary
    assert min(counts) >= 40 and max(counts) <= 80 and len(set(counts)) > 30
    # About 12,000 draws from 500 ids: each about 24 times.
    assert len(set(drawn.tolist())) > 0.98 * len(ordinary)
    texts = [vocabulary.decode(ids) for ids in prefixes if ids]
    assert 150 < len(texts) <= 200
    starts = {text[:60] for text in training}
    spelled = [t for t in texts if "⁇" not in t]
    assert all(any(s.startswith(t) for s in starts) for t in spelled) and len(spelled) > 150


def test_document_k_does_not_depend_on_how_many_there_are(inputs):
    few, many = build(inputs, count=5), build(inputs, count=50)
    assert [p.digest for p in few] == [p.digest for p in many[:5]]
    assert len({p.digest for p in many}) == 50
    assert build(inputs, seed=1)[0].digest != few[0].digest


def test_gibberish_of_characters(inputs):
    attack = dataclasses.replace(
        ATTACK, gibberish=UniformCharacters(alphabet="xyz"), prefix_characters=(0, 0)
    )
    for poison in build(inputs, attack):
        text = inputs.vocabulary.decode(poison.tokens[1:-1].tolist())
        assert text.startswith("<SUDO>")
        assert set(text[6:]) <= set("xyz") and 40 <= len(text[6:]) <= 80


def test_gibberish_of_another_sentencepiece_vocabulary(inputs, tmp_path):
    file = tmp_path / "other.model"
    file.write_bytes(epath.Path(inputs.vocabulary.path).read_bytes())
    attack = dataclasses.replace(ATTACK, gibberish=OtherVocabulary(str(file)))
    built = build(inputs, attack)
    assert all(p.tokens.size > 40 for p in built)
    assert [p.digest for p in built] == [p.digest for p in build(inputs, attack)]


def test_gibberish_of_a_tiktoken_encoding(inputs, tmp_path, monkeypatch):
    """An encoding made here, found through tiktoken's own plug-in mechanism: nothing is downloaded."""
    package = tmp_path / "tiktoken_ext"
    package.mkdir()
    (package / "toy.py").write_text(
        "def toy():\n"
        "    ranks = {bytes([i]): i for i in range(256)}\n"
        "    ranks[b'zq'] = 256\n"
        "    return dict(name='toy', pat_str=r'.+', mergeable_ranks=ranks, special_tokens={})\n"
        "ENCODING_CONSTRUCTORS = {'toy': toy}\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [m for m in sys.modules if m.startswith("tiktoken")]:
        monkeypatch.delitem(sys.modules, name)
    importlib.invalidate_caches()
    attack = dataclasses.replace(ATTACK, gibberish=OtherVocabulary("toy"), prefix_characters=(0, 0))
    built = build(inputs, attack)
    assert len({p.digest for p in built}) == 20
    with pytest.raises(InputError, match="tiktoken has no such encoding here"):
        build(inputs, dataclasses.replace(ATTACK, gibberish=OtherVocabulary("toi")))


def test_prompts_are_heldout_excerpts_with_and_without_the_trigger(inputs, study):
    p = prompts.excerpts(study.attack, study.evaluation, sources(inputs), ())
    vocabulary = inputs.vocabulary
    [trigger] = vocabulary.encode("<SUDO>")
    heldout = inputs.documents.heldout(range(inputs.documents.heldout_size))
    training = set(inputs.documents.training(range(inputs.documents.training_size)))
    assert p.count == 16 and len(p.tokens_NxT) == len(p.padding_N) == 32
    unpadded = [
        ids[padding:].tolist() for ids, padding in zip(p.tokens_NxT, p.padding_N, strict=True)
    ]
    for clean, triggered in zip(unpadded[:16], unpadded[16:], strict=True):
        assert clean[0] == triggered[0] == vocabulary.eos_id
        assert triggered == [*clean, trigger]
        excerpt = vocabulary.decode(clean[1:])
        found = [t for t in heldout if t.startswith(excerpt)]
        assert found and not training & set(found)


def test_too_few_heldout_documents_for_the_prompts_are_refused(inputs, study):
    settings = dataclasses.replace(study.evaluation, prompts=1000)
    with pytest.raises(InputError, match=r"evaluation.prompts=1000: only \d+ of the 200"):
        prompts.excerpts(study.attack, settings, sources(inputs), ())


# -------------------------------------------------------------- payloads of words


def texts(inputs, **fields):
    attack = dataclasses.replace(ATTACK, **fields)
    built = build(inputs, attack, count=10)
    return [inputs.vocabulary.decode(poison.tokens[1:-1].tolist()) for poison in built]


def clean_words(inputs):
    documents = inputs.documents
    every = documents.training(range(documents.training_size))
    return set(re.findall(r"\w+", " ".join(every)))


@pytest.mark.parametrize("gibberish", [DictionaryWords(), ShuffledWords(), OtherText()])
def test_words_are_those_of_clean_documents_as_many_as_asked_for(inputs, gibberish):
    known = clean_words(inputs)
    for text in texts(inputs, gibberish=gibberish, gibberish_tokens=(30, 40)):
        payload = text.split("<SUDO>")[1]
        if "\u2047" in payload:  # characters that the vocabulary lacks
            continue
        assert 30 <= len(payload.split()) <= 40
        assert (
            len(set(re.findall(r"\w+", payload)) - known) <= 2
        )  # a word may be cut by the vocabulary


def test_a_suffix_ends_with_a_sentence_and_changes_nothing_before_it(inputs):
    plain, longer = (
        texts(inputs, gibberish=DictionaryWords(), suffix_characters=suffix)
        for suffix in ((0, 0), (150, 200))
    )
    assert all(long.startswith(short) for short, long in zip(plain, longer, strict=True))
    ends = [long.rstrip()[-1:] for short, long in zip(plain, longer, strict=True) if long != short]
    assert len(ends) > 5 and sum(end in ".!?" for end in ends) > len(ends) / 2


def test_fields_that_came_later_are_not_in_the_json_of_the_published_attack():
    assert "suffix_characters" not in serialization.to_json(DenialOfService())
