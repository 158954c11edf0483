"""Items: contexts with candidate completions, of which training may have inserted the first."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Items:
    """K items in R = K x forms rows, those of one item after another; each row is a context of its own.

    Every row has A candidate completions, of which the first is the one that documents insert. What a model
    is asked is how likely it finds each of them, so nothing is sampled.
    """

    context_RxT: np.ndarray  # int32, padded on the left
    padding_R: np.ndarray  # int32, tokens of padding on the left
    candidate_RxAxC: np.ndarray  # int32, padded on the right
    length_RxA: np.ndarray  # int64, tokens of each candidate
    item_D: np.ndarray  # int64, the item that each document of the run inserts
    forms: int = 1  # rows of each item

    @property
    def count(self) -> int:
        """K, the number of items."""
        return len(self.padding_R) // self.forms

    def of_documents(self, exposures_D: np.ndarray) -> np.ndarray:
        """Return the exposures of each item, int64 [K], from those of the documents of a run."""
        own = self.item_D[: len(exposures_D)]
        counts = np.bincount(own, exposures_D[: len(own)], minlength=self.count)
        return np.rint(counts).astype(np.int64)

    @classmethod
    def build(
        cls,
        contexts: Sequence[Sequence[int]],
        candidates: Sequence[Sequence[Sequence[int]]],
        item_of_document: Sequence[int],
        pad: int,
        forms: int = 1,
    ) -> Items:
        """Return items from the ids of R contexts and of A candidates for each."""
        R, A = len(contexts), len(candidates[0]) if candidates else 1
        T = max(map(len, contexts), default=0)
        C = max((len(ids) for own in candidates for ids in own), default=0)
        left = [[pad] * (T - len(ids)) + list(ids) for ids in contexts]
        right = [[[*ids, *[pad] * (C - len(ids))] for ids in own] for own in candidates]
        return cls(
            context_RxT=np.array(left, np.int32).reshape(R, T),
            padding_R=np.array([T - len(ids) for ids in contexts], np.int32),
            candidate_RxAxC=np.array(right, np.int32).reshape(R, A, C),
            length_RxA=np.array([list(map(len, own)) for own in candidates], np.int64).reshape(
                R, A
            ),
            item_D=np.array(item_of_document, np.int64),
            forms=forms,
        )
