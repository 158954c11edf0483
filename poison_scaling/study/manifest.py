"""The manifest of a run: one record for each exposure of a poisoned document."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from poison_scaling.data.stream import Stream


class Exposure(TypedDict):
    """A line of manifest.jsonl. Indices count from 0."""

    attack: int
    poison: int  # index of the document within the attack
    exposure: int  # index of the exposure to that document
    document: str  # SHA-256 of its token ids
    tokens: int
    sequence: int  # index in the training stream
    offset: int  # of its first token within the sequence
    step: int
    # SHA-256 of the clean documents that it is made of, if the attack records them
    sources: NotRequired[list[str]]


def exposures(stream: Stream, batch_size: int) -> list[Exposure]:
    """Return a record for each exposure, in the order of `stream.placement`."""
    placed = stream.placement
    so_far: dict[tuple[int, int], int] = {}  # exposures of each document
    found: list[Exposure] = []
    for number in range(placed.exposures):
        attack, document = int(placed.attack_N[number]), int(placed.document_N[number])
        exposure = so_far.get((attack, document), 0)
        so_far[attack, document] = exposure + 1
        sequence, poison = int(placed.sequence_N[number]), stream.poison(number)
        record: Exposure = {
            "attack": attack,
            "poison": document,
            "exposure": exposure,
            "document": poison.digest,
            "tokens": int(poison.tokens.size),
            "sequence": sequence,
            "offset": int(placed.offset_N[number]),
            "step": sequence // batch_size,
        }
        if poison.sources:
            record["sources"] = list(poison.sources)
        found.append(record)
    return found
