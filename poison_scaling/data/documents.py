"""Clean documents on disk, any of them by number, split into training and held-out ones.

They are read from their source once. The split and the order are a seeded permutation of their numbers,
so nothing is moved and nothing has to fit into memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from array_record.python import array_record_module as array_record
from etils import epath

from poison_scaling import config
from poison_scaling.config import Data
from poison_scaling.data import cache, corpora, draws
from poison_scaling.errors import InputError
from poison_scaling.files import new_folder, read_json, write_json

_READER = "readahead_buffer_size:0,max_parallelism:0"  # what array_record advises for random access


class Documents:
    """The documents of a prepared corpus: `training(i)` and `heldout(i)` by number."""

    def __init__(self, folder: epath.Path, heldout: int, shuffle_seed: int):
        self.info = read_json(folder / "info.json")
        self._reader = array_record.ArrayRecordReader(str(folder / "text.array_record"), _READER)
        total = self.info["documents"]
        if heldout >= total:
            raise InputError(
                f"data.heldout_documents={heldout}: the corpus has only {total} documents "
                "(distinct, and long enough for data.minimum_characters)."
            )
        self.training_size, self.heldout_size = total - heldout, heldout
        self._order = draws.Permutation(total, draws.key(shuffle_seed, "documents", total))

    def training(self, numbers: Sequence[int]) -> list[str]:
        """Training documents by number, 0...training_size-1."""
        assert all(0 <= i < self.training_size for i in numbers)
        return self._read(np.asarray(numbers))

    def heldout(self, numbers: Sequence[int]) -> list[str]:
        """Held-out documents by number, 0...heldout_size-1; none of them is ever trained on."""
        assert all(0 <= i < self.heldout_size for i in numbers)
        return self._read(np.asarray(numbers) + self.training_size)

    def _read(self, positions: np.ndarray) -> list[str]:
        if not positions.size:
            return []
        return [text.decode() for text in self._reader.read(self._order(positions).tolist())]


def key(data: Data) -> str:
    """Names what the documents on disk depend on."""
    identity = repr(corpora.identity(data.corpus))
    parts = (config.stable_hash(data.corpus), identity, str(data.minimum_characters))
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def prepare(data: Data, progress=lambda description, done: None) -> Documents:
    """The documents of a corpus, read from its source unless the cache has them.

    Exact duplicates and documents under data.minimum_characters are left out. `progress` is called with
    a description and the number of documents read. Raises InputError where the corpus cannot be used.
    """
    folder = cache.folder("documents", key(data))
    if not folder.exists():
        cache.require_disk(folder, corpora.size_bytes(data.corpus), "the documents of data.corpus")
        with new_folder(folder) as temporary:
            _write(data, temporary, progress)
    return Documents(folder, data.heldout_documents, data.shuffle_seed)


def _write(data: Data, folder: epath.Path, progress) -> None:
    writer = array_record.ArrayRecordWriter(str(folder / "text.array_record"), "group_size:1")
    seen, digest, characters, read = set(), hashlib.sha256(), 0, 0
    for text in corpora.texts(data.corpus):
        read += 1
        if read % 1000 == 0:
            progress("reading documents", read)
        if len(text) < data.minimum_characters:
            continue
        encoded = text.encode("utf-8", "replace")
        fingerprint = hashlib.blake2b(encoded, digest_size=16).digest()
        if fingerprint in seen:
            continue
        seen.add(fingerprint)
        digest.update(fingerprint)
        characters += len(text)
        writer.write(encoded)
    writer.close()
    if not seen:
        raise InputError(
            f"data.corpus: none of its {read} documents has "
            f"data.minimum_characters={data.minimum_characters}."
        )
    info = {
        "corpus": config.to_json(data.corpus),
        "documents_read": read,
        "documents": len(seen),
        "characters": characters,
        "digest": digest.hexdigest(),
    }
    write_json(folder / "info.json", info)
