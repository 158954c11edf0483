"""Placement of an attack's exposures by its schedule: the sequence and offset of each.

Exposures are numbered document by document. The sequence of exposure j of an insertion is a pure function
of (seed, number of sequences, schedule, j), and its offset also of the document's length (contract 1). For
schedules whose doses nest, documents 0...n-1 have the same positions in every dose of at least n (contract
3).
"""

from __future__ import annotations

import numpy as np

from poison_scaling.attacks.schedules.schedule import Schedule, Training
from poison_scaling.data.placement import Placement
from poison_scaling.runtime.errors import InputError


def place(
    schedule: Schedule, training: Training, lengths: np.ndarray, *, exposures: int | np.ndarray = 1
) -> Placement:
    """Return the placement of documents 0...n-1, of `lengths` [n] tokens.

    Each document has `exposures` exposures, an integer or one for each document, and each exposure is
    contained in its own sequence. Raises InputError if the schedule has fewer places than there are
    exposures, or if a poison is longer than a sequence.
    """
    lengths = np.asarray(lengths, np.int64)
    if lengths.size and lengths.max() > training.seq_len:
        k = int(np.argmax(lengths))
        raise InputError(
            f"attack: poison {k} has {lengths[k]} tokens, and a sequence data.seq_len={training.seq_len}; "
            "shorten prefix_characters or gibberish_tokens, or lengthen the sequence."
        )
    # First, so that too many exposures are refused before arrays of them are allocated.
    exposures_D = np.broadcast_to(np.asarray(exposures, np.int64), lengths.shape)
    own_N = np.asarray(schedule.places(training, int(exposures_D.sum())), np.int64)
    lengths_N = np.repeat(lengths, exposures_D)
    offsets_N = np.asarray(schedule.offsets(training, lengths_N), np.int64)
    _check(schedule, training, own_N, offsets_N, lengths_N)
    return Placement(
        sequence_N=own_N * training.attacks + training.attack,
        offset_N=offsets_N,
        length_N=lengths_N,
        attack_N=np.full(lengths_N.size, training.attack),
        document_N=np.repeat(np.arange(lengths.size), exposures_D),
    )


def _check(
    schedule: Schedule,
    training: Training,
    own_N: np.ndarray,
    offsets_N: np.ndarray,
    lengths_N: np.ndarray,
) -> None:
    """Raise InputError if a schedule, which may be the user's own, returned invalid positions."""
    name, N = type(schedule).__name__, lengths_N.size
    if own_N.shape != (N,) or offsets_N.shape != (N,):
        raise InputError(
            f"schedule: {name} gives {own_N.size} places and {offsets_N.size} offsets for {N} exposures."
        )
    last = training.attacks * own_N.max() + training.attack if N else 0
    if N and not (own_N.min() >= 0 and last < training.sequences):
        raise InputError(f"schedule: {name} gives a place outside 0 to {training.own - 1}.")
    if np.unique(own_N).size < N:
        raise InputError(f"schedule: {name} gives two exposures one sequence.")
    if N and not (offsets_N.min() >= 0 and (offsets_N + lengths_N).max() <= training.seq_len):
        raise InputError(f"schedule: {name} gives an offset at which a poison does not fit.")
