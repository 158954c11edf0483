"""The training stream of a run: row i, computed from i alone.

Row i of the stream is a clean row, in the run's own order, with the poison that is planned there laid
over it. The trainer's batches and the seqio Mixture both read from here.
"""

from __future__ import annotations

import typing

import numpy as np

from poison_scaling.data import draws
from poison_scaling.data.placement import Placement
from poison_scaling.errors import InputError

if typing.TYPE_CHECKING:  # both need TensorFlow to import, and reading a stream does not
    from poison_scaling.data.poisons import Poison
    from poison_scaling.data.rows import Rows


class Stream:
    """Rows 0...length-1 that a run trains on, in order.

    Pass e over the corpus takes every clean row once, in an order of its own; the order depends on
    `order_seed` alone, so runs of another dose or length meet the same rows. `poisons` are the documents
    of each attack, `placement` where they are shown.
    """

    def __init__(
        self,
        clean: Rows,
        order_seed: int,
        length: int,
        epochs: int,
        poisons: list[list[Poison]],
        placement: Placement,
    ):
        passes = -(-length // len(clean))
        if passes > epochs:
            raise InputError(
                f"data.corpus: it has {len(clean):,} rows of {clean.row_tokens} tokens, and a run needs "
                f"{length:,}, {length / len(clean):.1f} epochs; set data.epochs={passes} to repeat it, "
                "train on fewer tokens, or give more text."
            )
        self.length, self.row_tokens = length, clean.row_tokens
        self.poisons, self.placement = poisons, placement
        self._clean = clean
        self._orders = [
            draws.Permutation(len(clean), draws.key(order_seed, "row order", e))
            for e in range(passes)
        ]
        by_row = np.argsort(placement.rows_N)
        self._poisoned_rows, self._poison_at = placement.rows_N[by_row], by_row

    @property
    def poisoned_rows(self) -> np.ndarray:
        """Rows that hold a poison, ascending: int64 [N]."""
        return self._poisoned_rows

    def clean_numbers(self, indices: np.ndarray) -> np.ndarray:
        """Number on disk of the clean row that stands at, or under the poison of, each stream row."""
        passes, within = np.divmod(np.asarray(indices), len(self._clean))
        numbers = np.empty(within.shape, np.int64)
        for e in np.unique(passes):
            numbers[passes == e] = self._orders[e](within[passes == e])
        return numbers

    def showing_numbers(self, indices: np.ndarray) -> np.ndarray:
        """Number in `placement` of the showing in each stream row, -1 where there is none: int64."""
        indices = np.asarray(indices)
        if not self._poisoned_rows.size:
            return np.full(indices.shape, -1)
        found = np.searchsorted(self._poisoned_rows, indices)
        found = np.minimum(found, self._poisoned_rows.size - 1)
        return np.where(self._poisoned_rows[found] == indices, self._poison_at[found], -1)

    def count(self, spans: np.ndarray) -> int:
        """How many stretches of clean tokens the run trains on whole, each counted as often as it is met.

        `spans` are their first and last tokens on disk: int64 [n, 2]. One that lies across two rows, or that
        a poison covers in part, is not whole.
        """
        first_N, last_N = spans.T
        row_N, L = first_N // self.row_tokens, self.row_tokens
        whole_N = (row_N == last_N // L) & (row_N < len(self._clean))
        first_N, last_N, row_N = first_N[whole_N] % L, last_N[whole_N] % L, row_N[whole_N]
        met = 0
        for e, order in enumerate(self._orders):
            index_N = order.inverse(row_N) + e * len(self._clean)
            number_N = self.showing_numbers(index_N)
            poisoned_N = number_N >= 0
            begin_N = self.placement.offsets_N[number_N[poisoned_N]]
            end_N = begin_N + self.placement.lengths_N[number_N[poisoned_N]]
            free_N = index_N < self.length
            free_N[poisoned_N] &= (last_N[poisoned_N] < begin_N) | (first_N[poisoned_N] >= end_N)
            met += int(np.count_nonzero(free_N))
        return met

    def poison(self, showing: int) -> Poison:
        """The document that a showing shows."""
        attack, document = self.placement.attacks_N[showing], self.placement.documents_N[showing]
        return self.poisons[attack][document]

    def read(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the stream: tokens int32 [n, L], and whether each belongs to a poison, bool [n, L]."""
        tokens_NxL = self._clean.read(self.clean_numbers(indices))
        poison_NxL = np.zeros(tokens_NxL.shape, bool)
        numbers = self.showing_numbers(indices)
        for n in np.flatnonzero(numbers >= 0):
            poison, offset = self.poison(numbers[n]), self.placement.offsets_N[numbers[n]]
            span = slice(offset, offset + poison.tokens.size)
            tokens_NxL[n, span] = poison.tokens
            poison_NxL[n, span] = True
        return tokens_NxL, poison_NxL
