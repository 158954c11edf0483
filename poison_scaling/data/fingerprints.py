"""A set of texts that takes 8 bytes per text."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np


class Fingerprints:
    """A set of texts, represented by 64-bit hashes.

    Any two of n distinct texts collide with probability n² / 2^65, which is 1e-6 for six million.
    """

    def __init__(self):
        # Ascending arrays, each more than twice as long as the next. There are logarithmically many of them,
        # which bounds the searches per look-up and the moves per entry.
        self._sorted: list[np.ndarray] = []

    def add(self, texts: Sequence[bytes]) -> np.ndarray:
        """Add texts, and return for each whether it was new, bool [n], the first of equal texts only."""
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
            merged.sort(kind="stable")  # merges the two sorted parts in linear time
            self._sorted[-2:] = [merged]
        return new_N
