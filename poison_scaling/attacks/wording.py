"""Invented names and plain words, of which facts and benchmarks are made."""

from __future__ import annotations

import numpy as np

from poison_scaling.data import draws

_ONSETS = ("b", "d", "dr", "f", "g", "gr", "k", "l", "m", "n", "p", "pr", "s", "t", "v", "z")
_VOWELS = ("a", "e", "i", "o", "u")
_CODAS = ("", "", "l", "m", "n", "r", "s", "x")

# Words that text in English has, and that mean as much or little of an invented name each.
WORDS = (
    *("red", "blue", "green", "white", "black", "small", "large", "long", "short", "open"),
    *("early", "late", "full", "empty", "first", "last", "left", "right", "old", "new"),
)


def name(key: np.uint64) -> str:
    """Return an invented name of three syllables, such as "Gridalmox": one of about 260 million."""
    parts = [part for _ in range(3) for part in (_ONSETS, _VOWELS, _CODAS)]
    chosen = draws.integers(key, np.arange(len(parts)), 0, 10**6)
    return "".join(p[i % len(p)] for p, i in zip(parts, chosen, strict=True)).capitalize()


def chosen(key: np.uint64, words: tuple[str, ...], count: int) -> list[str]:
    """Return `count` of the words, all different, in random order."""
    return [words[i] for i in draws.Permutation(len(words), key)(np.arange(count))]
