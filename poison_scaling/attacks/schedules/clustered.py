"""Clustered schedule: several poisons in one batch, every few steps."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import numpy as np

from poison_scaling.attacks.schedules import schedule
from poison_scaling.attacks.schedules.schedule import Schedule, Training
from poison_scaling.config.ranges import Above, AtMost, Count, Share
from poison_scaling.data import draws
from poison_scaling.runtime.errors import InputError


@dataclasses.dataclass(frozen=True)
class Clustered(Schedule):
    """Poisons in a share of every k-th batch until all are placed: Souly et al. 2025 on Pythia.

    Doses nest; poisoning with a smaller dose ends earlier.
    """

    # share of a poisoned batch's sequences, rounded to a number of sequences of at least one
    density: Annotated[float, Above(0), AtMost(1)] = 0.5
    every: Count = 10  # steps from one poisoned batch to the next
    window: tuple[Share, Share] = (0.0, 1.0)  # start and end, as shares of training

    def check(self, where: str) -> None:
        schedule.check_window(self.window, where)

    def places(self, training: Training, exposures: int) -> np.ndarray:
        B, attacks = training.batch_size, training.attacks
        own, together = B // attacks, max(1, round(self.density * B))  # sequences of a batch
        if B % attacks:
            raise InputError(
                f"train.batch_size={B}: {attacks} attacks share the sequences of a batch, one of them "
                "clustered, so their number must divide it."
            )
        if together > own:
            raise InputError(
                f"schedule.density={self.density}: that is {together} sequences of a batch of {B}, and with "
                f"{attacks} attacks each may take {own}; lower it."
            )
        first, steps = schedule.within(self.window, training.steps)
        clusters = -(-steps // self.every)
        schedule.require_room(exposures, clusters * together, training)
        cluster_N, within_N = np.divmod(np.arange(exposures), together)
        used = range(-(-exposures // together))
        keys = [training.key("poison cluster", cluster) for cluster in used]
        order = draws.Permutation(own, np.array(keys, np.uint64)[cluster_N])
        return (first + cluster_N * self.every) * own + order(within_N)
