"""Near-duplicates by MinHash (Broder 1997) and locality-sensitive hashing."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from poison_scaling.filters.filter import Decision, Filter, Judge, Rule
from poison_scaling.runtime.errors import InputError

_WORD = re.compile(r"\w+")


@dataclasses.dataclass(frozen=True)
class NearDuplicates(Filter):
    """Keeps the first of documents whose n-grams of words are much the same.

    Two documents are near-duplicates if the `rows` hashes of any of `bands` bands agree, with probability
    1 - (1 - s^rows)^bands for documents of Jaccard similarity s. A document that has been removed still
    counts as an earlier one, as in a single pass over a corpus.
    """

    name: ClassVar[str] = "minhash"

    ngram: int = 5
    bands: int = 14
    rows: int = 8

    def rules(self) -> tuple[Rule, ...]:
        half = (1 - 0.5 ** (1 / self.bands)) ** (1 / self.rows)
        removes = f"{self.ngram}-grams like an earlier document's (half of those of similarity {half:.2f})"
        return (Rule("near_duplicate", removes, "Penedo et al. 2024 (FineWeb), section 3.4"),)

    def judge(self, scorer=None) -> Judge:
        minhash, hashed = _library()
        empty = minhash(num_perm=self.bands * self.rows, seed=1, hashfunc=hashed)
        return _Bands(self, empty)

    def ngrams(self, text: str) -> list[bytes]:
        """Return the distinct n-grams of words of a text; all of it if it has fewer words."""
        words = _WORD.findall(text.lower())
        if len(words) < self.ngram:
            return [" ".join(words).encode("utf-8", "replace")]
        spans = zip(*(words[i:] for i in range(self.ngram)), strict=False)
        return [gram.encode("utf-8", "replace") for gram in {" ".join(span) for span in spans}]


class _Bands:
    """A judge that remembers the bands of signatures."""

    def __init__(self, filter: NearDuplicates, empty: Any):
        self._filter, self._empty = filter, empty
        self._tables: list[set[bytes]] = [set() for _ in range(filter.bands)]

    def __call__(self, texts: Sequence[str]) -> list[Decision]:
        found = []
        for text in texts:
            signature = self._empty.copy()
            signature.update_batch(self._filter.ngrams(text))
            values = np.ascontiguousarray(signature.hashvalues)
            bands = [band.tobytes() for band in values.reshape(self._filter.bands, -1)]
            near = any(band in table for band, table in zip(bands, self._tables, strict=True))
            for band, table in zip(bands, self._tables, strict=True):
                table.add(band)
            found.append(Decision(("near_duplicate",) if near else (), text))
        return found


def _library() -> tuple[Any, Any]:
    try:
        import datasketch
        from datasketch.hashfunc import sha1_hash32
    except ImportError as e:
        raise InputError(
            "filter minhash: it needs datasketch; install poison_scaling[filters]."
        ) from e
    return datasketch.MinHash, sha1_hash32
