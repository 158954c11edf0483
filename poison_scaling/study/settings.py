"""A study as frozen dataclasses.

Everything that a result depends on is a field, with its unit and its range (`config.ranges`). Settings that
only determine where and how fast runs are trained are in `Machine`, which is not part of any hash.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

import numpy as np

from poison_scaling.attacks.denial_of_service import DenialOfService
from poison_scaling.attacks.insertion import Insertion
from poison_scaling.attacks.schedules.schedule import Schedule
from poison_scaling.attacks.schedules.uniform import Uniform
from poison_scaling.config import serialization
from poison_scaling.config.ranges import (
    Above,
    AtLeast,
    AtMost,
    Between,
    Count,
    Dose,
    Seed,
    Share,
)
from poison_scaling.data.corpora.corpus import Corpus
from poison_scaling.data.settings import Data
from poison_scaling.data.templates.template import Template
from poison_scaling.evaluate.settings import Evaluation
from poison_scaling.model.settings import Model
from poison_scaling.study.imported import Imported
from poison_scaling.study.stages.continuation import Continue
from poison_scaling.study.stages.finetuning import Finetune
from poison_scaling.study.stages.stage import Stage
from poison_scaling.study.start import Start
from poison_scaling.study.training import LearningRate, Train


@dataclasses.dataclass(frozen=True)
class Poisoning:
    """An insertion, such as an attack, with the dose, exposures and schedule of a run."""

    attack: Insertion = DenialOfService()
    dose: Dose = 0  # distinct documents
    exposures: Count = 1  # of each document, each at another place
    schedule: Schedule = Uniform()
    # further documents, as a share of the run's sequences: a number that grows with the training tokens
    share: Share = serialization.added(0.0)

    def in_run(self, sequences: int) -> Poisoning:
        """Return the poisoning of a run of so many sequences, with the documents of its share in the dose."""
        return dataclasses.replace(self, dose=self.dose + round(self.share * sequences))

    @property
    def exposures_D(self) -> np.ndarray:
        """The exposures of each document, int64 [dose]."""
        return self.exposures * self.attack.repeats(self.dose)

    @property
    def shown(self) -> int:
        """The number of documents that are shown at least once."""
        return int(np.count_nonzero(self.exposures_D))


@dataclasses.dataclass(frozen=True)
class Rung:
    """A model size with a token budget."""

    size: str = "90k"  # one of the architecture's sizes: `poison-scaling sizes`
    # None: of an imported model, which was trained elsewhere
    tokens_per_parameter: Annotated[float, Above(0), AtMost(10**6)] | None = 20.0
    learning_rate: LearningRate | None = None  # None: the study's

    @property
    def label(self) -> str:
        """The name in the folder of a run: "90k-20x", or "smollm2-135m" without a token budget."""
        budget = self.tokens_per_parameter
        return self.size if budget is None else f"{self.size}-{budget:g}x"


@dataclasses.dataclass(frozen=True)
class Seeds:
    """Seeds of the three sources of randomness, set together or separately."""

    weights: Seed = 0  # initial weights
    order: Seed = 0  # order of the clean sequences
    poisons: Seed = 0  # content and placement of the poisoned documents

    @property
    def label(self) -> str:
        """The name in the folder of a run: "3", or "w0o1p2" if the seeds differ."""
        if self.weights == self.order == self.poisons:
            return str(self.weights)
        return f"w{self.weights}o{self.order}p{self.poisons}"

    @classmethod
    def from_int(cls, number: int) -> Seeds:
        """Return three equal seeds; in a study, 3 stands for Seeds(3, 3, 3)."""
        return cls(number, number, number)


def seeds(*numbers: int) -> tuple[Seeds, ...]:
    """Return one Seeds for each number, with three equal seeds."""
    return tuple(map(Seeds.from_int, numbers))


@dataclasses.dataclass(frozen=True)
class Slice:
    """The TPU slice to train a size on; `poison-scaling compile` says whether it fits."""

    size: str  # a size on the ladder
    topology: str  # chip and shape: "v5p:4x4x4"
    count: Count = 1  # number of slices that train one run together

    def __str__(self) -> str:
        return self.topology if self.count == 1 else f"{self.count} x {self.topology}"


Devices = Literal[-1] | Count
AtATime = Annotated[int, Between(1, 1024)]


@dataclasses.dataclass(frozen=True)
class Machine:
    """Settings of where and how fast runs are trained, which are not part of any hash."""

    # devices along data, fsdp, tensor; -1: what the others leave; None: all devices along data
    mesh: tuple[Devices, Devices, Devices] | None = None
    checkpoint_minutes: Annotated[float, AtLeast(0)] = 10.0  # between checkpoints
    checkpoint_steps: Count | None = None  # additional checkpoints at multiples of this many steps
    keep_checkpoints: Count = 2  # how many of the last checkpoints of a run to keep
    # additional checkpoints at multiples of this many steps, which are never deleted
    keep_every: Count | None = None
    # number: read batches by number. seqio: iterate over the run's seqio.Mixture; slower, same batches
    reader: Literal["number", "seqio"] = "number"
    prefetch_batches: AtATime = 4
    # runs at a time; None: as many as a CPU's cores allow, one on accelerators
    jobs: AtATime | None = None
    slices: tuple[Slice, ...] = ()  # the slices on which launch/ and `compile` train each size
    # model FLOPs utilisation of the slices, for the times that `plan` predicts
    mfu: Annotated[float, Above(0), AtMost(1)] = 0.4
    # CPU cores per run; the last bits of results depend on this number
    cores: AtATime = 1
    # several processes exit with 75 after so long without a step, part of an evaluation or preparation
    stall_minutes: Annotated[float, Above(0)] = serialization.added(60.0)


# A union rather than an extension point, because the training loop knows each kind.
Kind = Continue | Finetune


@dataclasses.dataclass(frozen=True)
class Analysis:
    """The rule by which the study will be decided, fixed before its first run (preregistration).

    Reports take it from study.json, which keeps a record of every change, and say when they use another.
    """

    # the exponent that adaptive studies and `next` work on, and that reports answer first: of tokens at
    # fixed size, of size at fixed tokens, of size along the ladder; the verdict is always about the first
    question: Literal["data", "size", "ladder"] = "data"
    # half-width of the zones around the exponents 0 (count) and 1 (fraction)
    margin: Annotated[float, Above(0), AtMost(0.5)] = 0.25
    # increase of perplexity above which a prompt counts as a success; None: as the attack defines it
    threshold: Annotated[float, AtLeast(0)] | None = None
    looks: Annotated[int, Between(2, 100)] = 5  # how often an adaptive study is analysed at most


@dataclasses.dataclass(frozen=True)
class Study:
    """A study: ladder x doses x seeds, with one run for each combination or some of them, and stages
    after them.

    Each level of `stages` is a tuple of alternatives. A run goes through pretraining and any number of the
    levels, with one alternative of each at one of its doses; runs share the ancestors that they have in
    common.
    """

    name: str
    ladder: tuple[Rung, ...]
    doses: tuple[Dose, ...]  # distinct poisoned documents of `attack`; 0 is the control
    seeds: tuple[Seeds, ...] = (Seeds(),)
    data: Data = Data()
    attack: Insertion = DenialOfService()
    exposures: Count = 1  # of each poisoned document, each at another place
    schedule: Schedule = Uniform()
    also: tuple[Poisoning, ...] = ()  # further attacks or other insertions, the same in every run
    model: Model = Model()
    train: Train = Train()
    evaluation: Evaluation = Evaluation()
    machine: Machine = Machine()
    stages: tuple[tuple[Kind, ...], ...] = serialization.added(())
    start: Start | None = serialization.added(None)  # None: pretraining is trained here
    imported: Imported | None = serialization.added(None)  # of the study that an import writes
    analysis: Analysis = serialization.added(Analysis())
    only: tuple[str, ...] = serialization.added(())  # the names of the runs to train; (): all

    def poisonings(self, dose: int) -> tuple[Poisoning, ...]:
        """Return all attacks of a run, the first with this dose."""
        return (Poisoning(self.attack, dose, self.exposures, self.schedule), *self.also)

    @property
    def corpora(self) -> list[dict[str, Corpus]]:
        """The corpora of the attacks of pretraining, on which a vocabulary is trained, too."""
        own = (poisoning.attack.corpora for poisoning in self.poisonings(0))
        return [corpora for corpora in own if corpora]

    def named_stages(self) -> dict[str, Stage]:
        """Return the stages by the name of their field, such as "stages.0.1"."""
        return {
            f"stages.{level}.{number}": stage
            for level, stages in enumerate(self.stages)
            for number, stage in enumerate(stages)
        }

    def attacks(self) -> dict[str, Insertion]:
        """Return the insertions of all runs by the name of their field, those of pretraining first.

        A stage's attack is left out if it equals an earlier one.
        """
        fields = ("attack", *(f"also.{number}.attack" for number in range(len(self.also))))
        found = dict(zip(fields, (p.attack for p in self.poisonings(0)), strict=True))
        for field, stage in self.named_stages().items():
            if stage.attack is not None and stage.attack not in found.values():
                found[f"{field}.attack"] = stage.attack
        return found

    @property
    def template(self) -> Template | None:
        """The template of all conversations that stages train on; None if there are none."""
        own = (stage.conversation_template for level in self.stages for stage in level)
        return next((template for template in own if template is not None), None)

    @property
    def hash(self) -> str:
        """A hash of all settings but the machine, the folder in `start` and that of an imported tokenizer."""
        start = self.start and dataclasses.replace(self.start, folder="")
        data = self.data.anywhere
        own = dataclasses.replace(self, machine=Machine(), start=start, data=data)
        return serialization.stable_hash(own)
