"""Where documents come from: installed docs, files, TensorFlow Datasets; all as seqio data sources."""

import dataclasses
import gzip
import json
import os
import pathlib
import socket

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import seqio
import tensorflow as tf
import tensorflow_datasets as tfds
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from poison_scaling import Data, Files, InstalledDocs, Joined, Tfds, TrainedSentencePiece
from poison_scaling.data import documents, sequences
from poison_scaling.data.fingerprints import Fingerprints
from poison_scaling.data.vocabularies import preparation
from poison_scaling.runtime.errors import InputError

NOVELS = pathlib.Path(__file__).parents[2] / ".." / "shared" / "data"
TEXTS = [f"Document {i}: " + "the quick brown fox " * (i + 1) for i in range(30)]


def write_files(folder):
    (folder / "a.txt").write_text(TEXTS[0])
    with gzip.open(folder / "b.txt.gz", "wt") as f:
        f.write(TEXTS[1])
    (folder / "c.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in TEXTS[2:10]))
    with gzip.open(folder / "d.jsonl.gz", "wt") as f:
        f.writelines(json.dumps({"text": t, "id": 1}) + "\n" for t in TEXTS[10:])


def test_every_kind_of_file_is_read_in_order(tmp_path):
    write_files(tmp_path)
    assert list(Files(patterns=(f"{tmp_path}/*",)).texts()) == TEXTS


@pytest.mark.parametrize(
    ("suffix", "codec"), [(".bz2", "bz2"), (".zst", "zstd"), (".lz4", "lz4"), (".gz", "gzip")]
)
def test_compressed_files_are_read(tmp_path, suffix, codec):
    def write(name, content):
        with pyarrow.CompressedOutputStream(str(tmp_path / (name + suffix)), codec) as f:
            f.write(content.encode())

    write("a.txt", TEXTS[0])
    write("b.jsonl", "".join(json.dumps({"text": t}) + "\n" for t in TEXTS[1:]))
    corpus = Files(patterns=(f"{tmp_path}/*",))
    assert list(corpus.texts()) == TEXTS
    assert list(corpus.texts(skip=7)) == TEXTS[7:]


def test_a_file_compressed_in_parts_is_read_whole(tmp_path):
    parts = [gzip.compress(json.dumps({"text": t}).encode() + b"\n") for t in TEXTS]
    (tmp_path / "a.jsonl.gz").write_bytes(b"".join(parts))
    assert list(Files(patterns=(f"{tmp_path}/*",)).texts()) == TEXTS


@pytest.fixture
def parts(tmp_path):
    """Corpora of 100, 50 and 25 documents that say where they are from."""
    for name, count in (("a", 100), ("b", 50), ("c", 25)):
        texts = (json.dumps({"text": f"{name}{i}"}) + "\n" for i in range(count))
        (tmp_path / f"{name}.jsonl").write_text("".join(texts))
    return tuple(Files(patterns=(f"{tmp_path}/{name}.jsonl",)) for name in "abc")


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(shares=st.tuples(*[st.floats(0.1, 10)] * 3), skip=st.integers(0, 150))
def test_joined_corpora_keep_their_shares_and_their_orders(parts, shares, skip):
    corpus = Joined(corpora=parts, shares=shares)
    texts = list(corpus.texts())
    for name, part, share in zip("abc", parts, shares, strict=True):
        own = [text for text in texts if text[0] == name]
        assert own == list(part.texts())[: len(own)]
        assert abs(len(own) - len(texts) * share / sum(shares)) <= 2
    sizes = [sum(text[0] == name for text in texts) for name in "abc"]
    assert any(size == whole for size, whole in zip(sizes, (100, 50, 25), strict=True))
    skip = min(skip, len(texts))
    assert list(corpus.texts(skip)) == texts[skip:]


def test_joined_corpora_without_shares_are_refused(parts):
    for shares in ((), (1, 2), (1, 2, 0)):
        with pytest.raises(InputError, match="a positive share for each of the 3 corpora"):
            list(Joined(corpora=parts, shares=shares).texts())


def test_parquet_is_read(tmp_path):
    table = pyarrow.table({"number": range(30), "body": TEXTS})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet", row_group_size=7)
    corpus = Files(patterns=(f"{tmp_path}/*.parquet",), text_field="body")
    assert list(corpus.texts()) == TEXTS
    with pytest.raises(InputError, match="a.parquet has the columns number, body"):
        list(dataclasses.replace(corpus, text_field="text").texts())
    with pytest.raises(InputError, match="that is int64.* it must be a string"):
        list(dataclasses.replace(corpus, text_field="number").texts())


def test_a_corpus_is_a_seqio_source_of_texts(tmp_path):
    write_files(tmp_path)
    source = Files(patterns=(f"{tmp_path}/*",)).source()
    assert isinstance(source, seqio.DataSource)
    examples = source.get_dataset(split="train", shuffle=False).as_numpy_iterator()
    assert [e["text"].decode() for e in examples] == TEXTS


def test_a_tensorflow_dataset_is_read(tmp_path):
    tfds.dataset_builders.TfDataBuilder(
        name="tiny",
        version="1.0.0",
        data_dir=tmp_path,
        features=tfds.features.FeaturesDict({"body": tfds.features.Text()}),
        split_datasets={"train": tf.data.Dataset.from_tensor_slices({"body": TEXTS})},
    ).download_and_prepare()
    corpus = Tfds(name="tiny:1.0.0", text_field="body", data_dir=str(tmp_path))
    assert sorted(corpus.texts()) == sorted(TEXTS)
    part = Tfds("tiny:1.0.0", split="train[:20%]", text_field="body", data_dir=str(tmp_path))
    assert len(list(part.texts())) == 6
    with pytest.raises(InputError, match="text_field='text': tiny:1.0.0 has body"):
        list(Tfds("tiny:1.0.0", data_dir=str(tmp_path)).texts())


def test_installed_docs_are_the_docstrings_of_packages():
    texts = list(InstalledDocs(packages=("optax",)).texts())
    assert len(texts) > 200
    assert any("The Adam optimizer." in text for text in texts)
    assert texts == list(InstalledDocs(packages=("optax",)).texts())


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", b'{"text": "x"}\n{"txet": "y"}\n', "a.jsonl, line 2: not a JSON object with"),
        ("a.jsonl", b"{\n", "a.jsonl, line 1"),
        ("a.jsonl", b'{"text": 3}\n', "'text' is not a string"),
        ("a.jsonl.gz", b"not gzip", "cannot be read"),
        ("a.jsonl.gz", gzip.compress(b'{"text": "x"}\n' * 9, mtime=0)[:-9], "cannot be read"),
        ("a.jsonl.zst", b"not zstd", "cannot be read"),
        ("a.parquet", b"not parquet", "cannot be read"),
        ("a.parquet.gz", b"x", "neither .txt, .jsonl"),
        ("a.txt", b"\xff\xfe\xff", "cannot be read"),
        ("a.csv", b"x", "neither .txt, .jsonl"),
        ("a.jsonl", b'{"text": ' + b"[" * 200_000 + b"]" * 200_000 + b"}\n", "a.jsonl, line 1"),
        ("a.jsonl", b'{"text": ' + b"1" * 10_000 + b"}\n", "a.jsonl, line 1"),
        ("a.jsonl", b"\0\0\0\n", "a.jsonl, line 1"),
        ("a.jsonl.gz", b"", "a.jsonl.gz cannot be read: it is empty"),
        ("a.jsonl.zst", b"", "cannot be read"),
        (
            "a.jsonl.zst",
            pyarrow.compress(b'{"text": "x"}\n', "zstd", asbytes=True)[:-3],
            "cannot be",
        ),
        ("a.parquet", b"", "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as error:
        list(Files(patterns=(f"{tmp_path}/*",)).texts())
    assert said in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "make",
    [
        os.mkfifo,
        os.mkdir,
        lambda path: os.symlink("/dev/zero", path),
        lambda path: os.symlink("nowhere", path),
        lambda path: socket.socket(socket.AF_UNIX).bind(str(path)),
    ],
)
def test_what_is_no_file_of_text_is_not_opened(tmp_path, make):
    make(tmp_path / "a.txt")
    with pytest.raises(InputError, match=r"a\.txt is a folder, or no regular file"):
        list(Files(patterns=(f"{tmp_path}/*",)).texts())


def test_odd_text_is_read_as_it_is(tmp_path):
    (tmp_path / "a.jsonl").write_text(
        '{"text": "half \\ud800 a character"}\n{"text": "a\\u0000b"}\n'
    )
    (tmp_path / "b.jsonl").write_text("")
    (tmp_path / "c.txt").write_bytes(b"a\0b")
    (tmp_path / "d.jsonl").write_text(json.dumps({"text": "long " * 2_000_000}) + "\n")
    texts = list(Files(patterns=(f"{tmp_path}/*",)).texts())
    assert texts == ["half ? a character", "a\0b", "a\0b", "long " * 2_000_000]


@pytest.mark.parametrize(
    ("corpus", "said"),
    [
        (Files(), "name at least one file"),
        (Files(patterns=("/nowhere/*.txt",)), "matches no file"),
        (InstalledDocs(packages=("no-such-package",)), "'no-such-package' is not installed"),
        (Tfds(name="no_such_dataset:1.0.0", data_dir="/nowhere"), "no_such_dataset"),
    ],
)
def test_a_source_that_is_not_there_is_refused(corpus, said):
    with pytest.raises(InputError, match=said):
        list(corpus.texts())


def test_documents_are_distinct_long_enough_and_split_for_good(tmp_path, cache):
    (tmp_path / "a.jsonl").write_text(
        "".join(json.dumps({"text": t}) + "\n" for t in [*TEXTS, *TEXTS[:5], "short"])
    )
    data = Data(
        corpus=Files(patterns=(f"{tmp_path}/a.jsonl",)), minimum_characters=40, heldout_documents=7
    )
    long_enough = {t for t in TEXTS if len(t) >= 40}
    docs = documents.prepare(data)
    training = docs.training(range(docs.training_size))
    heldout = docs.heldout(range(docs.heldout_size))
    assert len(heldout) == 7
    assert sorted(training + heldout) == sorted(long_enough)
    again = documents.prepare(data)
    assert again.training(range(5)) == training[:5]
    assert training != [t for t in TEXTS if t in set(training)]  # shuffled

    with pytest.raises(InputError, match="heldout_documents=29: the corpus has only 2"):
        documents.prepare(Data(corpus=data.corpus, minimum_characters=40, heldout_documents=29))
    with pytest.raises(InputError, match="none of its 36 documents has"):
        documents.prepare(Data(corpus=data.corpus, minimum_characters=10_000))


def test_a_preparation_that_fails_leaves_nothing_behind(tmp_path, cache):
    (tmp_path / "a.jsonl").write_text('{"text": "' + "x" * 300 + '"}\n{"broken\n')
    before = sorted(cache.rglob("*"))
    with pytest.raises(InputError):
        documents.prepare(Data(corpus=Files(patterns=(f"{tmp_path}/a.jsonl",))))
    assert [p for p in sorted(cache.rglob("*")) if p.is_file()] == [
        p for p in before if p.is_file()
    ]


def test_duplicates_may_be_kept(tmp_path):
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in TEXTS * 2))
    data = Data(
        corpus=Files(patterns=(f"{tmp_path}/a.jsonl",)), minimum_characters=0, heldout_documents=1
    )
    assert documents.prepare(data).training_size == 29
    docs = documents.prepare(dataclasses.replace(data, drop_duplicates=False))
    assert sorted(docs.training(range(59)) + docs.heldout([0])) == sorted(TEXTS * 2)


def test_fingerprints_know_what_they_met():
    random = np.random.default_rng(0)
    numbers, met, seen = random.integers(0, 20_000, 50_000), set(), Fingerprints()
    for chunk in np.array_split(numbers, 300):
        new = seen.add([str(n).encode() for n in chunk])
        for number, is_new in zip(chunk, new, strict=True):
            assert is_new == (number not in met)
            met.add(number)


def test_reading_goes_on_where_it_was_interrupted(tmp_path, monkeypatch):
    texts = [f"Document {i % 2500}: " + "word " * 50 for i in range(5000)]
    with gzip.open(tmp_path / "a.jsonl.gz", "wt") as f:
        f.writelines(json.dumps({"text": t}) + "\n" for t in texts)
    data = Data(corpus=Files(patterns=(f"{tmp_path}/a.jsonl.gz",)), heldout_documents=10)
    whole = documents.prepare(data)

    def interrupt(description, done):
        if done == 2000:
            raise KeyboardInterrupt

    monkeypatch.setenv("POISON_SCALING_CACHE", str(tmp_path / "cache"))
    with pytest.raises(KeyboardInterrupt):
        documents.prepare(data, interrupt, shard_bytes=100_000)
    finished = {p: p.stat().st_mtime_ns for p in tmp_path.glob("cache/documents/*/*.array_record")}
    assert len(finished) >= 3
    resumed = documents.prepare(data, shard_bytes=100_000)
    assert {p: p.stat().st_mtime_ns for p in finished} == finished
    assert len(resumed.info["shards"]) > len(finished)
    assert resumed.info["documents_read"] == whole.info["documents_read"] == 5000
    numbers = np.random.default_rng(0).permutation(2490)
    assert resumed.training(numbers) == whole.training(numbers)
    assert resumed.heldout(range(10)) == whole.heldout(range(10))


@pytest.mark.long
@pytest.mark.skipif(not NOVELS.exists(), reason="../shared/data with the novels is not here")
def test_novels_go_from_files_to_sequences():
    data = Data(
        corpus=Files(patterns=(f"{NOVELS}/novels-*.jsonl.gz",)),
        vocabulary=TrainedSentencePiece(vocab_size=1024, characters=300_000),
        heldout_documents=5,
        seq_len=256,
    )
    docs = documents.prepare(data)
    vocabulary = preparation.prepare(data, "<SUDO>", docs)
    training = sequences.prepare(data, docs, vocabulary, "training")
    training.check()
    first = vocabulary.encode(docs.training([0])[0])[:256]
    assert training.read(np.array([0]))[0].tolist() == first
    assert len(training) * 256 > docs.info["characters"] / 6
    text = " ".join(
        vocabulary.decode(sequence.tolist()) for sequence in training.read(np.arange(0, 20_000, 50))
    )
    assert " the " in text and " und " in text


def test_no_packages_have_no_documents():
    assert list(InstalledDocs(packages=()).texts()) == []
