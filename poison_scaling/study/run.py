"""A run: one model of a study, with its settings, plan and cost, which are known before training."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping

import numpy as np

from poison_scaling.attacks.attack import Attack
from poison_scaling.attacks.placing import place
from poison_scaling.attacks.schedules.schedule import Training
from poison_scaling.config import serialization
from poison_scaling.data import placement
from poison_scaling.data.placement import Placement
from poison_scaling.data.settings import Data
from poison_scaling.data.templates.template import Template
from poison_scaling.runtime import chips
from poison_scaling.study import plan
from poison_scaling.study.plan import Plan
from poison_scaling.study.settings import Poisoning, Rung, Seeds, Slice, Study
from poison_scaling.study.stages.continuation import Continue
from poison_scaling.study.stages.finetuning import Finetune
from poison_scaling.study.stages.stage import Leg, Stage
from poison_scaling.study.training import Train


@dataclasses.dataclass(frozen=True)
class Run:
    """One model: a rung of the ladder, a dose and seeds, and the stages since.

    Tokens, steps, placement and plan are those of the last stage alone.
    """

    study: Study
    rung: Rung
    dose: int  # of pretraining
    seeds: Seeds
    path: tuple[Leg, ...] = ()  # empty: pretraining
    origin: Run | None = None  # the run of another study that the first leg starts from, if any

    @property
    def name(self) -> str:
        """The name of the run and its folder: size, tokens per parameter, dose, seed, and each stage."""
        root = f"{self.rung.label}-d{self.dose}-s{self.seeds.label}"
        before = self.origin.path if self.origin else ()
        return "+".join([root, *(leg.name for leg in (*before, *self.path))])

    @property
    def level(self) -> int:
        """The number of stages since pretraining, those of another study included."""
        return len(self.ancestors)

    @property
    def stage(self) -> Stage | None:
        """The last stage; None for pretraining."""
        return self.path[-1].stage if self.path else None

    @property
    def parent(self) -> Run | None:
        """The run that this one starts from; None for pretraining."""
        if len(self.path) == 1 and self.origin:
            return self.origin
        return dataclasses.replace(self, path=self.path[:-1]) if self.path else None

    @property
    def ancestors(self) -> tuple[Run, ...]:
        """The runs that this one goes through, from its parent to pretraining."""
        parent = self.parent
        return (parent, *parent.ancestors) if parent else ()

    @property
    def starts_at(self) -> int | None:
        """The step of the parent's checkpoint that this run starts from; None for the last one."""
        return self.study.start.step if self.parent is self.origin and self.study.start else None

    @property
    def field(self) -> str:
        """The name of the settings that hold the corpus of the run: "data" or "stages.0.1"."""
        if self.stage is None:
            return "data"
        level = len(self.path) - 1
        return f"stages.{level}.{self.study.stages[level].index(self.stage)}"

    @property
    def control(self) -> Run:
        """The run with dose 0 in its last stage and otherwise the same settings and seeds."""
        if not self.path:
            return dataclasses.replace(self, dose=0)
        clean = dataclasses.replace(self.path[-1], dose=0)
        return dataclasses.replace(self, path=(*self.path[:-1], clean))

    @property
    def is_control(self) -> bool:
        """Whether the dose of the last stage is 0."""
        return self.poisonings[0].dose == 0

    @property
    def train(self) -> Train:
        """The settings of optimizer and batches."""
        own = self.stage.train if self.stage else None
        return own or self.study.train

    @property
    def data(self) -> Data:
        """The settings of the data that the run is trained on."""
        return self.stage.data(self.study.data) if self.stage else self.study.data

    @property
    def hash(self) -> str:
        """A hash of everything that the result depends on, which excludes the machine and other runs."""
        return serialization.stable_hash(tuple(self.settings().values()))

    def settings(self) -> dict:
        """Return everything that the result depends on, by name."""
        if self.path:
            return self._settings_of_stage()
        if self.study.imported is not None:
            return {
                "imported": self.study.imported.digest,
                "size": self.rung.size,
                "architecture": self.study.model.architecture,
                "vocabulary": self.data.anywhere.vocabulary,
            }
        names = (
            *("data", "attack", "exposures", "schedule", "also"),
            *("model", "train", "evaluation"),
        )
        own = {"rung": self.rung, "dose": self.dose, "seeds": self.seeds}
        shared = {name: getattr(self.study, name) for name in names}
        about = {**self._items_of_control(self.study.doses), **self._ahead()}
        return {**own, **shared, "data": self.data.anywhere, **about}

    def _items_of_control(self, doses: tuple[int, ...]) -> dict:
        """Return how many items a control is measured on, which follows from the doses of other runs."""
        first = self.poisonings[0]
        return {} if first.dose or isinstance(first.attack, Attack) else {"items": max(doses)}

    def _ahead(self) -> dict:
        """Return the template of a later stage, if the run has attacks on conversations before it."""
        needed = any(poisoning.attack.has_requests for poisoning in self.poisonings)
        return {"template": self.study.template} if needed and self.template is None else {}

    def _settings_of_stage(self) -> dict:
        """Return the settings of the last stage, and the parent's hash for all before it."""
        leg, parent = self.path[-1], self.parent
        assert parent is not None
        # Neither the other doses of the stage nor its label change the result.
        stage = dataclasses.replace(
            leg.stage, label="", doses=(), attack=self.poisonings[0].attack, train=self.train
        )
        record = {
            "parent": parent.hash,
            "stage": stage,
            "dose": leg.dose,
            "seeds": self.seeds,
            "data": self.data.anywhere,
            "model": self.study.model,
            "evaluation": self.study.evaluation,
            **self._items_of_control(leg.stage.doses),
            **self._ahead(),
        }
        if self.origin is not None:
            # The parent's hash covers those of the other study alone.
            record["learning_rate"] = self.learning_rate
            record["measured"] = [poisoning.attack for poisoning in self.study.poisonings(0)]
        return record if self.starts_at is None else {**record, "checkpoint": self.starts_at}

    @property
    def parameters(self) -> int:
        """The number of trained parameters, embeddings included."""
        architecture, vocabulary = self.study.model.architecture, self.study.data.vocabulary
        return architecture.parameters(self.rung.size, vocabulary.vocab_size)

    @property
    def tokens_per_parameter(self) -> float:
        """The token budget, as the settings state it; that of fine-tuning follows from its examples."""
        if isinstance(self.stage, Finetune):
            return self.tokens / self.parameters
        budget = self.stage if isinstance(self.stage, Continue) else self.rung
        return budget.tokens_per_parameter or 0.0

    @property
    def is_exact(self) -> bool:
        """Whether the number of steps is known, which is not so before conversations are tokenised."""
        own = not isinstance(self.stage, Finetune) or self.path[-1].packed_sequences is not None
        return own and (self.parent is None or self.parent.is_exact)

    def counted(self, packed: Mapping[Stage, int]) -> Run:
        """Return the run with the numbers of sequences that the examples of its stages fill."""
        legs = (
            dataclasses.replace(leg, packed_sequences=packed.get(leg.stage)) for leg in self.path
        )
        return dataclasses.replace(self, path=tuple(legs))

    @property
    def steps(self) -> int:
        """The number of optimizer updates; 0 for an imported model."""
        if not self.path and self.study.imported is not None:
            return 0
        B, L = self.train.batch_size, self.data.seq_len
        if isinstance(self.stage, Finetune):
            packed = self.path[-1].packed_sequences or self.stage.expected_sequences(L)
            return max(1, packed * self.stage.epochs // B)
        return max(1, round(self.tokens_per_parameter * self.parameters / (B * L)))

    @property
    def sequences(self) -> int:
        """The number of sequences trained on."""
        return self.steps * self.train.batch_size

    @property
    def first_sequence(self) -> int:
        """The number of sequences of the same corpus, in the same order, that ancestors have trained on."""

        def order(run: Run) -> tuple:
            return dataclasses.replace(run.data, epochs=1), run.seeds.order

        if isinstance(self.stage, Finetune):
            return 0
        return sum(
            steps * run.train.batch_size
            for run, steps in self.steps_before()
            if not isinstance(run.stage, Finetune) and order(run) == order(self)
        )

    def steps_before(self) -> list[tuple[Run, int]]:
        """Return the ancestors, parent first, each with how many of its steps the run builds on."""
        chain = (self, *self.ancestors)
        return [(run, child.starts_at or run.steps) for child, run in itertools.pairwise(chain)]

    @property
    def tokens(self) -> int:
        """The number of tokens trained on."""
        return self.sequences * self.data.seq_len

    @property
    def learning_rate(self) -> float:
        """The peak learning rate; a rung's own holds unless the stage has its own `train`."""
        own = None if self.stage and self.stage.train else self.rung.learning_rate
        return self.train.learning_rate if own is None else own

    @property
    def template(self) -> Template | None:
        """The template of the last fine-tuning that the run has gone through; None without any."""
        own = self.stage.conversation_template if self.stage else None
        return own or (self.parent.template if self.parent else None)

    @property
    def warms_up(self) -> bool:
        """Whether the learning rate rises to its peak, instead of starting there."""
        return self.stage is None or self.stage.optimizer == "rewarm"

    @property
    def evaluation_steps(self) -> list[int]:
        """The steps after which the run is evaluated, ascending; the last is the end of the run."""
        times = self.study.evaluation.times
        return sorted({round(self.steps * i / times) for i in range(1, times + 1)} - {0})

    @property
    def flops(self) -> float:
        """The FLOPs of training, as `Architecture.train_flops_per_token` defines them."""
        data, architecture = self.data, self.study.model.architecture
        per_token = architecture.train_flops_per_token(
            self.rung.size, data.vocabulary.vocab_size, data.seq_len
        )
        return float(self.tokens) * per_token

    @property
    def poisonings(self) -> tuple[Poisoning, ...]:
        """All attacks of the run; the first one has its dose.

        After pretraining, the others are those of the earlier stages, with dose 0: they are measured only.
        """
        if not self.path:
            return tuple(p.in_run(self.sequences) for p in self.study.poisonings(self.dose))
        leg, first = self.path[-1], self.study.attack
        own = leg.stage.attack or first
        earlier = [poisoning.attack for poisoning in self.study.poisonings(0)]
        earlier += [before.stage.attack or first for before in self.path[:-1]]
        others = [attack for attack in dict.fromkeys(earlier) if attack != own]
        return (
            Poisoning(own, leg.dose, leg.stage.exposures, leg.stage.schedule),
            *(Poisoning(attack) for attack in others),
        )

    def inserted_by(self, number: int) -> tuple[Run, int]:
        """Return the run that trained on insertion `number` of this run, and the insertion's number there.

        It is the latest ancestor that has documents of it, unless this run has or none does.
        """
        own = self.poisonings[number]
        for run in self.ancestors if not own.dose else ():
            for there, poisoning in enumerate(run.poisonings):
                if poisoning.attack == own.attack and poisoning.dose:
                    return run, there
        return self, number

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
        # After pretraining only the first attack has poisons, so it owns every sequence.
        poisonings, one = self.poisonings[: 1 if self.path else None], np.ones(1, np.int64)
        lengths = lengths or [np.broadcast_to(one, p.dose) for p in poisonings]
        lengths = lengths[: len(poisonings)]
        placed = []
        for number, (poisoning, own) in enumerate(zip(poisonings, lengths, strict=True)):
            training = Training(
                seed=self.seeds.poisons,
                sequences=self.sequences,
                batch_size=self.train.batch_size,
                seq_len=self.data.seq_len,
                attack=number,
                attacks=len(poisonings),
                level=self.level,
                at_start=isinstance(self.stage, Finetune),
            )
            placed.append(place(poisoning.schedule, training, own, exposures=poisoning.exposures_D))
        return placement.together(placed)

    def plan(self, placed: Placement | None = None) -> Plan:
        """Return the plan of the run, as in `plan --json` and study.json.

        `placed` is the placement of the written poisons; without it, the number of their tokens is estimated.
        Raises InputError if a dose does not fit.
        """
        return plan.of(self, placed)
