"""Tokenised documents on disk, written once, and read as sequences: sequence i is tokens i*L ... (i+1)*L - 1.

Documents are tokenised by a seqio Task and concatenated without padding, each followed by an end-of-document
token. Sequences of any length can be read from the same files; only a tail shorter than a sequence is unused.

The tokens are in shards, each with the tokens of a range of documents as little-endian integers of 2 or 4
bytes. Sequences may cross shards.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator

import numpy as np
from etils import epath

from poison_scaling.data import cache, documents, shards
from poison_scaling.data.documents import Documents
from poison_scaling.data.filtering import Filtered
from poison_scaling.data.settings import Data
from poison_scaling.data.vocabularies.vocabulary import Vocabulary
from poison_scaling.runtime import workers
from poison_scaling.runtime.errors import InputError
from poison_scaling.runtime.quiet import silenced
from poison_scaling.runtime.reporting import Progress, silent

_MOST_SHARDS = 256  # each is an open file


class Sequences:
    """The sequences of L tokens in a folder; `len` is their number."""

    def __init__(self, folder: epath.Path, seq_len: int):
        info = shards.opened(folder)
        self.seq_len = seq_len
        self._folder = folder
        self._files = [folder / shard["file"] for shard in info["shards"]]
        self._shards = [np.memmap(file, info["dtype"], "r") for file in self._files]
        checksums = "".join(shard["sha256"] for shard in info["shards"])
        self.digest = hashlib.sha256(checksums.encode()).hexdigest()
        self._starts = np.cumsum([0] + [shard["tokens"] for shard in info["shards"]])

    def __len__(self) -> int:
        return int(self._starts[-1]) // self.seq_len

    def read(self, numbers: np.ndarray) -> np.ndarray:
        """Return sequences by number, 0...len-1: int32 [n, L]."""
        L = self.seq_len
        first_N = np.asarray(numbers, np.int64) * L  # first tokens, numbered over all shards
        shard_N = np.searchsorted(self._starts, first_N, side="right") - 1
        tokens_NxL = np.empty((first_N.size, L), np.int32)
        for s in np.unique(shard_N):
            tokens, start = self._shards[s], self._starts[s]
            whole_N = (shard_N == s) & (first_N + L <= start + tokens.size)
            if whole_N.any():
                tokens_NxL[whole_N] = _windows(tokens, L)[first_N[whole_N] - start]
        for n in np.flatnonzero(first_N + L > self._starts[shard_N + 1]):
            tokens_NxL[n] = self._across(shard_N[n], first_N[n])
        return tokens_NxL

    def _across(self, s: int, first: int) -> np.ndarray:
        """Return the sequence at token `first`, which begins in shard s and ends in a later one."""
        parts, left = [], self.seq_len
        while left:
            begin = max(first - self._starts[s], 0)
            parts.append(self._shards[s][begin : begin + left])
            left -= parts[-1].size
            s += 1
        return np.concatenate(parts)

    def shards(self) -> Iterator[tuple[epath.Path, int, np.ndarray]]:
        """Yield each file, the number of its first token, and its tokens, which are of complete documents."""
        yield from zip(self._files, self._starts[:-1].tolist(), self._shards, strict=True)

    def check(self) -> None:
        """Compare all files with their checksums. Raises Difference, naming the first that has changed."""
        shards.check(self._folder)


def _windows(tokens: np.ndarray, L: int) -> np.ndarray:
    """Return a view [tokens - L + 1, L] of the L tokens from each position."""
    return np.lib.stride_tricks.sliding_window_view(tokens, L)


def prepare(
    data: Data,
    docs: Documents | Filtered,
    vocabulary: Vocabulary,
    split: str,
    progress: Progress = silent,
    shard_characters: int = 64_000_000,
) -> Sequences:
    """Return the sequences of a split, "training" or "heldout", from the cache or by tokenising documents.

    Only training documents can be what filters have left.
    A shard has documents of about `shard_characters`. Shards are tokenised in parallel, and those finished by
    an interrupted preparation are kept. Raises InputError if the documents do not fill a single sequence.
    """
    parts = (
        documents.key(data),
        (data.heldout_documents, data.shuffle_seed, split),
        vocabulary.fingerprint,
        *((docs.key,) if isinstance(docs, Filtered) else ()),
    )
    name = hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
    folder = cache.folder("tokens", name)
    info = shards.complete(
        folder, lambda: _write(docs, vocabulary, split, folder, progress, shard_characters)
    )
    sequences = Sequences(folder, data.seq_len)
    if not len(sequences):
        raise InputError(
            f"data.seq_len={data.seq_len}: the {info['documents']} {split} documents have only "
            f"{info['tokens']} tokens together."
        )
    return sequences


def _write(
    docs: Documents | Filtered,
    vocabulary: Vocabulary,
    split: str,
    folder: epath.Path,
    progress: Progress,
    shard_characters: int,
) -> dict:
    """Write the missing shards of a split, in parallel, and return the folder's info.json."""
    with silenced():  # imported here because TensorFlow is slow to import, and prints to stderr
        from poison_scaling.data import tokenization
    of_heldout = split == "heldout" and isinstance(docs, Documents)
    size = docs.heldout_size if of_heldout else docs.training_size
    characters = docs.info["characters"] * size / docs.info["documents"]
    cache.require_disk(folder, int(characters), "the tokens of data.corpus")
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
    for record in workers.each(tokenization.write_shard, jobs):
        records.append(record)
        progress(description, sum(r["documents"] for r in records))
    return {
        "documents": size,
        "tokens": sum(r["tokens"] for r in records),
        "dtype": dtype,
        "shards": records,
    }
