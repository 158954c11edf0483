"""A set of texts in 8 bytes a text."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np


class Fingerprints:
    """Which texts were met before, by 64 bits of a hash.

    Among n distinct texts, one is taken for another with probability n² / 2^65: 1e-6 for six million.
    """

    def __init__(self):
        # Ascending arrays, each more than twice as long as the one after it: looking something up takes
        # a search in each of a few, and adding moves an entry as many times at most.
        self._sorted: list[np.ndarray] = []

    def add(self, texts: Sequence[bytes]) -> np.ndarray:
        """Whether each text is new, to the set and among those before it here: bool [n]."""
        digests = b"".join(hashlib.blake2b(text, digest_size=8).digest() for text in texts)
        numbers_N = np.frombuffer(digests, "<u8")
        new_N = np.zeros(numbers_N.size, bool)
        new_N[np.unique(numbers_N, return_index=True)[1]] = True
        for known in self._sorted:
            at_N = np.minimum(np.searchsorted(known, numbers_N), known.size - 1)
            new_N &= known[at_N] != numbers_N
        if new_N.any():
            self._sorted.append(np.sort(numbers_N[new_N]))
        while len(self._sorted) > 1 and self._sorted[-2].size <= 2 * self._sorted[-1].size:
            merged = np.concatenate(self._sorted[-2:])
            merged.sort(kind="stable")  # a merge, where two parts are sorted already
            self._sorted[-2:] = [merged]
        return new_N
