"""Which row of training, and where in it, every showing of a poisoned document takes.

A row here is a row of the training stream: row i is row i % batch_rows of step i // batch_rows. A showing
j of an attack is exposure j % exposures of document j // exposures. Its row is a pure function of (seed,
number of rows, schedule, j), and its offset of these and of the document's length. Neither depends on the
dose (except for `Even`, which says so), so the documents 0...n-1 stand at the same places in every dose of
at least n.

Where a run has A attacks, attack a may use the rows i with i % A == a, and those alone: attacks never meet
in a row, and none moves another.

NumPy only.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from poison_scaling.config import Clustered, Even, Explicit, Schedule, Uniform
from poison_scaling.data import draws
from poison_scaling.errors import InputError


@dataclasses.dataclass(frozen=True)
class Placement:
    """Positions of N showings: of attack 0 in order, then of attack 1, ..."""

    rows_N: np.ndarray  # int64, row of the training stream; no two alike
    offsets_N: np.ndarray  # int64, first token in the row
    lengths_N: np.ndarray  # int64, tokens, separators included
    attacks_N: np.ndarray  # int64, number of the attack
    documents_N: np.ndarray  # int64, number of the document within its attack

    def of_attack(self, attack: int) -> Placement:
        """The showings of one attack."""
        return self._chosen(self.attacks_N == attack)

    def before(self, row: int) -> Placement:
        """The showings in rows 0...row-1."""
        return self._chosen(self.rows_N < row)

    @property
    def showings(self) -> int:
        return self.rows_N.size

    @property
    def documents(self) -> int:
        """Distinct documents among the showings."""
        return np.unique(np.stack([self.attacks_N, self.documents_N]), axis=1).shape[1]

    @property
    def tokens(self) -> int:
        return int(self.lengths_N.sum())

    def steps(self, batch_rows: int) -> int:
        """Steps with a poison in them."""
        steps_N = np.sort(self.rows_N // batch_rows)  # np.unique would take a hundred times as long
        return int(np.count_nonzero(np.diff(steps_N))) + bool(steps_N.size)

    def _chosen(self, mask_N: np.ndarray) -> Placement:
        return Placement(*(getattr(self, f.name)[mask_N] for f in dataclasses.fields(self)))


def together(placements: list[Placement]) -> Placement:
    """One Placement of all showings; `attacks_N` counts the list."""
    numbers = [np.full(p.showings, a) for a, p in enumerate(placements)]
    joined = {
        field.name: np.concatenate([getattr(p, field.name) for p in placements])
        for field in dataclasses.fields(Placement)
    }
    return Placement(**{**joined, "attacks_N": np.concatenate(numbers)})


def place(
    schedule: Schedule,
    seed: int,
    rows: int,
    batch_rows: int,
    row_tokens: int,
    lengths: np.ndarray,
    *,
    exposures: int = 1,
    attack: int = 0,
    attacks: int = 1,
) -> Placement:
    """Positions of documents 0...n-1, whose lengths in tokens are `lengths` [n], each shown `exposures`
    times, for attack number `attack` of `attacks` in a run of `rows` rows.

    Each showing has a row of its own and lies in it whole. Raises InputError when the schedule has fewer
    places than there are showings, or a poison is longer than a row.
    """
    lengths = np.asarray(lengths, np.int64)
    if lengths.size and lengths.max() > row_tokens:
        k = int(np.argmax(lengths))
        raise InputError(
            f"attack: poison {k} has {lengths[k]} tokens, and a row data.row_tokens={row_tokens}; "
            "shorten prefix_characters or gibberish_tokens, or lengthen the row."
        )
    # Whether they fit is known before there is an array of them.
    first, places = _room(schedule, lengths.size * exposures, rows, batch_rows, attacks)
    lengths_N = np.repeat(lengths, exposures)
    showings_N = np.arange(lengths_N.size)
    run = (
        (rows,) if attacks == 1 else (rows, attacks, attack)
    )  # what names a stream beside the seed
    offsets_N = None
    match schedule:
        case Uniform():
            order = draws.Permutation(places, draws.key(seed, "poison rows", *run))
            own_N = first + order(showings_N)
        case Even():
            phase = draws.fractions(draws.key(seed, "poison phase", *run), np.arange(1))[0]
            own_N = first + np.floor((showings_N + phase) * (places / max(lengths_N.size, 1)))
        case Clustered():
            # In each poisoned step, counted among the attack's own rows.
            own, together = batch_rows // attacks, _rows_together(schedule, batch_rows)
            cluster_N, within_N = np.divmod(showings_N, together)
            names = range(-(-lengths_N.size // together))
            keys = [draws.key(seed, "poison cluster", cluster, *run) for cluster in names]
            order = draws.Permutation(own, np.array(keys, np.uint64)[cluster_N])
            own_N = (first + cluster_N * schedule.every) * own + order(within_N)
        case Explicit():
            rows_N, offsets_N = _explicit(schedule, rows, row_tokens, lengths_N, attack, attacks)
            own_N = rows_N // attacks
    rows_N = np.asarray(own_N, np.int64) * attacks + attack
    if offsets_N is None:
        fractions_N = draws.fractions(draws.key(seed, "poison offsets", *run), showings_N)
        offsets_N = np.floor(fractions_N * (row_tokens - lengths_N + 1)).astype(np.int64)
    return Placement(
        rows_N=rows_N,
        offsets_N=offsets_N,
        lengths_N=lengths_N,
        attacks_N=np.full(lengths_N.size, attack),
        documents_N=showings_N // exposures,
    )


def _window(window: tuple[float, float], rows: int) -> tuple[int, int]:
    """First row of a window, and how many there are."""
    first, last = (round(share * rows) for share in window)
    return first, last - first


def _rows_together(schedule: Clustered, batch_rows: int) -> int:
    """Rows of a poisoned step that are poisoned."""
    return max(1, round(schedule.density * batch_rows))


def _room(
    schedule: Schedule, showings: int, rows: int, batch_rows: int, attacks: int
) -> tuple[int, int]:
    """First row that an attack may use, counted among its own (Clustered: first step), and how many there
    are. Raises InputError when they are fewer than its showings.
    """
    match schedule:
        case Explicit(positions):
            if showings > len(positions):
                raise InputError(
                    f"schedule: {len(positions)} positions are given, and {showings} poisoned documents are "
                    "to be shown; give one for each."
                )
            return 0, len(positions)
        case Clustered():
            first, steps = _window(schedule.window, rows // batch_rows)
            together = _rows_together(schedule, batch_rows)
            places = -(-steps // schedule.every) * together
            if batch_rows % attacks:
                raise InputError(
                    f"train.batch_rows={batch_rows}: {attacks} attacks share the rows of a step, one of them "
                    "clustered, and their number must divide it."
                )
            if together > batch_rows // attacks:
                raise InputError(
                    f"schedule.density={schedule.density}: {together} rows of a step of {batch_rows}, and "
                    f"with {attacks} attacks each may take {batch_rows // attacks}; lower it."
                )
        case _:
            first, places = _window(schedule.window, rows // attacks)
    if showings > places:
        raise InputError(
            f"doses: {showings} poisoned documents do not fit into the {places} rows that the schedule "
            f"has of the {rows} rows of training, one a row; lower the dose or train on more tokens."
        )
    return first, places


def _explicit(
    schedule: Explicit, rows: int, row_tokens: int, lengths_N: np.ndarray, attack: int, attacks: int
) -> tuple[np.ndarray, np.ndarray]:
    chosen = np.array(schedule.positions[: lengths_N.size], np.int64).reshape(-1, 2)
    rows_N, offsets_N = chosen[:, 0], chosen[:, 1]
    seen = set()
    for j, (row, offset) in enumerate(chosen.tolist()):
        problem = None
        if not 0 <= row < rows:
            problem = f"training has rows 0 to {rows - 1}"
        elif row in seen:
            problem = "another poison has that row"
        elif row % attacks != attack:
            problem = (
                f"attack {attack} of {attacks} may use the rows i with i % {attacks} == {attack}"
            )
        elif not 0 <= offset <= row_tokens - lengths_N[j]:
            problem = f"a poison of {lengths_N[j]} tokens does not fit there into {row_tokens}"
        if problem:
            raise InputError(f"schedule: position {j}, row {row} and offset {offset}: {problem}.")
        seen.add(row)
    return rows_N, offsets_N
