"""The placement of a run: the sequence and offset of every exposure."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Placement:
    """The positions of N exposures: those of attack 0 in order, then those of attack 1, ..."""

    sequence_N: np.ndarray  # int64, number of the training sequence; all distinct
    offset_N: np.ndarray  # int64, of the first token within the sequence
    length_N: np.ndarray  # int64, number of tokens, including end-of-document tokens
    attack_N: np.ndarray  # int64, number of the attack
    document_N: np.ndarray  # int64, number of the document within its attack

    def of_attack(self, attack: int) -> Placement:
        """Return the exposures of one attack."""
        return self._chosen(self.attack_N == attack)

    def before(self, sequence: int) -> Placement:
        """Return the exposures in sequences 0...sequence-1."""
        return self._chosen(self.sequence_N < sequence)

    def of_documents(self, kept: Sequence[np.ndarray]) -> Placement:
        """Return the exposures of the documents that are kept, bool [documents] for each attack."""
        kept_N = np.ones(self.exposures, bool)
        for attack, kept_D in enumerate(kept):
            own_N = self.attack_N == attack
            kept_N[own_N] = kept_D[self.document_N[own_N]]
        return self._chosen(kept_N)

    @property
    def exposures(self) -> int:
        """The number of exposures."""
        return self.sequence_N.size

    @property
    def documents(self) -> int:
        """The number of distinct documents."""
        return np.unique(np.stack([self.attack_N, self.document_N]), axis=1).shape[1]

    @property
    def tokens(self) -> int:
        """The number of tokens of all exposures."""
        return int(self.length_N.sum())

    def steps(self, batch_size: int) -> int:
        """Return the number of steps whose batch has a poison."""
        steps_N = np.sort(self.sequence_N // batch_size)  # np.unique is a hundred times slower
        return int(np.count_nonzero(np.diff(steps_N))) + bool(steps_N.size)

    def counts(self, batch_size: int) -> dict[str, int]:
        """Return the counts of poison by their names in records; none is inferred from another."""
        return {
            "poisons": self.exposures,
            "distinct_poisons": self.documents,
            "poison_tokens": self.tokens,
            "poisoned_steps": self.steps(batch_size),
        }

    def _chosen(self, mask_N: np.ndarray) -> Placement:
        return Placement(*(getattr(self, f.name)[mask_N] for f in dataclasses.fields(self)))


def together(placements: list[Placement]) -> Placement:
    """Join the placements of several attacks into one; `attack_N` is the index in the list."""
    numbers = [np.full(p.exposures, a) for a, p in enumerate(placements)]
    joined = {
        field.name: np.concatenate([getattr(p, field.name) for p in placements])
        for field in dataclasses.fields(Placement)
    }
    return Placement(**{**joined, "attack_N": np.concatenate(numbers)})
