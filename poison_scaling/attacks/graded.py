"""The base class of insertions whose items are shown different numbers of times in one run."""

from __future__ import annotations

import dataclasses

import numpy as np

from poison_scaling.attacks.insertion import Insertion
from poison_scaling.config.ranges import Dose
from poison_scaling.runtime.errors import InputError


@dataclasses.dataclass(frozen=True)
class Graded(Insertion):
    """Item k is shown `counts[k % len(counts)]` times, so one run has a whole dose-response curve."""

    counts: tuple[Dose, ...] = (1, 2, 4, 8, 16, 32, 64)  # exposures of items, in turn

    def check(self, where: str) -> None:
        super().check(where)
        if not self.counts:
            raise InputError(f"{where}.counts: it is empty; name at least one number of exposures.")

    def repeats(self, count: int) -> np.ndarray:
        return np.resize(np.array(self.counts, np.int64), count)
