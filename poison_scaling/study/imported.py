"""The model that a study's only run stands for, if it was trained elsewhere and imported."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Imported:
    """An imported model; its `digest` stands for the weights in hashes.

    `digest` is the SHA-256 of the names, types, shapes and values of all tensors, so it depends neither on
    how they are split into files nor on where these lie.
    """

    digest: str
    source: str  # name of the folder or file that it was imported from
    license: str | None = None  # as its files state it
