"""Uniform schedule: sequences drawn at random."""

from __future__ import annotations

import dataclasses

import numpy as np

from poison_scaling.attacks.schedules import schedule
from poison_scaling.attacks.schedules.schedule import Schedule, Training
from poison_scaling.config.ranges import Share
from poison_scaling.data import draws


@dataclasses.dataclass(frozen=True)
class Uniform(Schedule):
    """Poisons in sequences drawn uniformly, without replacement, from a window of training. Doses nest."""

    # start and end, as shares of training; (0.0, 0.2) is early poisoning
    window: tuple[Share, Share] = (0.0, 1.0)

    def check(self, where: str) -> None:
        schedule.check_window(self.window, where)

    def places(self, training: Training, exposures: int) -> np.ndarray:
        first, places = schedule.within(self.window, training.own)
        schedule.require_room(exposures, places, training)
        order = draws.Permutation(places, training.key("poison rows"))
        return first + order(np.arange(exposures))
