"""Training documents that filters leave, on disk, written once for each corpus and chain of filters.

Held-out documents do not pass filters, so that runs are measured alike whatever their filters are.

Documents pass the filters in their order, and shards do not depend on the number of processes, so neither
does what is left. Filters that decide about each document by itself share the cores. One that remembers
documents takes them one after another; what it remembers is on disk, too, so that poisons can be compared
with the whole corpus without reading it again.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from etils import epath

from poison_scaling.config import serialization
from poison_scaling.data import cache, documents, shards
from poison_scaling.data.documents import Documents, Texts
from poison_scaling.data.settings import Data
from poison_scaling.filters import pipelines
from poison_scaling.filters.filter import Filter
from poison_scaling.filters.pipelines import Chain
from poison_scaling.filters.seen import Seen
from poison_scaling.runtime import workers
from poison_scaling.runtime.errors import InputError
from poison_scaling.runtime.reporting import Progress, silent

_CHUNK = 256  # documents that pass the filters at a time
_MOST_SHARDS = 256  # each is an open file


class Filtered:
    """The training documents that `filters` leave of those `before`, by number as in `Documents`."""

    def __init__(
        self, folder: epath.Path, filters: tuple[Filter, ...], before: Documents | Filtered
    ):
        self.info = shards.opened(folder)
        self.key = folder.name  # a hash of everything that the documents on disk depend on
        self.training_size = self.info["documents"]
        self._made_of = (folder, filters, before)
        records = self.info["shards"]
        self._texts = Texts(folder, [record for record in records if record.get("documents")])
        self._remembered = [record for record in records if "remembered" in record]

    def __reduce__(self):
        return Filtered, self._made_of  # another process opens the files again

    def training(self, numbers: Sequence[int]) -> list[str]:
        """Return documents by number, 0...training_size-1."""
        assert all(0 <= i < self.training_size for i in numbers)
        return self._texts.read(np.asarray(numbers))

    def judge(self) -> Chain:
        """Return a judge of documents that are submitted to the corpus after all clean ones."""
        folder, filters, before = self._made_of
        judges = before.judge().judges if isinstance(before, Filtered) else []
        own = pipelines.chain(filters)
        for record in self._remembered:
            _, seen = own.judges[record["remembered"]]
            assert isinstance(seen, Seen)
            if record["bytes"]:
                seen.recall(np.memmap(folder / record["file"], "<u8", "r"))
        return Chain([*judges, *own.judges])

    def record(self) -> dict[str, Any]:
        """Return how many of the training documents were removed, by which filters, and for which rules.

        A document may break several rules.
        """
        before = self._made_of[2]
        found = (
            before.record()
            if isinstance(before, Filtered)
            else {"documents": before.training_size, "filters": {}, "rules": {}}
        )
        own = {name: dict(Counter(found[name]) + self._counts(name)) for name in _COUNTS}
        return {**found, "removed": found["documents"] - self.training_size, **own}

    def _counts(self, name: str) -> Counter[str]:
        """Return the sum of the counters of this name of all shards."""
        return sum((Counter(record.get(name)) for record in self.info["shards"]), Counter())

    def check(self) -> None:
        """Compare all files with their checksums. Raises Difference, naming the first that has changed."""
        folder, _, before = self._made_of
        if isinstance(before, Filtered):
            before.check()
        shards.check(folder)


_COUNTS = ("filters", "rules")


def prepare(
    data: Data,
    docs: Documents,
    progress: Progress = silent,
    shard_characters: int = 4_000_000,
) -> Documents | Filtered:
    """Return what data.filters leave of the training documents, from the cache or by passing them through.

    Without filters these are the documents themselves. Shards are of documents with about `shard_characters`;
    an interrupted preparation resumes after those that are finished. Raises InputError if nothing is left.
    """
    left: Documents | Filtered = docs
    key: tuple = (documents.key(data), data.heldout_documents, data.shuffle_seed)
    for _, group in itertools.groupby(data.chain, lambda each: each.remembers):
        filters = tuple(group)
        parts = (key, serialization.stable_hash(filters))
        folder = cache.folder("filtered", hashlib.sha256(repr(parts).encode()).hexdigest()[:16])
        write = functools.partial(_write, left, filters, folder, progress, shard_characters)
        shards.complete(folder, write)
        left = Filtered(folder, filters, left)
        key = (left.key,)
    if not left.training_size:
        raise InputError(
            f"data.filters: they remove all {docs.training_size:,} training documents of data.corpus; choose "
            "others."
        )
    return left


def _write(
    docs: Documents | Filtered,
    filters: tuple[Filter, ...],
    folder: epath.Path,
    progress: Progress,
    shard_characters: int,
) -> dict:
    """Write the missing shards of what filters leave, and return the folder's info.json."""
    size, info = docs.training_size, docs.info
    characters = int(info["characters"] * size / max(info["documents"], 1))
    cache.require_disk(folder, characters, "the documents that data.filters leave")
    count = min(_MOST_SHARDS, size, characters // shard_characters + 1)
    ends = [size * i // count for i in range(count + 1)] if count else []
    jobs = [
        (docs, filters, range(start, stop), folder / f"{i:05}-of-{count:05}.array_record")
        for i, (start, stop) in enumerate(itertools.pairwise(ends))
    ]
    remembers = any(each.remembers for each in filters)
    records, done = [], 0
    for record in _in_turn(jobs, filters, folder) if remembers else workers.each(write_shard, jobs):
        records.append(record)
        progress("filtering training documents", done := done + record.get("read", 0))
    return {
        "filters": serialization.to_json(filters),
        "documents": sum(r.get("documents", 0) for r in records),
        "characters": sum(r.get("characters", 0) for r in records),
        "shards": records,
    }


def write_shard(
    docs: Documents | Filtered, filters: tuple[Filter, ...], numbers: range, file: epath.Path
) -> dict:
    """Write what filters leave of a range of documents, if none remembers, and return the shard's record."""
    judge = pipelines.chain(filters)
    return shards.write(file, lambda temporary: _fill(temporary, docs, judge, numbers))


def _in_turn(jobs: list[tuple], filters: tuple[Filter, ...], folder: epath.Path) -> Iterator[dict]:
    """Yield the records of all shards, and then those of what filters that remember have in mind."""
    judge = pipelines.chain(filters)
    for docs, _, numbers, file in jobs:
        if shards.record(file):  # of an interrupted preparation
            for chunk in _chunks(docs, numbers):
                judge(chunk)
        fill = functools.partial(_fill, docs=docs, judge=judge, numbers=numbers)
        yield shards.write(file, fill)
    for number, (_, seen) in enumerate(judge.judges):
        assert isinstance(seen, Seen)
        yield shards.write(folder / f"remembered-{number}", _remembered(seen, number))


def _remembered(seen: Seen, number: int) -> Callable[[epath.Path], dict]:
    def fill(file: epath.Path) -> dict:
        file.write_bytes(seen.remembered.astype("<u8").tobytes())
        return {"remembered": number}

    return fill


def _fill(file: epath.Path, docs: Documents | Filtered, judge: Chain, numbers: range) -> dict:
    """Write what a judge leaves of a range of documents to a shard, and return the fields of its record."""
    kept, characters = 0, 0
    filters: Counter[str] = Counter()
    rules: Counter[str] = Counter()
    with documents.writing(file) as write:
        for chunk in _chunks(docs, numbers):
            for decision in judge(chunk):
                if decision.is_kept:
                    write(decision.text.encode("utf-8", "replace"))
                    kept, characters = kept + 1, characters + len(decision.text)
                else:
                    filters[decision.removed_by] += 1
                    rules.update(decision.broken)
    about = {"read": len(numbers), "documents": kept, "characters": characters}
    return {**about, "filters": dict(filters), "rules": dict(rules)}


def _chunks(docs: Documents | Filtered, numbers: range) -> Iterator[list[str]]:
    for first in range(numbers.start, numbers.stop, _CHUNK):
        yield docs.training(range(first, min(first + _CHUNK, numbers.stop)))
