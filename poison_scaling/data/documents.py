"""Clean documents on disk, with random access, split into training and held-out documents.

They are read from their source once. The split and the order come from a seeded permutation of their numbers,
so nothing is moved on disk and nothing has to fit into memory.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import os
from collections.abc import Callable, Generator, Iterator, Sequence

import numpy as np
from array_record.python import array_record_module as array_record  # ty: ignore[missing-module-member]
from etils import epath

from poison_scaling.config import serialization
from poison_scaling.data import cache, draws, shards
from poison_scaling.data.fingerprints import Fingerprints
from poison_scaling.data.settings import Data
from poison_scaling.runtime.errors import Damaged, InputError

_READER = "readahead_buffer_size:0,max_parallelism:0"  # as recommended for random access
_CHUNK = 256  # documents processed at a time


class Documents:
    """The documents of a prepared corpus, accessed by number with `training` and `heldout`."""

    def __init__(self, folder: epath.Path, info: dict, heldout: int, shuffle_seed: int):
        total = info["documents"]
        if heldout >= total:
            raise InputError(
                f"data.heldout_documents={heldout}: the corpus has only {total} documents "
                "(long enough for data.minimum_characters, and distinct where data.drop_duplicates)."
            )
        self.info = info
        self.key = folder.name  # a hash of everything that the documents on disk depend on
        self.training_size, self.heldout_size = total - heldout, heldout
        self._made_of = (folder, info, heldout, shuffle_seed)
        self._order = draws.Permutation(total, draws.key(shuffle_seed, "documents", total))
        self._texts = Texts(folder, info["shards"])

    def __reduce__(self):
        return Documents, self._made_of  # another process opens the files again

    def training(self, numbers: Sequence[int]) -> list[str]:
        """Return training documents by number, 0...training_size-1."""
        assert all(0 <= i < self.training_size for i in numbers)
        return self._texts.read(self._order(np.asarray(numbers)))

    def heldout(self, numbers: Sequence[int]) -> list[str]:
        """Return held-out documents by number, 0...heldout_size-1; no run trains on them."""
        assert all(0 <= i < self.heldout_size for i in numbers)
        return self._texts.read(self._order(np.asarray(numbers) + self.training_size))


class Texts:
    """The texts in the shards of a folder, accessed by number in the order of the shards."""

    def __init__(self, folder: epath.Path, records: Sequence[dict]):
        self._starts = np.cumsum([0] + [record["documents"] for record in records])
        self._files = [folder / record["file"] for record in records]
        self._readers = list(map(_reader, self._files))

    def read(self, numbers_N: np.ndarray) -> list[str]:
        """Return texts by number. Raises Damaged if a file cannot be read."""
        shard_N = np.searchsorted(self._starts, numbers_N, side="right") - 1
        texts = [""] * numbers_N.size
        for s in np.unique(shard_N):
            at = np.flatnonzero(shard_N == s)
            within = (numbers_N[at] - self._starts[s]).tolist()
            with _undamaged(self._files[s]):
                for n, text in zip(at, self._readers[s].read(within), strict=True):
                    texts[n] = text.decode()
        return texts


def _reader(file: epath.Path) -> array_record.ArrayRecordReader:
    with _undamaged(file):
        return array_record.ArrayRecordReader(str(file), _READER)


@contextlib.contextmanager
def _undamaged(file: epath.Path) -> Generator[None]:
    """Raise Damaged if the block fails to read from a file."""
    try:
        yield
    except (RuntimeError, ValueError, IndexError) as e:  # from array_record, or if it is not UTF-8
        raise Damaged(f"{file} is damaged; delete its folder, and it is prepared again.") from e


def key(data: Data) -> str:
    """Return a hash of everything that the documents on disk depend on."""
    identity = repr(data.corpus.identity())
    settings = (data.minimum_characters, data.drop_duplicates)
    parts = (serialization.stable_hash(data.corpus), identity, settings)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def prepare(
    data: Data, progress=lambda description, done: None, shard_bytes: int = 2**30
) -> Documents:
    """Return the documents of a corpus, from the cache or read from its source.

    Documents shorter than data.minimum_characters are dropped, and exact duplicates if data.drop_duplicates
    is set. A file is finished after each `shard_bytes` of text; an interrupted preparation resumes after the
    last one. `progress` is called with a description and the number of documents read. Raises InputError if
    the corpus cannot be used.
    """
    folder = cache.folder("documents", key(data))
    info = shards.complete(folder, lambda: _write(data, folder, progress, shard_bytes))
    return Documents(folder, info, data.heldout_documents, data.shuffle_seed)


def _write(data: Data, folder: epath.Path, progress, shard_bytes: int) -> dict:
    """Write the missing shards of a corpus, and return the folder's info.json."""
    cache.require_disk(folder, data.corpus.size_bytes(), "the documents of data.corpus")
    seen, records = Fingerprints(), []
    files = (folder / f"{i:05}.array_record" for i in itertools.count())
    file = next(files)
    while record := shards.record(file):  # from an interrupted preparation
        records.append(record)
        with _undamaged(file):
            for chunk in _chunks(_reader(file)):
                seen.add(chunk)
        file = next(files)
    before = sum(r["read"] for r in records)
    texts = _counted(data.corpus.texts(before), before, progress)
    while not (records and records[-1]["last"]):
        records.append(shards.write(file, lambda f: _fill(f, data, texts, seen, shard_bytes)))
        file = next(files)
    read, kept, characters = (
        sum(r[name] for r in records) for name in ("read", "documents", "characters")
    )
    if not kept:
        raise InputError(
            f"data.corpus: none of its {read} documents has "
            f"data.minimum_characters={data.minimum_characters}."
        )
    return {
        "corpus": serialization.to_json(data.corpus),
        "documents_read": read,
        "documents": kept,
        "characters": characters,
        "shards": [r for r in records if r["documents"]],
    }


@contextlib.contextmanager
def writing(file: epath.Path) -> Generator[Callable[[bytes], None]]:
    """Yield a function that writes a text, as UTF-8, to a shard. A full disk raises OSError."""
    with _full_disk(file):
        writer = array_record.ArrayRecordWriter(str(file), "group_size:1")

    def write(record: bytes) -> None:
        with _full_disk(file):
            writer.write(record)

    yield write
    with _full_disk(file):
        writer.close()


def _fill(
    file: epath.Path, data: Data, texts: Iterator[str], seen: Fingerprints, shard_bytes: int
) -> dict:
    """Write documents from `texts` to a shard until it is full or there are no more."""
    read, kept, characters, size, last = 0, 0, 0, 0, False
    with writing(file) as write:
        while size < shard_bytes and not last:
            chunk = list(itertools.islice(texts, _CHUNK))
            read, last = read + len(chunk), len(chunk) < _CHUNK
            chunk = [text for text in chunk if len(text) >= data.minimum_characters]
            encoded = [text.encode("utf-8", "replace") for text in chunk]
            new = seen.add(encoded) if data.drop_duplicates else [True] * len(encoded)
            for text, record, is_new in zip(chunk, encoded, new, strict=True):
                if is_new:
                    write(record)
                    kept, characters, size = kept + 1, characters + len(text), size + len(record)
    return {"read": read, "documents": kept, "characters": characters, "last": last}


@contextlib.contextmanager
def _full_disk(file: epath.Path) -> Generator[None]:
    """Convert the block's RuntimeErrors from array_record to OSError if they are due to the system."""
    try:
        yield
    except RuntimeError as e:
        for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
            if os.strerror(number) in str(e):
                raise OSError(number, os.strerror(number), str(file)) from e
        raise


def _chunks(reader: array_record.ArrayRecordReader) -> Iterator[list[bytes]]:
    size = reader.num_records()
    for i in range(0, size, _CHUNK):
        yield reader.read(range(i, min(i + _CHUNK, size)))


def _counted(texts: Iterator[str], before: int, progress) -> Generator[str]:
    for number, text in enumerate(texts, before + 1):
        if number % 1000 == 0:
            progress("reading documents", number)
        yield text
