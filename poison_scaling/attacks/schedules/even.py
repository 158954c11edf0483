"""Even schedule: evenly spaced sequences."""

from __future__ import annotations

import dataclasses

import numpy as np

from poison_scaling.attacks.schedules import schedule
from poison_scaling.attacks.schedules.schedule import Schedule, Training
from poison_scaling.config.ranges import Share
from poison_scaling.data import draws


@dataclasses.dataclass(frozen=True)
class Even(Schedule):
    """Evenly spaced poisons. Doses do not nest: every position depends on the number of exposures."""

    window: tuple[Share, Share] = (0.0, 1.0)  # start and end, as shares of training

    def check(self, where: str) -> None:
        schedule.check_window(self.window, where)

    def places(self, training: Training, exposures: int) -> np.ndarray:
        first, places = schedule.within(self.window, training.own)
        schedule.require_room(exposures, places, training)
        phase = draws.fractions(training.key("poison phase"), np.arange(1))[0]
        distance = places / max(exposures, 1)
        return first + np.floor((np.arange(exposures) + phase) * distance).astype(np.int64)
