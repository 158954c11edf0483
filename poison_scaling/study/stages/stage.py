"""The base class of stages: what is trained after pretraining, or after another stage."""

from __future__ import annotations

import dataclasses
from typing import Literal

from poison_scaling.attacks.insertion import Insertion
from poison_scaling.attacks.schedules.schedule import Schedule
from poison_scaling.attacks.schedules.uniform import Uniform
from poison_scaling.config.ranges import Count, Dose
from poison_scaling.data.settings import Data
from poison_scaling.data.templates.template import Template
from poison_scaling.study.training import Train


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """A stage begins with the parameters of its parent; its steps, counters and schedules begin at 0."""

    # keep: the moments of the parent, and the peak learning rate at once. reset: moments of 0, and the peak
    # learning rate at once. rewarm: moments of 0, and the warm-up of `train`
    optimizer: Literal["keep", "reset", "rewarm"]
    label: str = ""  # in names of runs and in tables; empty: it follows from the settings
    doses: tuple[Dose, ...] = (0,)  # distinct poisoned documents of `attack`; 0 is the control
    attack: Insertion | None = None  # None: the study's
    exposures: Count = 1  # of each poisoned document, each at another place
    schedule: Schedule = Uniform()
    train: Train | None = None  # None: the study's

    @property
    def name(self) -> str:
        """The label, or what stands for it."""
        return self.label or self.default_label

    # ------------------------------------------------------------------------------- of each kind

    @property
    def default_label(self) -> str:
        """The label that follows from the settings."""
        raise NotImplementedError

    @property
    def conversation_template(self) -> Template | None:
        """The template of the conversations that the stage trains on; None if it trains on plain text."""
        return None

    def data(self, data: Data) -> Data:
        """Return the study's `data` as this stage reads it."""
        return data


@dataclasses.dataclass(frozen=True)
class Leg:
    """A part of the path of a run: a stage at one of its doses."""

    stage: Stage
    dose: int
    # that the examples of a Finetune fill; None until they are tokenised
    packed_sequences: int | None = None

    @property
    def name(self) -> str:
        """The part of a run's name: "ft1000-d50"."""
        return f"{self.stage.name}-d{self.dose}"
