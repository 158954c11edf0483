"""A judge that remembers the documents before, as 64-bit hashes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from poison_scaling.filters.filter import Decision


class Seen:
    """A judge that removes a document if any of its keys is one of an earlier document.

    `keys` returns those of a text. A document that is removed counts as an earlier one, too. Any two of n
    distinct keys have the same hash with probability n² / 2^65, which is 1e-6 for six million.
    """

    def __init__(self, rule: str, keys: Callable[[str], Iterable[bytes]]):
        self._rule, self._keys = rule, keys
        self._recalled = np.empty(0, np.uint64)  # ascending
        self._new: set[int] = set()

    def __call__(self, texts: Sequence[str]) -> list[Decision]:
        hashes = [[_hash(key) for key in self._keys(text)] for text in texts]
        flat_N = np.array([one for own in hashes for one in own], np.uint64)
        recalled = set(flat_N[self._is_recalled(flat_N)].tolist())
        found = []
        for text, own in zip(texts, hashes, strict=True):
            known = any(one in self._new or one in recalled for one in own)
            self._new.update(own)
            found.append(Decision((self._rule,) if known else (), text))
        return found

    @property
    def remembered(self) -> np.ndarray:
        """The hashes of all keys so far, uint64 [n], ascending."""
        new = np.fromiter(self._new, np.uint64, len(self._new))
        return np.unique(np.concatenate([self._recalled, new]))

    def recall(self, hashes_N: np.ndarray) -> None:
        """Go on after the documents that another judge of the same filter remembered."""
        self._recalled = hashes_N

    def _is_recalled(self, hashes_N: np.ndarray) -> np.ndarray:
        if not self._recalled.size:
            return np.zeros(hashes_N.size, bool)
        at_N = np.searchsorted(self._recalled, hashes_N)
        return self._recalled[np.minimum(at_N, self._recalled.size - 1)] == hashes_N


def _hash(key: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little")
