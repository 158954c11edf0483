"""A run: one model of a study, with its settings, plan and cost, which are known before training."""

from __future__ import annotations

import dataclasses
from typing import NotRequired, TypedDict

import numpy as np

from poison_scaling.attacks.placing import place
from poison_scaling.attacks.schedules.schedule import Training
from poison_scaling.config import serialization
from poison_scaling.data import placement
from poison_scaling.data.placement import Placement
from poison_scaling.runtime import chips
from poison_scaling.runtime.errors import InputError
from poison_scaling.study.settings import Poisoning, Rung, Seeds, Slice, Study


class Dose(TypedDict):
    """The part of a plan about one attack."""

    dose: int  # distinct documents
    exposures: int  # of each document
    schedule: str
    attack: str
    poison_tokens: float  # an estimate unless exact
    poison_tokens_exact: bool
    poison_share: float  # of the run's tokens
    poisoned_steps: int
    clean_triggers: NotRequired[int]  # ambient triggers trained on; known once the data is prepared


class Plan(Dose):
    """A run in `plan --json` and study.json; the fields of Dose are those of the first attack."""

    run: str
    hash: str
    size: str
    parameters: int
    tokens: int
    tokens_per_parameter: float
    steps: int
    evaluation_steps: list[int]
    batch_size: int
    seq_len: int
    sequences: int
    seed: str
    seeds: dict[str, int]
    also: list[Dose]
    flops: float
    learning_rate: float


@dataclasses.dataclass(frozen=True)
class Run:
    """One model: a rung of the ladder, a dose and seeds."""

    study: Study
    rung: Rung
    dose: int
    seeds: Seeds

    @property
    def name(self) -> str:
        """The name of the run and its folder: size, tokens per parameter, dose, seed."""
        return f"{self.rung.label}-d{self.dose}-s{self.seeds.label}"

    @property
    def control(self) -> Run:
        """The run with dose 0 and otherwise the same settings and seeds."""
        return dataclasses.replace(self, dose=0)

    @property
    def hash(self) -> str:
        """A hash of everything that the result depends on, which excludes the machine and other runs."""
        return serialization.stable_hash(tuple(self.settings().values()))

    def settings(self) -> dict:
        """Return everything that the result depends on, by name."""
        names = (
            *("data", "attack", "exposures", "schedule", "also"),
            *("model", "train", "evaluation"),
        )
        own = {"rung": self.rung, "dose": self.dose, "seeds": self.seeds}
        return {**own, **{name: getattr(self.study, name) for name in names}}

    @property
    def parameters(self) -> int:
        """The number of trained parameters, embeddings included."""
        architecture, vocabulary = self.study.model.architecture, self.study.data.vocabulary
        return architecture.parameters(self.rung.size, vocabulary.vocab_size)

    @property
    def steps(self) -> int:
        """The number of optimizer updates."""
        tokens = self.rung.tokens_per_parameter * self.parameters
        return max(1, round(tokens / (self.study.train.batch_size * self.study.data.seq_len)))

    @property
    def sequences(self) -> int:
        """The number of sequences trained on."""
        return self.steps * self.study.train.batch_size

    @property
    def tokens(self) -> int:
        """The number of tokens trained on."""
        return self.sequences * self.study.data.seq_len

    @property
    def learning_rate(self) -> float:
        """The peak learning rate."""
        rung, train = self.rung, self.study.train
        return train.learning_rate if rung.learning_rate is None else rung.learning_rate

    @property
    def evaluation_steps(self) -> list[int]:
        """The steps after which the run is evaluated, ascending; the last is the end of the run."""
        times = self.study.evaluation.times
        return sorted({round(self.steps * i / times) for i in range(1, times + 1)} - {0})

    @property
    def flops(self) -> float:
        """The FLOPs of training, as `Architecture.train_flops_per_token` defines them."""
        data, architecture = self.study.data, self.study.model.architecture
        per_token = architecture.train_flops_per_token(
            self.rung.size, data.vocabulary.vocab_size, data.seq_len
        )
        return float(self.tokens) * per_token

    @property
    def poisonings(self) -> tuple[Poisoning, ...]:
        """All attacks of the run; the first one has its dose."""
        return self.study.poisonings(self.dose)

    def slice(self) -> Slice | None:
        """Return the TPU slice that the study names for this size; None if there is none."""
        return next((s for s in self.study.machine.slices if s.size == self.rung.size), None)

    def days(self, on: Slice) -> float:
        """Return the predicted wall time of training on a slice, at the study's `machine.mfu`."""
        chip, shape = chips.parse(on.topology)
        return self.hours(chip.flops * chips.count(shape) * on.count) / 24

    def hours(self, peak: float) -> float:
        """Return the predicted wall time of training on machines of this peak, FLOP/s, at `machine.mfu`."""
        return self.flops / (peak * self.study.machine.mfu) / 3600

    def placement(self, lengths: list[np.ndarray] | None = None) -> Placement:
        """Return the placement of the poisons of all attacks.

        `lengths` are the numbers of tokens of each attack's documents. Without them, every document counts as
        one token, which gives the right sequences and steps but not the right offsets. Raises InputError if
        the poisons do not fit.
        """
        poisonings, one = self.poisonings, np.ones(1, np.int64)
        lengths = lengths or [np.broadcast_to(one, p.dose) for p in poisonings]
        placed = []
        for number, (poisoning, own) in enumerate(zip(poisonings, lengths, strict=True)):
            training = Training(
                seed=self.seeds.poisons,
                sequences=self.sequences,
                batch_size=self.study.train.batch_size,
                seq_len=self.study.data.seq_len,
                attack=number,
                attacks=len(poisonings),
            )
            placed.append(place(poisoning.schedule, training, own, exposures=poisoning.exposures))
        return placement.together(placed)

    def plan(self, placed: Placement | None = None) -> Plan:
        """Return the plan of the run, as in `plan --json` and study.json.

        `placed` is the placement of the written poisons; without it, the number of their tokens is estimated.
        Raises InputError if a dose does not fit.
        """
        study = self.study
        first, *others = self._doses(placed)
        tokens = sum(dose["poison_tokens"] for dose in (first, *others))
        if tokens >= 2**31:
            raise InputError(
                f"doses: {tokens:,.0f} tokens of poison in {self.name}; a run counts {2**31 - 1:,} at most; "
                "lower the dose, or its exposures."
            )
        return {
            "run": self.name,
            "hash": self.hash,
            "size": self.rung.size,
            "parameters": self.parameters,
            "tokens": self.tokens,
            "tokens_per_parameter": self.rung.tokens_per_parameter,
            "steps": self.steps,
            "evaluation_steps": self.evaluation_steps,
            "batch_size": study.train.batch_size,
            "seq_len": study.data.seq_len,
            "sequences": self.sequences,
            "seed": self.seeds.label,
            "seeds": dataclasses.asdict(self.seeds),
            **first,
            "also": others,
            "flops": self.flops,
            "learning_rate": self.learning_rate,
        }

    def _doses(self, placed: Placement | None) -> list[Dose]:
        exact = placed is not None
        placed = placed or self.placement()
        doses: list[Dose] = []
        for number, poisoning in enumerate(self.poisonings):
            own = placed.of_attack(number)
            expected = own.exposures * poisoning.attack.expected_tokens()
            tokens = own.tokens if exact else expected
            doses.append(
                {
                    "dose": poisoning.dose,
                    "exposures": poisoning.exposures,
                    "schedule": type(poisoning.schedule).__name__.lower(),
                    "attack": poisoning.attack.name,
                    "poison_tokens": tokens,
                    "poison_tokens_exact": exact,
                    "poison_share": tokens / self.tokens,
                    "poisoned_steps": own.steps(self.study.train.batch_size),
                }
            )
        return doses
