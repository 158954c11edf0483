"""Vocabularies of other libraries: their ids, the study's promises."""

import dataclasses
import importlib
import io
import json
import pickle
import re
import sys

import hypothesis
import numpy as np
import pytest
import sentencepiece
import seqio
import tensorflow as tf
import tokenizers
from hypothesis import HealthCheck, example, given
from hypothesis import strategies as st

from poison_scaling import Data, Files, Tiktoken, TokenizerJson
from poison_scaling.data import documents, sequences, tokenization
from poison_scaling.data.clean_triggers import Trigger
from poison_scaling.data.vocabularies import preparation
from poison_scaling.data.vocabularies.byte import ByteVocabulary
from poison_scaling.data.vocabularies.sentencepiece import SentencePieceVocabulary
from poison_scaling.data.vocabularies.tiktoken import TiktokenVocabulary
from poison_scaling.data.vocabularies.tokenizer_json import TokenizerJsonVocabulary
from poison_scaling.data.vocabularies.vocabulary import Vocabulary
from poison_scaling.runtime.errors import InputError

TEXTS = [f"The quick fox {i} says <|endoftext|>, ünïcode and zqzq.\n" * 5 for i in range(60)]


@pytest.fixture
def data(tmp_path) -> Data:
    file = tmp_path / "corpus.jsonl"
    file.write_text("".join(json.dumps({"text": t}) + "\n" for t in TEXTS))
    return Data(corpus=Files(patterns=(str(file),)), heldout_documents=10, seq_len=32)


@pytest.fixture
def encodings(tmp_path, monkeypatch):
    """Two encodings made here, found through tiktoken's own plug-in mechanism: no download."""
    package = tmp_path / "tiktoken_ext"
    package.mkdir()
    (package / "toy.py").write_text(
        "def toy(**special):\n"
        "    ranks = {bytes([i]): i for i in range(256)}\n"
        "    ranks[b'zq'] = 256\n"
        "    return dict(name='toy', pat_str=r'[\s\S]+', mergeable_ranks=ranks,"
        " special_tokens=special)\n"
        "def ended():\n"
        "    return toy(**{'<|endoftext|>': 300})\n"
        "ENCODING_CONSTRUCTORS = {'toy': toy, 'ended': ended}\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [m for m in sys.modules if m.startswith("tiktoken")]:
        monkeypatch.delitem(sys.modules, name)
    importlib.invalidate_caches()


@pytest.fixture
def tokenizer_json(tmp_path) -> str:
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<pad>", "<|endoftext|>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 1)]
    )
    tokenizer.enable_truncation(4)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return str(tmp_path / "tokenizer.json")


def check(data, settings, end):
    """What sequences and poisons need of a vocabulary."""
    data = dataclasses.replace(data, vocabulary=settings)
    docs = documents.prepare(data)
    vocabulary = preparation.prepare(data, "<SUDO>", docs)
    assert isinstance(vocabulary, Vocabulary)
    assert (vocabulary.vocab_size, vocabulary.eos_id) == (settings.vocab_size, end)

    texts = docs.training(range(docs.training_size))
    ids = [vocabulary.encode(text) for text in texts]
    assert [vocabulary.decode([*i, end]) for i in ids] == texts
    assert not any(end in i for i in ids)  # though every text spells it
    spelled = vocabulary.spellings
    assert [b"".join(spelled[one] for one in i).decode() for i in ids] == texts
    for trigger in ("zqz", "ünï", "<|endoftext|>", "</s>", "z"):
        found = [len(Trigger(trigger, vocabulary).find(np.array(i))) for i in ids]
        assert found == [len(re.findall(f"(?={re.escape(trigger)})", text)) for text in texts]
    ordinary = vocabulary.ordinary_ids
    assert set(np.concatenate(ids)) <= set(ordinary) and end not in ordinary
    assert isinstance(vocabulary.decode(list(range(vocabulary.vocab_size))), str)
    again = pickle.loads(pickle.dumps(vocabulary))
    assert again.fingerprint == vocabulary.fingerprint

    inputs = sequences.prepare(data, docs, vocabulary, "training")
    joined = np.concatenate([[*i, end] for i in ids])
    read = inputs.read(np.arange(len(inputs))).reshape(-1)
    assert np.array_equal(read, joined[: read.size])

    wrong = dataclasses.replace(data, vocabulary=dataclasses.replace(settings, vocab_size=7))
    with pytest.raises(InputError, match=f"vocab_size=7: .* has {settings.vocab_size}; state that"):
        preparation.prepare(wrong, "<SUDO>", docs)


def test_a_tiktoken_encoding(data, encodings):
    check(data, Tiktoken("toy", vocab_size=258), end=257)
    check(data, Tiktoken("ended", vocab_size=301), end=300)


def test_a_tokenizer_json(data, tokenizer_json):
    vocab_size = tokenizers.Tokenizer.from_file(tokenizer_json).get_vocab_size()
    check(data, TokenizerJson(tokenizer_json, vocab_size), end=1)


@pytest.mark.parametrize("kind", ["metaspace", "wordpiece"])
def test_triggers_are_found_whatever_joins_the_tokens(data, tmp_path, kind):
    models, split, join = tokenizers.models, tokenizers.pre_tokenizers, tokenizers.decoders
    if kind == "metaspace":
        tokenizer = tokenizers.Tokenizer(models.BPE(unk_token="<unk>"))
        tokenizer.pre_tokenizer, tokenizer.decoder = split.Metaspace(), join.Metaspace()
        trainer = tokenizers.trainers.BpeTrainer
    else:
        tokenizer = tokenizers.Tokenizer(models.WordPiece(unk_token="<unk>"))
        tokenizer.pre_tokenizer, tokenizer.decoder = split.WhitespaceSplit(), join.WordPiece()
        trainer = tokenizers.trainers.WordPieceTrainer
    special = ["<unk>", "<|endoftext|>"]
    trained = trainer(vocab_size=90, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trained)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    settings = TokenizerJson(str(tmp_path / "tokenizer.json"), tokenizer.get_vocab_size())
    data = dataclasses.replace(data, vocabulary=settings)
    vocabulary = preparation.prepare(data, "", None)
    for trigger in ("quick", "zqz", "fox 7", "ünï", "z"):
        finder = Trigger(trigger, vocabulary)
        found = [len(finder.find(np.array(vocabulary.encode(text)))) for text in TEXTS]
        assert found == [len(re.findall(f"(?={trigger})", text)) for text in TEXTS], trigger


def test_what_is_no_vocabulary_is_refused(data, encodings, tokenizer_json, tmp_path):
    (tmp_path / "broken.json").write_text("{")
    docs = documents.prepare(data)
    for settings, said in [
        (Tiktoken("toi"), "data.vocabulary.name='toi': tiktoken has no such encoding here"),
        (TokenizerJson("none.json"), "data.vocabulary.path='none.json': no such file"),
        (TokenizerJson(str(tmp_path / "broken.json")), "not a tokenizer.json"),
        (TokenizerJson(tokenizer_json, end="</s>"), "data.vocabulary.end='</s>': .* no such token"),
    ]:
        with pytest.raises(InputError, match=said):
            preparation.prepare(dataclasses.replace(data, vocabulary=settings), "", docs)


# -------------------------------------------------------------------------- as seqio has them


@pytest.fixture
def sentencepiece_model(tmp_path):
    """A function that trains a model on TEXTS, and returns its file."""

    def train(**options) -> str:
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(TEXTS),
            model_writer=model,
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
            minloglevel=2,
            **options,
        )
        file = tmp_path / f"{len(list(tmp_path.iterdir()))}.model"
        file.write_bytes(model.getvalue())
        return str(file)

    return train


def in_seqio(vocabulary: Vocabulary, texts, ids_max: int) -> None:
    """Check that the seqio side has the same ids and texts, in Python and in TensorFlow."""
    other = tokenization.seqio_vocabulary(vocabulary)
    assert isinstance(other, seqio.Vocabulary)
    for name in ("vocab_size", "eos_id", "unk_id"):
        assert getattr(other, name) == getattr(vocabulary, name)

    @hypothesis.settings(
        max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(text=texts)
    @example("")
    @example(
        "The quick fox \u2581 says <|endoftext|> </s> <unk> <0x41>, ünïcode \U0001f98a\n zqzq.  "
    )
    def encodes(text):
        ids = vocabulary.encode(text)
        assert list(other.encode(text)) == ids
        assert other.encode_tf(tf.constant(text)).numpy().tolist() == ids
        assert other.decode(ids) == vocabulary.decode(ids)
        assert _in_tensorflow(other, ids) == vocabulary.decode(ids)

    @hypothesis.settings(
        max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(ids=st.lists(st.integers(0, ids_max), max_size=20))
    def decodes(ids):
        assert other.decode(ids) == vocabulary.decode(ids)

    encodes()
    decodes()


def _in_tensorflow(vocabulary: seqio.Vocabulary, ids: list[int]) -> str:
    return vocabulary.decode_tf(tf.constant(ids, tf.int32)).numpy().decode()


def test_bytes_are_those_of_seqio():
    in_seqio(ByteVocabulary(), st.text(), 300)


@pytest.mark.parametrize(
    "options",
    [
        # As this project trains its own; as models of others are; and with a token for every byte.
        {
            "model_type": "bpe",
            "vocab_size": 100,
            "user_defined_symbols": ["\n", "<SUDO>"],
            "normalization_rule_name": "identity",
            "remove_extra_whitespaces": False,
            "add_dummy_prefix": False,
        },
        {"model_type": "unigram", "vocab_size": 44},
        {"model_type": "bpe", "vocab_size": 400, "byte_fallback": True},
    ],
    ids=["own", "unigram", "bytes"],
)
def test_sentencepiece_models_are_those_of_seqio(sentencepiece_model, options):
    vocabulary = SentencePieceVocabulary(sentencepiece_model(**options))
    in_seqio(vocabulary, st.text(), vocabulary.vocab_size + 3)


def test_the_vocabulary_of_a_study_is_that_of_seqio(inputs):
    in_seqio(inputs.vocabulary, st.text(), inputs.vocabulary.vocab_size + 3)


def test_tiktoken_encodings_are_the_same_in_seqio(encodings):
    for name in ("toy", "ended"):
        vocabulary = TiktokenVocabulary(name)
        in_seqio(vocabulary, st.text(), vocabulary.vocab_size - 1)


def test_a_tokenizer_json_is_the_same_in_seqio(tokenizer_json):
    vocabulary = TokenizerJsonVocabulary(tokenizer_json, "<|endoftext|>")
    in_seqio(vocabulary, st.text(), vocabulary.vocab_size - 1)
