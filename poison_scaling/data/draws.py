"""Counter-based random numbers: the i-th draw of a named stream, without drawing those before it.

All randomness of the data comes from here, so it can be computed in any order, and is the same on any machine
and with any version of NumPy. The generator is SplitMix64 (Steele, Lea & Flood 2014), whose i-th output is a
function of i alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np

_GAMMA = np.uint64(0x9E3779B97F4A7C15)


def key(*names: int | str) -> np.uint64:
    """Return the key of the stream with these names, such as key(seed, "offsets")."""
    digest = hashlib.sha256(repr(names).encode()).digest()
    return np.uint64(int.from_bytes(digest[:8], "little"))


def words(stream: np.uint64 | np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Return 64 random bits for each index >= 0, uint64, in the broadcast shape of `stream` and `indices`."""
    with np.errstate(over="ignore"):
        return _mix(stream + _GAMMA * (np.asarray(indices).astype(np.uint64) + np.uint64(1)))


def fractions(stream: np.uint64, indices: np.ndarray) -> np.ndarray:
    """Return uniform draws from [0, 1), with 53 bits, for each index: float64, shape of `indices`."""
    return (words(stream, indices) >> np.uint64(11)) * 2.0**-53


def integers(stream: np.uint64, indices: np.ndarray, low: int, high: int) -> np.ndarray:
    """Return uniform draws from low...high, both included, for each index: int64, shape of `indices`."""
    return low + np.floor(fractions(stream, indices) * (high - low + 1)).astype(np.int64)


class Permutation:
    """A random permutation of 0...size-1, computed on demand in constant memory.

    It is a Feistel network over the next power of four, with cycle walking (Black & Rogaway 2002, "Ciphers
    with arbitrary finite domains"). `stream` is one key for all indices, or one for each.
    """

    ROUNDS = 6

    def __init__(self, size: int, stream: np.uint64 | np.ndarray):
        self.size = size
        # At least 8 bits, because a network over few values reaches few of their permutations.
        self._half = np.uint64(max(4, (max(size - 1, 1).bit_length() + 1) // 2))
        self._mask = np.uint64((1 << int(self._half)) - 1)
        self._keys = words(stream, np.arange(self.ROUNDS).reshape(-1, *(1 for _ in stream.shape)))

    def __call__(self, indices: np.ndarray) -> np.ndarray:
        """Return the place of each index in 0...size-1: int64, shape of `indices`."""
        return self._walk(self._encrypt, indices)

    def inverse(self, places: np.ndarray) -> np.ndarray:
        """Return the index at each place in 0...size-1: int64, shape of `places`."""
        return self._walk(self._decrypt, places)

    def _walk(self, cipher: Callable, values: np.ndarray) -> np.ndarray:
        values = np.asarray(values)
        x = values.astype(np.uint64).ravel()
        outside = np.arange(x.size)
        while outside.size:
            keys = [k[outside] if k.ndim else k for k in self._keys]
            x[outside] = walked = cipher(x[outside], keys)
            outside = outside[walked >= self.size]
        return x.astype(np.int64).reshape(values.shape)

    def _encrypt(self, x: np.ndarray, keys: list) -> np.ndarray:
        left, right = x >> self._half, x & self._mask
        with np.errstate(over="ignore"):
            for k in keys:
                left, right = right, left ^ (_mix(right + k) & self._mask)
        return (left << self._half) | right

    def _decrypt(self, x: np.ndarray, keys: list) -> np.ndarray:
        left, right = x >> self._half, x & self._mask
        with np.errstate(over="ignore"):
            for k in keys[::-1]:
                left, right = right ^ (_mix(left + k) & self._mask), left
        return (left << self._half) | right


def _mix(x: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
