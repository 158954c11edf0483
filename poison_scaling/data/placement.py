"""Which row of training, and where in it, each poisoned document takes.

A row here is a row of the training stream: row i is row i % batch_rows of step i // batch_rows. The row
of poison k is a pure function of (seed, number of rows, schedule, k), and its offset of these and of its
length. It does not depend on the dose, so poisons 0...n-1 are the same in every dose of at least n.

NumPy only.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from poison_scaling.config import Uniform
from poison_scaling.data import draws
from poison_scaling.errors import InputError


@dataclasses.dataclass(frozen=True)
class Placement:
    """Positions of N poisons, in order of their number k."""

    rows_N: np.ndarray  # int64, row of the training stream; no two alike
    offsets_N: np.ndarray  # int64, first token of the poison in its row
    lengths_N: np.ndarray  # int64, tokens it takes, separators included

    def seen(self, rows: int) -> tuple[int, int]:
        """Poisoned documents, and their tokens, within the first `rows` rows."""
        seen_N = self.rows_N < rows
        return int(seen_N.sum()), int(self.lengths_N[seen_N].sum())

    def poisoned_steps(self, rows: int, batch_rows: int) -> int:
        """Steps with a poison in them, within the first `rows` rows."""
        return np.unique(self.rows_N[self.rows_N < rows] // batch_rows).size


def place(
    schedule: Uniform, seed: int, rows: int, row_tokens: int, lengths: np.ndarray
) -> Placement:
    """Positions of the poisons 0...N-1, whose lengths in tokens are `lengths` [N].

    Each poison has a row of its own and lies in it whole. Raises InputError when there are more poisons
    than rows, or a poison is longer than a row.
    """
    assert isinstance(schedule, Uniform), schedule
    lengths = np.asarray(lengths, np.int64)
    if lengths.size > rows:
        raise InputError(
            f"doses: {lengths.size} poisoned documents do not fit into the {rows} rows of training, "
            "one a row; lower the dose or train on more tokens."
        )
    if lengths.size and lengths.max() > row_tokens:
        k = int(lengths.argmax())
        raise InputError(
            f"attack: poison {k} has {lengths[k]} tokens, and a row data.row_tokens={row_tokens}; "
            "shorten prefix_characters or gibberish_tokens, or lengthen the row."
        )
    k = np.arange(lengths.size)
    rows_N = draws.Permutation(rows, draws.key(seed, "poison rows", rows))(k)
    room_N = row_tokens - lengths + 1
    fractions_N = draws.fractions(draws.key(seed, "poison offsets", rows), k)
    offsets_N = np.floor(fractions_N * room_N).astype(np.int64)
    return Placement(rows_N, offsets_N, lengths)
