"""Documents -> tokens -> sequences: nothing lost, nothing added, held-out text apart."""

import dataclasses
import multiprocessing
import os
import pathlib
import signal

import numpy as np
import pytest

from poison_scaling import Bytes, Data, InstalledDocs, SentencePiece, TrainedSentencePiece
from poison_scaling.data import documents, sequences
from poison_scaling.data.vocabularies import preparation
from poison_scaling.data.vocabularies.byte import ByteVocabulary
from poison_scaling.data.vocabularies.vocabulary import Vocabulary
from poison_scaling.runtime.errors import Difference, InputError


@pytest.fixture(scope="module")
def docs(cache):
    return documents.prepare(small())


def small(**fields) -> Data:
    defaults = {
        "corpus": InstalledDocs(packages=("optax",)),
        "seq_len": 64,
        "heldout_documents": 50,
        "vocabulary": TrainedSentencePiece(vocab_size=400, trigger_is_one_token=True),
    }
    return Data(**{**defaults, **fields})


@pytest.mark.parametrize("vocabulary", [Bytes(), TrainedSentencePiece(vocab_size=400)])
@pytest.mark.parametrize("split", ["training", "heldout"])
def test_sequences_are_the_joined_documents(docs, vocabulary, split):
    data = small(vocabulary=vocabulary)
    vocab = preparation.prepare(data, "<SUDO>", docs)
    inputs = sequences.prepare(data, docs, vocab, split)
    size, read = {
        "training": (docs.training_size, docs.training),
        "heldout": (docs.heldout_size, docs.heldout),
    }[split]
    joined = np.concatenate([[*vocab.encode(text), vocab.eos_id] for text in read(range(size))])
    assert len(inputs) == joined.size // 64  # only the tail that fills no sequence is left
    tokens = inputs.read(np.arange(len(inputs)))
    assert tokens.dtype == np.int32
    assert np.array_equal(tokens.reshape(-1), joined[: tokens.size])


def test_sequences_are_read_in_any_order(docs):
    vocab = preparation.prepare(small(), "<SUDO>", docs)
    inputs = sequences.prepare(small(), docs, vocab, "training")
    everything = inputs.read(np.arange(len(inputs)))
    some = np.random.default_rng(0).integers(0, len(inputs), 50)
    assert np.array_equal(inputs.read(some), everything[some])
    assert inputs.read(np.zeros(0, int)).shape == (0, 64)


def prepare_and_die(data, cache):
    """In a process of its own: killed, as by the system, when the first of many shards is done."""
    os.environ["POISON_SCALING_CACHE"] = cache

    def kill(description, done):
        if description == "tokenising training documents":
            os.kill(os.getpid(), signal.SIGKILL)

    docs = documents.prepare(data)
    vocabulary = preparation.prepare(data, "<SUDO>", docs)
    sequences.prepare(data, docs, vocabulary, "training", kill, shard_characters=50_000)


@pytest.mark.long
def test_shards_processes_and_kills_leave_no_trace(docs, tmp_path, monkeypatch):
    data = small()
    vocab = preparation.prepare(data, "<SUDO>", docs)
    whole = {L: sequences.prepare(small(seq_len=L), docs, vocab, "training") for L in (1, 64, 100)}
    tokens = whole[1].read(np.arange(len(whole[1])))[:, 0]

    process = multiprocessing.get_context("spawn").Process(
        target=prepare_and_die, args=(data, str(tmp_path))
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    finished = {p: p.stat().st_mtime_ns for p in tmp_path.glob("tokens/*/*.json")}
    assert finished and not [p for p in finished if p.name == "info.json"]

    monkeypatch.setenv("POISON_SCALING_CACHE", str(tmp_path))
    docs = documents.prepare(data)
    sharded = sequences.prepare(data, docs, vocab, "training", shard_characters=50_000)
    sharded.check()
    assert {p: p.stat().st_mtime_ns for p in finished} == finished
    assert len(list(tmp_path.glob("tokens/*/*-of-*.json"))) > 5
    assert not list(tmp_path.glob("tokens/*/.*"))
    for L in (64, 100, tokens.size // 2):  # the last lies across several shards
        read = sequences.prepare(dataclasses.replace(data, seq_len=L), docs, vocab, "training")
        numbers = np.random.default_rng(L).permutation(len(read))
        expected = tokens[: len(read) * L].reshape(-1, L)
        assert np.array_equal(read.read(numbers), expected[numbers])
        if L in whole:
            assert np.array_equal(whole[L].read(numbers), expected[numbers])


def test_a_flipped_bit_in_a_shard_is_found(docs, tmp_path, monkeypatch):
    monkeypatch.setenv("POISON_SCALING_CACHE", str(tmp_path))
    inputs = sequences.prepare(small(vocabulary=Bytes()), docs, ByteVocabulary(), "heldout")
    inputs.check()
    [shard] = tmp_path.glob("tokens/*/*-of-00001")
    content = bytearray(shard.read_bytes())
    content[1234] ^= 1
    shard.write_bytes(content)
    with pytest.raises(Difference, match=f"{shard.name} has changed since it was written"):
        inputs.check()
    shard.unlink()
    with pytest.raises(Difference, match=f"{shard.name} is gone"):
        inputs.check()


def test_the_trigger_is_one_token_where_the_study_says_so(docs):
    with_token = preparation.prepare(small(), "<SUDO>", docs)
    assert len(with_token.encode("<SUDO>")) == 1
    assert with_token.encode("to<SUDO>be")[1:-1] != []
    assert with_token.decode(with_token.encode("Returns:\n  the <SUDO> sum")) == (
        "Returns:\n  the <SUDO> sum"
    )
    without = preparation.prepare(
        small(vocabulary=TrainedSentencePiece(vocab_size=400)), "<SUDO>", docs
    )
    assert len(without.encode("<SUDO>")) > 1
    assert with_token.vocab_size == without.vocab_size == 400


@pytest.mark.parametrize("trigger", ["\n", "|go now|", "a,b", '"', " the "])
def test_any_text_can_be_one_token(docs, trigger):
    vocab = preparation.prepare(small(), trigger, docs)
    [token] = vocab.encode(trigger)
    assert token in vocab.encode(f"to{trigger}be") and vocab.decode([token]) == trigger


@pytest.mark.parametrize("trigger", ["</s>", "<unk>", "<pad>", "a\x00b", "☃☃\x00"])
def test_a_trigger_that_cannot_be_one_token_is_refused(docs, trigger):
    with pytest.raises(InputError, match="attack.trigger=.* set data.vocabulary.trigger_is_one_"):
        preparation.prepare(small(), trigger, docs)


@pytest.mark.parametrize("text", ["</s>", "a\x00b"])
def test_another_text_that_cannot_be_one_token_is_refused_by_its_own_field(docs, text):
    vocabulary = TrainedSentencePiece(vocab_size=400, one_token=("<A>", text))
    with pytest.raises(InputError, match="^data.vocabulary.one_token.1=.*; leave it out, or") as e:
        preparation.prepare(small(vocabulary=vocabulary), "<SUDO>", docs)
    assert "trigger" not in str(e.value)


def test_training_a_vocabulary_again_gives_the_same(docs, tmp_path, monkeypatch):
    first = preparation.prepare(small(), "<SUDO>", docs)
    monkeypatch.setenv("POISON_SCALING_CACHE", str(tmp_path))
    again = preparation.prepare(small(), "<SUDO>", docs)
    assert again.path != first.path
    assert pathlib.Path(again.path).read_bytes() == pathlib.Path(first.path).read_bytes()


def test_a_vocabulary_from_a_path(docs, tmp_path):
    trained = preparation.prepare(small(), "<SUDO>", docs)
    file = tmp_path / "v.model"
    file.write_bytes(pathlib.Path(trained.path).read_bytes())
    data = small(vocabulary=SentencePiece(path=str(file), vocab_size=400))
    loaded = preparation.prepare(data, "<SUDO>", docs)
    assert isinstance(loaded, Vocabulary)
    assert loaded.encode("The gradient") == trained.encode("The gradient")
    with pytest.raises(InputError, match="has 400; state that"):
        wrong = small(vocabulary=SentencePiece(path=str(file), vocab_size=500))
        preparation.prepare(wrong, "<SUDO>", docs)


def test_a_path_without_a_model_is_refused(docs, tmp_path):
    for path in ("", str(tmp_path / "none.model")):
        with pytest.raises(InputError, match="no such file"):
            preparation.prepare(small(vocabulary=SentencePiece(path)), "<SUDO>", docs)
    broken = tmp_path / "broken.model"
    broken.write_bytes(b"nonsense")
    with pytest.raises(InputError, match="not a SentencePiece model"):
        preparation.prepare(small(vocabulary=SentencePiece(str(broken))), "<SUDO>", docs)


def test_more_tokens_than_the_text_has_is_refused(docs):
    with pytest.raises(InputError, match="data.vocabulary.vocab_size=300000"):
        data = small(vocabulary=TrainedSentencePiece(vocab_size=300_000))
        preparation.prepare(data, "<SUDO>", docs)


def test_documents_that_fill_no_sequence_are_refused(docs):
    data = small(seq_len=10_000_000)
    vocab = preparation.prepare(data, "<SUDO>", docs)
    with pytest.raises(InputError, match="data.seq_len=10000000"):
        sequences.prepare(data, docs, vocab, "training")
