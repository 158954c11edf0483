"""The runs of a study: which there are, what each will do, and what that costs, before any compute."""

from __future__ import annotations

import dataclasses
import difflib
import functools

import numpy as np

from poison_scaling import chips, serialization
from poison_scaling.config import Clustered, Explicit, Poisoning, Rung, Seeds, Slice, Study
from poison_scaling.data import placement
from poison_scaling.data.placement import Placement
from poison_scaling.errors import InputError
from poison_scaling.model import sizes


@dataclasses.dataclass(frozen=True)
class Run:
    """One model: a rung of the ladder, a dose, a seed."""

    study: Study
    rung: Rung
    dose: int
    seeds: Seeds

    @property
    def name(self) -> str:
        """Of its folder: size, tokens per parameter, dose, seed."""
        budget = f"{self.rung.tokens_per_parameter:g}"
        return f"{self.rung.size}-{budget}x-d{self.dose}-s{self.seeds.label}"

    @property
    def control(self) -> Run:
        """The run that differs from it in the dose alone, which is 0."""
        return dataclasses.replace(self, dose=0)

    @property
    def hash(self) -> str:
        """Names everything that its result depends on: neither the machine nor the other runs."""
        return serialization.stable_hash(tuple(self.settings().values()))

    def settings(self) -> dict:
        """What its result depends on, by name."""
        names = (
            *("data", "attack", "exposures", "schedule", "also"),
            *("model", "train", "evaluation"),
        )
        own = {"rung": self.rung, "dose": self.dose, "seeds": self.seeds}
        return {**own, **{name: getattr(self.study, name) for name in names}}

    @property
    def parameters(self) -> int:
        return sizes.parameters(sizes.SIZES[self.rung.size], self.study.data.vocabulary.pieces)

    @property
    def steps(self) -> int:
        tokens = self.rung.tokens_per_parameter * self.parameters
        return max(1, round(tokens / (self.study.train.batch_rows * self.study.data.row_tokens)))

    @property
    def rows(self) -> int:
        return self.steps * self.study.train.batch_rows

    @property
    def tokens(self) -> int:
        return self.rows * self.study.data.row_tokens

    @property
    def learning_rate(self) -> float:
        rung, train = self.rung, self.study.train
        return train.learning_rate if rung.learning_rate is None else rung.learning_rate

    @property
    def evaluation_steps(self) -> list[int]:
        """Steps done at each evaluation, ascending; the last is the end."""
        times = self.study.evaluation.times
        return sorted({round(self.steps * i / times) for i in range(1, times + 1)} - {0})

    @property
    def flops(self) -> float:
        """Of training, in the convention of `sizes.train_flops_per_token`."""
        data = self.study.data
        dimensions = sizes.SIZES[self.rung.size]
        return float(self.tokens) * sizes.train_flops_per_token(
            dimensions, data.vocabulary.pieces, data.row_tokens
        )

    def hours(self, peak: float) -> float:
        """Predicted wall time of training on machines of this peak, FLOP/s, at the study's `machine.mfu`."""
        return self.flops / (peak * self.study.machine.mfu) / 3600

    @property
    def poisonings(self) -> tuple[Poisoning, ...]:
        return self.study.poisonings(self.dose)

    def placement(self, lengths: list[np.ndarray] | None = None) -> Placement:
        """Where the poisons of every attack stand; `lengths` are the tokens of each attack's documents.

        Without lengths every document counts as one token: rows and steps are right, offsets are not.
        Raises InputError when they do not fit.
        """
        data, train = self.study.data, self.study.train
        lengths = lengths or [np.ones(p.dose, np.int64) for p in self.poisonings]
        return placement.together(
            [
                placement.place(
                    poisoning.schedule,
                    self.seeds.poisons,
                    self.rows,
                    train.batch_rows,
                    data.row_tokens,
                    own,
                    exposures=poisoning.exposures,
                    attack=number,
                    attacks=len(self.poisonings),
                )
                for number, (poisoning, own) in enumerate(
                    zip(self.poisonings, lengths, strict=True)
                )
            ]
        )

    def plan(self, placed: Placement | None = None) -> dict:
        """The run as `plan --json` and study.json have it.

        `placed` is its placement, once its poisons are built; before, their tokens are estimated. What is
        said of poisons is of the first attack; `also` lists the others. Raises InputError when a dose does
        not fit.
        """
        study = self.study
        exact = placed is not None
        placed = placed or self.placement()

        def dose(number: int, poisoning: Poisoning) -> dict:
            mine = placed.of_attack(number)
            expected = mine.showings * poisoning.attack.expected_tokens()
            tokens = mine.tokens if exact else expected
            return {
                "dose": poisoning.dose,
                "exposures": poisoning.exposures,
                "schedule": type(poisoning.schedule).__name__.lower(),
                "attack": poisoning.attack.name,
                "poison_tokens": tokens,
                "poison_tokens_exact": exact,
                "poison_share": tokens / self.tokens,
                "poisoned_steps": mine.steps(study.train.batch_rows),
            }

        first, *others = (dose(n, poisoning) for n, poisoning in enumerate(self.poisonings))
        return {
            "run": self.name,
            "hash": self.hash,
            "size": self.rung.size,
            "parameters": self.parameters,
            "tokens": self.tokens,
            "tokens_per_parameter": self.rung.tokens_per_parameter,
            "steps": self.steps,
            "evaluation_steps": self.evaluation_steps,
            "batch_rows": study.train.batch_rows,
            "row_tokens": study.data.row_tokens,
            "rows": self.rows,
            "seed": self.seeds.label,
            "seeds": dataclasses.asdict(self.seeds),
            **first,
            "also": others,
            "flops": self.flops,
            "learning_rate": self.learning_rate,
        }


def slice_of(run: Run) -> Slice | None:
    """Where the study means to train the run; None where it does not say."""
    return next((s for s in run.study.machine.slices if s.size == run.rung.size), None)


def days(run: Run, place: Slice) -> float:
    """Predicted wall time of training on a slice, at the study's `machine.mfu`."""
    chip, shape = chips.parse(place.topology)
    peak = chip.flops * chips.count(shape) * place.count
    return run.hours(peak) / 24


@functools.cache
def of(study: Study) -> tuple[Run, ...]:
    """Every run of the study: ladder x doses x seeds. Raises InputError when a setting cannot be."""
    _validate(study)
    runs = tuple(
        Run(study, rung, dose, seeds)
        for rung in study.ladder
        for dose in study.doses
        for seeds in study.seeds
    )
    names = [run.name for run in runs]
    for name in names:
        if names.count(name) > 1:
            raise InputError(
                f"ladder, doses, seeds: two runs would be named {name!r}; each must differ."
            )
    return runs


def named(study: Study, name: str) -> Run:
    """The run of that name; raises InputError with the nearest one."""
    runs = {run.name: run for run in of(study)}
    if name not in runs:
        near = difflib.get_close_matches(name, runs, n=1, cutoff=0.0)[0]
        raise InputError(
            f"--run {name!r}: study {study.name!r} has no such run; the nearest is {near!r}."
        )
    return runs[name]


def _validate(study: Study) -> None:
    def require(right: bool, message: str) -> None:
        if not right:
            raise InputError(message)

    for field in ("ladder", "doses", "seeds"):
        require(len(getattr(study, field)) > 0, f"{field}: it is empty; name at least one.")
    for dose in study.doses:
        require(
            dose >= 0, f"doses: {dose} is negative; give numbers of documents, 0 for a control."
        )
    for rung in study.ladder:
        if rung.size not in sizes.SIZES:
            near = difflib.get_close_matches(rung.size, sizes.SIZES, n=1, cutoff=0.0)[0]
            raise InputError(f"ladder: there is no size {rung.size!r}; the nearest is {near!r}.")
        require(
            rung.tokens_per_parameter > 0,
            f"ladder: tokens_per_parameter={rung.tokens_per_parameter} must be positive.",
        )
    data, train, evaluation = study.data, study.train, study.evaluation
    positive = {
        "data.row_tokens": data.row_tokens,
        "data.epochs": data.epochs,
        "data.heldout_documents": data.heldout_documents,
        "train.batch_rows": train.batch_rows,
        "train.log_every": train.log_every,
        "evaluation.times": evaluation.times,
        "evaluation.prompts": evaluation.prompts,
        "evaluation.prompt_tokens": evaluation.prompt_tokens,
        "evaluation.generate_tokens": evaluation.generate_tokens,
        "evaluation.continuation_tokens": evaluation.continuation_tokens,
        "evaluation.temperature": evaluation.temperature,
        "evaluation.heldout_rows": evaluation.heldout_rows,
        "machine.prefetch_batches": study.machine.prefetch_batches,
        "machine.cores": study.machine.cores,
        "machine.keep_checkpoints": study.machine.keep_checkpoints,
    }
    for field in ("checkpoint_steps", "keep_every", "jobs"):
        value = getattr(study.machine, field)
        require(
            value is None or value > 0, f"machine.{field}={value}: it must be positive, or none."
        )
    for field, value in positive.items():
        require(value > 0, f"{field}={value}: it must be positive.")
    chunk, parts = study.model.loss_chunk, train.microbatches
    require(
        chunk is None or (chunk > 0 and data.row_tokens % chunk == 0),
        f"model.loss_chunk={chunk}: it must divide data.row_tokens={data.row_tokens}, or be none.",
    )
    require(
        parts > 0 and train.batch_rows % parts == 0,
        f"train.microbatches={parts}: it must divide train.batch_rows={train.batch_rows}.",
    )
    require(0 < study.machine.mfu <= 1, f"machine.mfu={study.machine.mfu}: give a share, above 0.")
    on_ladder = {rung.size for rung in study.ladder}
    for place in study.machine.slices:
        chips.parse(place.topology, "machine.slices")
        require(
            place.size in on_ladder and place.count > 0,
            f"machine.slices: {place}: give a size of the ladder, and a positive count.",
        )
    for number, poisoning in enumerate(study.poisonings(0)):
        where = f"also.{number - 1}." if number else ""
        _validate_poisoning(poisoning, where, require)
    near = evaluation.near_triggers
    for text in near.texts or ():
        triggers = [poisoning.attack.trigger for poisoning in study.poisonings(0)]
        require(
            text != "" and text not in triggers,
            f"evaluation.near_triggers.texts: {text!r} is empty or the trigger; give other text.",
        )
    require(
        evaluation.judge is None or 0 in study.doses,
        f"evaluation.judge={evaluation.judge!r}: doses={list(study.doses)} has no control; add 0.",
    )
    require(
        evaluation.prompt_tokens + evaluation.generate_tokens < data.row_tokens,
        f"evaluation.prompt_tokens={evaluation.prompt_tokens} and "
        f"generate_tokens={evaluation.generate_tokens}: together with the trigger they must fit into "
        f"data.row_tokens={data.row_tokens}, the longest context the model was trained on.",
    )


def _validate_poisoning(poisoning: Poisoning, where: str, require) -> None:
    """`where` is what the names of its fields begin with."""
    schedule = poisoning.schedule
    poisoning.attack.check(f"{where}attack")
    require(
        poisoning.exposures > 0, f"{where}exposures={poisoning.exposures}: it must be positive."
    )
    require(poisoning.dose >= 0, f"{where}dose={poisoning.dose}: it must not be negative.")
    if isinstance(schedule, Explicit):
        return
    low, high = schedule.window
    require(
        0 <= low < high <= 1,
        f"{where}schedule.window={schedule.window}: give two shares of training, 0 <= start < end <= 1.",
    )
    if isinstance(schedule, Clustered):
        require(
            0 < schedule.density <= 1,
            f"{where}schedule.density={schedule.density}: give a share of a step's rows, above 0.",
        )
        require(schedule.every > 0, f"{where}schedule.every={schedule.every}: it must be positive.")
