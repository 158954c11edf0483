"""Where documents come from: installed docs, files, TensorFlow Datasets; all as seqio data sources."""

import gzip
import json

import pytest
import seqio
import tensorflow as tf
import tensorflow_datasets as tfds

from poison_scaling.config import Data, Files, InstalledDocs, Tfds
from poison_scaling.data import corpora, documents
from poison_scaling.errors import InputError

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
    assert list(corpora.texts(Files(patterns=(f"{tmp_path}/*",)))) == TEXTS


def test_a_corpus_is_a_seqio_source_of_texts(tmp_path):
    write_files(tmp_path)
    source = corpora.source(Files(patterns=(f"{tmp_path}/*",)))
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
    assert sorted(corpora.texts(corpus)) == sorted(TEXTS)
    part = Tfds("tiny:1.0.0", split="train[:20%]", text_field="body", data_dir=str(tmp_path))
    assert len(list(corpora.texts(part))) == 6
    with pytest.raises(InputError, match="text_field='text': tiny:1.0.0 has body"):
        list(corpora.texts(Tfds("tiny:1.0.0", data_dir=str(tmp_path))))


def test_installed_docs_are_the_docstrings_of_packages():
    texts = list(corpora.texts(InstalledDocs(packages=("optax",))))
    assert len(texts) > 200
    assert any("The Adam optimizer." in text for text in texts)
    assert texts == list(corpora.texts(InstalledDocs(packages=("optax",))))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", b'{"text": "x"}\n{"txet": "y"}\n', "a.jsonl, line 2: not a JSON object with"),
        ("a.jsonl", b"{\n", "a.jsonl, line 1"),
        ("a.jsonl", b'{"text": 3}\n', "'text' is not a string"),
        ("a.jsonl.gz", b"not gzip", "cannot be read"),
        ("a.txt", b"\xff\xfe\xff", "cannot be read"),
        ("a.csv", b"x", "neither .txt, .jsonl"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as error:
        list(corpora.texts(Files(patterns=(f"{tmp_path}/*",))))
    assert said in str(error.value) and "\n" not in str(error.value)


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
        list(corpora.texts(corpus))


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
