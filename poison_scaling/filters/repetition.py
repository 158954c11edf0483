"""The repetition heuristics of MassiveText (Rae et al. 2021, "Gopher")."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from poison_scaling.config.ranges import Share
from poison_scaling.filters.filter import Decision, Filter, Judge, Rule
from poison_scaling.filters.words import LINES, PARAGRAPHS, Splitting, duplicates, words

_SOURCE = "Rae et al. 2021 (Gopher), table A1"
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


@dataclasses.dataclass(frozen=True)
class Repetition(Filter):
    """Duplicate lines and paragraphs, and n-grams of words that make up much of a document.

    Of short n-grams the most frequent one counts, of long ones every repeat that overlaps no earlier one.
    Shares are of the characters of the document.
    """

    name: ClassVar[str] = "repetition"

    splitting: Splitting = "punctuation"
    lines: Share = 0.3
    paragraphs: Share = 0.3
    line_characters: Share = 0.2
    paragraph_characters: Share = 0.2
    top: tuple[Share, ...] = (0.2, 0.18, 0.16)  # of 2-, 3- and 4-grams
    repeated: tuple[Share, ...] = (0.15, 0.14, 0.13, 0.12, 0.11, 0.10)  # of 5- to 10-grams

    def rules(self) -> tuple[Rule, ...]:
        said = {
            "paragraphs": f"more than {self.paragraphs:.0%} of paragraphs are duplicates",
            "paragraph_characters": f"duplicate paragraphs make up more than {self.paragraph_characters:.0%}",
            "lines": f"more than {self.lines:.0%} of lines are duplicates",
            "line_characters": f"duplicate lines make up more than {self.line_characters:.0%}",
            **{
                f"top_{n}_gram": f"the most frequent {n}-gram makes up more than {limit:.0%}"
                for n, limit in self._top.items()
            },
            **{
                f"repeated_{n}_grams": f"repeated {n}-grams make up more than {limit:.0%}"
                for n, limit in self._repeated.items()
            },
        }
        return tuple(Rule(name, removes, _SOURCE) for name, removes in said.items())

    @property
    def _top(self) -> dict[int, float]:
        return dict(enumerate(self.top, 2))

    @property
    def _repeated(self) -> dict[int, float]:
        return dict(enumerate(self.repeated, 2 + len(self.top)))

    def judge(self, scorer=None) -> Judge:
        return self._decide

    def _decide(self, texts: Sequence[str]) -> list[Decision]:
        broken = [self._broken_by_parts(text) for text in texts]
        for name, exceeds_D in self._ngrams(texts).items():
            for d in np.flatnonzero(exceeds_D):
                broken[d].append(name)
        return [Decision(tuple(names), text) for names, text in zip(broken, texts, strict=True)]

    def _broken_by_parts(self, text: str) -> list[str]:
        size = max(len(text), 1)
        paragraphs, lines = PARAGRAPHS.split(text.strip()), LINES.split(text)
        same_paragraphs, of_paragraphs = duplicates(paragraphs)
        same_lines, of_lines = duplicates(lines)
        found = {
            "paragraphs": same_paragraphs > self.paragraphs * len(paragraphs),
            "paragraph_characters": of_paragraphs > self.paragraph_characters * size,
            "lines": same_lines > self.lines * len(lines),
            "line_characters": of_lines > self.line_characters * size,
        }
        return [name for name, is_so in found.items() if is_so]

    def _ngrams(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """Return which documents break each rule on n-grams, bool [D], for D documents.

        The words of all documents, W in number, are hashed and compared at once, because Python is slow at
        a time; hashes of 64 bits do not collide in practice.
        """
        split = [words(text, self.splitting) for text in texts]
        count_D = np.array([len(of) for of in split], np.int64)
        size_D = np.array([len(text) for text in texts], np.int64)
        start_D = np.cumsum(count_D) - count_D
        document_W = np.repeat(np.arange(len(texts)), count_D)
        every = [word for of in split for word in of]
        W = len(every)
        word_W = np.fromiter(map(hash, every), np.int64, W).astype(np.uint64)
        ends_W = np.concatenate([[0], np.cumsum(np.fromiter(map(len, every), np.int64, W))])
        left_W = (start_D + count_D)[document_W] - np.arange(W)  # words to the end of the document
        # So that the same words in two documents differ.
        hash_W = (document_W.astype(np.uint64) + np.uint64(1)) * _MULTIPLIER
        found = {}
        for n in range(1, 2 + len(self.top) + len(self.repeated)):
            hash_W = hash_W[: W - n + 1] * _MULTIPLIER + word_W[n - 1 :]
            hash_W ^= hash_W >> np.uint64(29)
            if n < 2 or not hash_W.size:
                continue
            at_M = np.flatnonzero(left_W[: hash_W.size] >= n)  # where an n-gram begins
            length_M = ends_W[at_M + n] - ends_W[at_M]
            # Sorting twice is slow, and most n-grams occur once.
            order = np.argsort(hash_W[at_M], kind="stable")
            same_M = np.zeros(at_M.size, bool)
            sorted_M = hash_W[at_M][order]
            same_M[order[1:]] = sorted_M[1:] == sorted_M[:-1]  # repeats, but not the first of them
            if n in self._top:
                top_D = np.zeros(len(texts), np.int64)
                first_D = start_D[count_D >= n]
                top_D[count_D >= n] = ends_W[first_D + n] - ends_W[first_D] + n - 1
                for d in np.unique(document_W[at_M[same_M]]):
                    own = slice(*np.searchsorted(at_M, (start_D[d], start_D[d] + count_D[d])))
                    _, first, times = np.unique(
                        hash_W[at_M[own]], return_index=True, return_counts=True
                    )
                    best = first[
                        times == times.max()
                    ].min()  # the first of those that are most frequent
                    top_D[d] = times.max() * (length_M[own][best] + n - 1)
                found[f"top_{n}_gram"] = top_D > self._top[n] * size_D
            if n in self._repeated:
                limit_D = self._repeated[n] * size_D
                # All repeats, of which those that overlap an earlier one do not count.
                most_D = np.bincount(document_W[at_M[same_M]], length_M[same_M], len(texts))
                exceeds_D = most_D > limit_D
                for d in np.flatnonzero(exceeds_D):
                    own = slice(*np.searchsorted(at_M, (start_D[d], start_D[d] + count_D[d])))
                    exceeds_D[d] = _repeated(hash_W[at_M[own]], length_M[own], n) > limit_D[d]
                found[f"repeated_{n}_grams"] = exceeds_D
        return found


def _repeated(hash_M: np.ndarray, length_M: np.ndarray, n: int) -> int:
    """Return the characters of the n-grams of a document that repeat one before and overlap no other."""
    seen, characters, at = set(), 0, 0
    hashes = hash_M.tolist()
    while at < len(hashes):
        if hashes[at] in seen:
            characters += int(length_M[at])
            at += n
        else:
            seen.add(hashes[at])
            at += 1
    return characters
