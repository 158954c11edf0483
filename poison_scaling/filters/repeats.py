"""Spans of words that are repeated many times in a row."""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar

import numpy as np

from poison_scaling.config.ranges import Between
from poison_scaling.filters.filter import Decision, Filter, Judge, Rule, each
from poison_scaling.filters.words import words


@dataclasses.dataclass(frozen=True)
class Repeats(Filter):
    """Removes documents in which a span of words is repeated many times in a row."""

    name: ClassVar[str] = "repeats"

    longest_span: Annotated[int, Between(1, 1000)] = 13  # words
    times: Annotated[int, Between(2, 10_000)] = 32

    def rules(self) -> tuple[Rule, ...]:
        removes = f"a span of 1 to {self.longest_span} words {self.times} times in a row"
        source = "OLMo et al. 2025 (2 OLMo 2 Furious), section 3.1; there in tokens"
        return (Rule("repeated_span", removes, source),)

    def judge(self, scorer=None) -> Judge:
        return each(self._decide)

    def _decide(self, text: str) -> Decision:
        split = words(text, "spaces")
        word_W = np.fromiter(map(hash, split), np.int64, len(split))
        found = any(self._repeats(word_W, n) for n in range(1, self.longest_span + 1))
        return Decision(("repeated_span",) if found else (), text)

    def _repeats(self, word_W: np.ndarray, n: int) -> bool:
        """Whether a span of n words is repeated: as many words in a row equal the n-th after them."""
        needed = n * (self.times - 1)
        if word_W.size - n < needed:
            return False
        differs = np.flatnonzero(word_W[n:] != word_W[:-n])
        edges = np.concatenate([[-1], differs, [word_W.size - n]])
        return bool(np.diff(edges).max() - 1 >= needed)
