"""Documents as tokens on disk, written once; row i is tokens i*L ... (i+1)*L - 1 of them all.

Documents are tokenised by a seqio Task, each ended by its end-of-document token, and joined: no padding,
nothing between them. Rows of any length are read from the same files. Only the tail of the last document,
shorter than a row, is left.

The tokens lie in shards, each the tokens of a range of documents, little-endian integers of 2 or 4 bytes.
Where one shard ends and another begins is nothing that a reader notices.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator

import numpy as np
import seqio
import tensorflow as tf
from etils import epath

from poison_scaling.config import Data
from poison_scaling.data import cache, documents, shards, vocabularies, workers
from poison_scaling.data.quiet import quiet
from poison_scaling.errors import InputError

_MOST_SHARDS = 256  # each is an open file


class Rows:
    """Rows of L tokens, by number: `len(rows)`, `rows.read(numbers)`."""

    def __init__(self, folder: epath.Path, row_tokens: int):
        info = shards.opened(folder)
        self.row_tokens = row_tokens
        self._folder = folder
        self._files = [folder / shard["file"] for shard in info["shards"]]
        self._shards = [np.memmap(file, info["dtype"], "r") for file in self._files]
        checksums = "".join(shard["sha256"] for shard in info["shards"])
        self.digest = hashlib.sha256(checksums.encode()).hexdigest()
        self._starts = np.cumsum([0] + [shard["tokens"] for shard in info["shards"]])

    def __len__(self) -> int:
        return int(self._starts[-1]) // self.row_tokens

    def read(self, numbers: np.ndarray) -> np.ndarray:
        """Rows by number, 0...len-1: int32 [n, L]."""
        L = self.row_tokens
        first_N = np.asarray(numbers, np.int64) * L  # token of each row, counted over all shards
        shard_N = np.searchsorted(self._starts, first_N, side="right") - 1
        rows_NxL = np.empty((first_N.size, L), np.int32)
        for s in np.unique(shard_N):
            tokens, start = self._shards[s], self._starts[s]
            whole_N = (shard_N == s) & (first_N + L <= start + tokens.size)
            if whole_N.any():
                rows_NxL[whole_N] = _windows(tokens, L)[first_N[whole_N] - start]
        for n in np.flatnonzero(first_N + L > self._starts[shard_N + 1]):
            rows_NxL[n] = self._across(shard_N[n], first_N[n])
        return rows_NxL

    def _across(self, s: int, first: int) -> np.ndarray:
        """A row that begins in shard s and ends in a later one."""
        parts, left = [], self.row_tokens
        while left:
            begin = max(first - self._starts[s], 0)
            parts.append(self._shards[s][begin : begin + left])
            left -= parts[-1].size
            s += 1
        return np.concatenate(parts)

    def shards(self) -> Iterator[tuple[epath.Path, int, np.ndarray]]:
        """The tokens of each file, which ends where a document ends, and the number of the first of them."""
        yield from zip(self._files, self._starts[:-1].tolist(), self._shards, strict=True)

    def check(self) -> None:
        """Read every byte; raise Difference naming the first file that is not as it was written."""
        shards.check(self._folder)


def _windows(tokens: np.ndarray, L: int) -> np.ndarray:
    """View [tokens - L + 1, L]: the L tokens from each one on."""
    return np.lib.stride_tricks.sliding_window_view(tokens, L)


def document_task(
    name: str, docs: documents.Documents, split: str, numbers: range, vocabulary: seqio.Vocabulary
) -> seqio.Task:
    """The seqio Task of clean documents: {"targets": token ids, ended by the end-of-document id}.

    `split` is "training" or "heldout"; `numbers` a range of its documents, in steps of 1.
    """
    read = {"training": docs.training, "heldout": docs.heldout}[split]

    def dataset(split: str, shuffle_files: bool, seed: int | None = None) -> tf.data.Dataset:
        del split, shuffle_files, seed  # the order is fixed: rows on disk are shared by all runs

        def texts(chunk):
            return np.array([t.encode() for t in read(chunk)], object)

        chunks = tf.data.Dataset.range(numbers.start, numbers.stop).batch(256)
        text = chunks.map(
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
    shard_characters: int = 64_000_000,
) -> Rows:
    """The rows of a split ("training" or "heldout"), tokenised unless the cache has them.

    Documents of about `shard_characters` are one shard; shards are tokenised in parallel, and those that
    a killed preparation finished are kept. `progress` is called with a description and the number of
    documents done. Raises InputError where the documents do not fill a single row.
    """
    parts = (
        documents.key(data),
        (data.heldout_documents, data.shuffle_seed, split),
        vocabularies.fingerprint(vocabulary),
    )
    name = hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
    folder = cache.folder("rows", name)
    info = shards.complete(
        folder, lambda: _write(docs, vocabulary, split, folder, progress, shard_characters)
    )
    rows = Rows(folder, data.row_tokens)
    if not len(rows):
        raise InputError(
            f"data.row_tokens={data.row_tokens}: the {info['documents']} {split} documents have only "
            f"{info['tokens']} tokens together."
        )
    return rows


def _write(docs, vocabulary, split, folder, progress, shard_characters) -> dict:
    """Write the missing shards of a split, in parallel; returns the folder's info.json."""
    size = {"training": docs.training_size, "heldout": docs.heldout_size}[split]
    characters = docs.info["characters"] * size / docs.info["documents"]
    cache.require_disk(folder, int(characters), "the rows of data.corpus")
    count = min(_MOST_SHARDS, size, int(characters / shard_characters) + 1)
    ends = [size * i // count for i in range(count + 1)]
    dtype = "<u2" if vocabulary.vocab_size <= 2**16 else "<u4"
    description = f"tokenising {split} documents"
    told = (lambda done: progress(description, done)) if count == 1 else None
    jobs = [
        (docs, vocabulary, split, range(start, stop), dtype, folder / f"{i:05}-of-{count:05}", told)
        for i, (start, stop) in enumerate(itertools.pairwise(ends))
    ]
    records = []
    for record in workers.each(_write_shard, jobs):
        records.append(record)
        progress(description, sum(r["documents"] for r in records))
    return {
        "documents": size,
        "tokens": sum(r["tokens"] for r in records),
        "dtype": dtype,
        "shards": records,
    }


def _write_shard(
    docs: documents.Documents,
    vocabulary: seqio.Vocabulary,
    split: str,
    numbers: range,
    dtype: str,
    file: epath.Path,
    progress: Callable[[int], None] | None,
) -> dict:
    """The shard's record. `progress` is called with the number of documents done."""

    def fill(temporary: epath.Path) -> dict:
        task = document_task(f"documents_{split}", docs, split, numbers, vocabulary)
        tokens = 0
        with temporary.open("wb") as f:
            with quiet():  # the tokenizer notes that it does not normalise
                examples = task.get_dataset(None, split="train", shuffle=False, num_epochs=1)
                examples = examples.as_numpy_iterator()
                first = next(examples)
            for done, example in enumerate(itertools.chain([first], examples), 1):
                f.write(example["targets"].astype(dtype).tobytes())
                tokens += example["targets"].size
                if progress and done % 1000 == 0:
                    progress(done)
        return {"documents": len(numbers), "tokens": tokens}

    return shards.write(file, fill)
