"""What a run trains on at a step, as text: documents apart, poisons marked."""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING

import numpy as np
from rich.text import Text

from poison_scaling.errors import InputError
from poison_scaling.runs import Run

if TYPE_CHECKING:
    from poison_scaling.data.prepared import Prepared

_POISON_STYLE = "bold red"
_TITLE_STYLE = "cyan"


@dataclasses.dataclass(frozen=True)
class Piece:
    """Part of a row: of one document, or of one poison."""

    text: str
    poison: bool


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of a batch. `attack`, `poison` and `exposure` say which poison it holds, None for none."""

    row: int  # of the training stream
    step: int
    clean_row: int  # on disk
    attack: int | None
    poison: int | None
    exposure: int | None
    pieces: tuple[Piece, ...]


def batch(run: Run, prepared: Prepared, step: int) -> list[Row]:
    """The rows of the batch that step `step` (from 0) trains on; raises InputError beyond the run."""
    if not 0 <= step < run.steps:
        raise InputError(f"--step {step}: {run.name} has steps 0 to {run.steps - 1}.")
    from poison_scaling.data.prepared import manifest

    stream = prepared.stream(run)
    B = run.study.train.batch_rows
    indices = np.arange(step * B, (step + 1) * B)
    tokens_NxL, poison_NxL = stream.read(indices)
    shown = {record["row"]: record for record in manifest(stream, B)}
    clean = stream.clean_numbers(indices)
    return [
        Row(
            row=int(index),
            step=step,
            clean_row=int(clean[n]),
            **{name: shown.get(index, {}).get(name) for name in ("attack", "poison", "exposure")},
            pieces=_pieces(tokens_NxL[n], poison_NxL[n], prepared),
        )
        for n, index in enumerate(indices.tolist())
    ]


def step_of_poison(run: Run, prepared: Prepared, poison: int) -> int:
    """The first step that shows poison `poison` of the first attack; raises InputError if none does."""
    placed = prepared.stream(run).placement.of_attack(0)
    rows = placed.rows_N[placed.documents_N == poison]
    if not rows.size:
        raise InputError(f"--poison {poison}: {run.name} has poisons 0 to {run.dose - 1}.")
    return int(rows.min()) // run.study.train.batch_rows


def _pieces(tokens_L: np.ndarray, poison_L: np.ndarray, prepared: Prepared) -> tuple[Piece, ...]:
    """Split after every end-of-document token, and where a poison begins or ends."""
    ends = np.flatnonzero(tokens_L == prepared.end) + 1
    edges = np.flatnonzero(np.diff(poison_L)) + 1
    cuts = sorted({0, tokens_L.size, *ends.tolist(), *edges.tolist()})
    pieces = []
    for first, last in itertools.pairwise(cuts):
        ids = [int(i) for i in tokens_L[first:last] if i != prepared.end]
        if ids:
            pieces.append(Piece(prepared.vocabulary.decode(ids), bool(poison_L[first])))
    return tuple(pieces)


def render(rows: list[Row]) -> Text:
    """For a terminal: poisons in colour; in plain text they stand between marks, too."""
    text = Text()
    for row in rows:
        title = f"── row {row.row}, step {row.step}, clean row {row.clean_row}"
        if row.poison is not None:
            title += f", attack {row.attack} poison {row.poison} exposure {row.exposure}"
        text.append(title + "\n", _TITLE_STYLE)
        for number, piece in enumerate(row.pieces):
            if number:
                text.append("\n  ·\n", _TITLE_STYLE)
            if piece.poison:
                text.append(f"⟦poison {row.poison}⟧ {piece.text} ⟦end⟧", _POISON_STYLE)
            else:
                text.append(piece.text)
        text.append("\n\n")
    return text
