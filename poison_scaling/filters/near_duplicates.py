"""Near-duplicates by MinHash (Broder 1997) and locality-sensitive hashing."""

from __future__ import annotations

import dataclasses
import re
from typing import Annotated, Any, ClassVar

import numpy as np

from poison_scaling.config.ranges import Between
from poison_scaling.filters.filter import Filter, Judge, Rule
from poison_scaling.filters.seen import Seen
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
    remembers: ClassVar[bool] = True

    ngram: Annotated[int, Between(1, 1000)] = 5
    bands: Annotated[int, Between(1, 1000)] = 14
    rows: Annotated[int, Between(1, 1000)] = 8

    def rules(self) -> tuple[Rule, ...]:
        half = (1 - 0.5 ** (1 / self.bands)) ** (1 / self.rows)
        removes = f"{self.ngram}-grams like an earlier document's (half of those of similarity {half:.2f})"
        return (Rule("near_duplicate", removes, "Penedo et al. 2024 (FineWeb), section 3.4"),)

    def judge(self, scorer=None) -> Judge:
        minhash, hashed = _library()
        empty = minhash(num_perm=self.bands * self.rows, seed=1, hashfunc=hashed)

        def bands(text: str) -> list[bytes]:
            signature = empty.copy()
            signature.update_batch(self.ngrams(text))
            values = np.ascontiguousarray(signature.hashvalues).reshape(self.bands, -1)
            return [b"%d " % number + band.tobytes() for number, band in enumerate(values)]

        return Seen("near_duplicate", bands)

    def ngrams(self, text: str) -> list[bytes]:
        """Return the distinct n-grams of words of a text; all of it if it has fewer words."""
        words = _WORD.findall(text.lower())
        if len(words) < self.ngram:
            return [" ".join(words).encode("utf-8", "replace")]
        spans = zip(*(words[i:] for i in range(self.ngram)), strict=False)
        return [gram.encode("utf-8", "replace") for gram in {" ".join(span) for span in spans}]


def _library() -> tuple[Any, Any]:
    try:
        import datasketch
        from datasketch.hashfunc import sha1_hash32
    except ImportError as e:
        raise InputError(
            "filter minhash: it needs datasketch; install poison_scaling[filters]."
        ) from e
    return datasketch.MinHash, sha1_hash32
