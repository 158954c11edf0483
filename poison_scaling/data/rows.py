"""Documents as rows of L tokens on disk, written once, any row by number.

Documents are tokenised by a seqio Task, each ended by its end-of-document token, joined, and cut every L
tokens: no padding, nothing between them. Only the tail of the last document, shorter than a row, is left.
"""

from __future__ import annotations

import hashlib
import itertools

import numpy as np
import seqio
import tensorflow as tf
from array_record.python import array_record_module as array_record
from etils import epath

from poison_scaling.config import Data
from poison_scaling.data import cache, documents
from poison_scaling.data.quiet import quiet
from poison_scaling.errors import Difference, InputError
from poison_scaling.files import new_folder, read_json, write_json

_READER = "readahead_buffer_size:0,max_parallelism:0"
_WRITER = "group_size:1,uncompressed"  # a row is found and read alone, without unpacking others


class Rows:
    """Rows of L tokens, by number: `len(rows)`, `rows.read(numbers)`."""

    def __init__(self, file: epath.Path, row_tokens: int, dtype: str, digest: str):
        self.row_tokens, self.digest = row_tokens, digest
        self._file = file
        self._dtype = np.dtype(dtype)
        self._reader = array_record.ArrayRecordReader(str(file), _READER)

    def __len__(self) -> int:
        return self._reader.num_records()

    def check(self) -> None:
        """Raise Difference unless the rows on disk are those that were written."""
        digest = hashlib.sha256()
        try:
            for first in range(0, len(self), 4096):
                numbers = list(range(first, min(first + 4096, len(self))))
                for record in self._reader.read(numbers):
                    digest.update(record)
        except (RuntimeError, IndexError) as e:
            raise Difference(f"{self._file}: it cannot be read ({str(e).splitlines()[0]}).") from e
        if digest.hexdigest() != self.digest:
            raise Difference(f"{self._file}: its rows are not those that were written.")

    def read(self, numbers: np.ndarray) -> np.ndarray:
        """Rows by number, int32 [n, L]."""
        if not len(numbers):
            return np.zeros((0, self.row_tokens), np.int32)
        records = self._reader.read(np.asarray(numbers).tolist())
        tokens = np.frombuffer(b"".join(records), self._dtype).astype(np.int32)
        return tokens.reshape(len(numbers), self.row_tokens)


def document_task(
    name: str, docs: documents.Documents, split: str, vocabulary: seqio.Vocabulary
) -> seqio.Task:
    """The seqio Task of clean documents: {"targets": token ids, ended by the end-of-document id}."""
    size, read = {
        "training": (docs.training_size, docs.training),
        "heldout": (docs.heldout_size, docs.heldout),
    }[split]

    def dataset(split: str, shuffle_files: bool, seed: int | None = None) -> tf.data.Dataset:
        del split, shuffle_files, seed  # the order is fixed: rows on disk are shared by all runs

        def texts(numbers):
            return np.array([t.encode() for t in read(numbers)], object)

        numbers = tf.data.Dataset.range(size).batch(256)
        text = numbers.map(
            lambda n: tf.ensure_shape(
                tf.numpy_function(texts, [n], tf.string, stateful=False), [None]
            )
        )
        return text.unbatch().map(lambda t: {"targets": t})

    return seqio.Task(
        name,
        source=seqio.FunctionDataSource(dataset, splits=["train"]),
        preprocessors=[seqio.preprocessors.tokenize, seqio.preprocessors.append_eos],
        output_features={"targets": seqio.Feature(vocabulary, add_eos=True)},
        shuffle_buffer_size=None,
    )


def prepare(
    data: Data,
    docs: documents.Documents,
    vocabulary: seqio.Vocabulary,
    split: str,
    progress=lambda description, done: None,
) -> Rows:
    """The rows of a split ("training" or "heldout"), written unless the cache has them."""
    parts = (
        documents.key(data),
        (data.heldout_documents, data.shuffle_seed, data.row_tokens, split),
        _fingerprint(vocabulary),
    )
    name = hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
    folder = cache.folder("rows", name)
    if not folder.exists():
        cache.require_disk(folder, docs.info["characters"], "the rows of data.corpus")
        with new_folder(folder) as temporary:
            _write(data, docs, vocabulary, split, temporary, progress)
    info = read_json(folder / "info.json")
    return Rows(folder / "rows.array_record", data.row_tokens, info["dtype"], info["digest"])


def _write(data, docs, vocabulary, split, folder, progress) -> None:
    L = data.row_tokens
    dtype = np.dtype(np.uint16 if vocabulary.vocab_size <= 2**16 else np.uint32)
    task = document_task(f"documents_{split}", docs, split, vocabulary)
    with quiet():  # the tokenizer notes that it does not normalise
        dataset = task.get_dataset(sequence_length=None, split="train", shuffle=False, num_epochs=1)
        examples = dataset.as_numpy_iterator()
        first = list(itertools.islice(examples, 1))
    writer = array_record.ArrayRecordWriter(str(folder / "rows.array_record"), _WRITER)
    digest, rows, tokens, number = hashlib.sha256(), 0, 0, 0
    left = np.zeros(0, dtype)
    for number, example in enumerate(itertools.chain(first, examples), 1):
        ids = example["targets"]
        tokens += ids.size
        left = np.concatenate([left, ids.astype(dtype)])
        whole = left.size // L
        for row in left[: whole * L].reshape(whole, L):
            writer.write(row.tobytes())
            digest.update(row.tobytes())
        rows, left = rows + whole, left[whole * L :]
        if number % 1000 == 0:
            progress(f"tokenising {split} documents", number)
    writer.close()
    if not rows:
        raise InputError(
            f"data.row_tokens={L}: the {number} {split} documents have only {tokens} tokens together."
        )
    info = {
        "rows": rows,
        "row_tokens": L,
        "tokens": tokens,
        "documents": number,
        "dtype": dtype.name,
        "digest": digest.hexdigest(),
    }
    write_json(folder / "info.json", info)


def _fingerprint(vocabulary: seqio.Vocabulary) -> str:
    """What the ids of a text depend on."""
    if isinstance(vocabulary, seqio.SentencePieceVocabulary):
        return hashlib.sha256(vocabulary.sp_model).hexdigest()
    return type(vocabulary).__name__
