"""The runs of a study: which there are, what each will do, and what that costs, before any compute."""

from __future__ import annotations

import dataclasses
import difflib
import functools

import numpy as np

from poison_scaling import chips, serialization
from poison_scaling.config import Explicit, Poisoning, Rung, Seeds, Slice, Study
from poison_scaling.data import placement
from poison_scaling.data.placement import Placement
from poison_scaling.errors import InputError, shown
from poison_scaling.model import sizes

_MOST_RUNS = 10**6  # each has a folder of its own
_MOST_SHOWINGS = 10**6  # of an attack in a run: their positions are held in memory


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
        return f"{self.rung.label}-d{self.dose}-s{self.seeds.label}"

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
        one = np.ones(1, np.int64)
        lengths = lengths or [np.broadcast_to(one, p.dose) for p in self.poisonings]
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
        tokens = sum(of_attack["poison_tokens"] for of_attack in (first, *others))
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


def of(study: Study) -> tuple[Run, ...]:
    """Every run of the study: ladder x doses x seeds. Raises InputError when a setting cannot be."""
    return tuple(_by_name(study).values())


def named(study: Study, name: str) -> Run:
    """The run of that name; raises InputError with the nearest one."""
    runs = _by_name(study)
    if name not in runs:
        raise InputError(
            f"--run {shown(name)}: study {shown(study.name)} has no such run; the nearest is "
            f"{_nearest(study, name)!r}."
        )
    return runs[name]


@functools.cache
def _by_name(study: Study) -> dict[str, Run]:
    study = serialization.checked(study)
    _validate(study)
    runs = {}
    for rung in study.ladder:
        for dose in study.doses:
            for seeds in study.seeds:
                run = Run(study, rung, dose, seeds)
                name = run.name
                if name in runs:
                    raise InputError(
                        f"ladder, doses, seeds: two runs would be named {name!r}; each must differ."
                    )
                runs[name] = run
    return runs


def _nearest(study: Study, name: str) -> str:
    """The name of a run whose three parts are nearest: the names may be too many to compare them all."""
    known = (
        [rung.label for rung in study.ladder],
        [f"d{dose}" for dose in study.doses],
        [f"s{seeds.label}" for seeds in study.seeds],
    )
    parts = name.rsplit("-", 2) if name.count("-") >= 2 else (name, "", "")
    pairs = zip(parts, known, strict=True)
    near = (difflib.get_close_matches(p[:100], those, n=1, cutoff=0.0)[0] for p, those in pairs)
    return "-".join(near)


def _validate(study: Study) -> None:
    """Refuse what does not fit together; what each number may be alone stands beside its field."""

    def require(right: bool, message: str) -> None:
        if not right:
            raise InputError(message)

    for field in ("ladder", "doses", "seeds"):
        require(len(getattr(study, field)) > 0, f"{field}: it is empty; name at least one.")
    number = len(study.ladder) * len(study.doses) * len(study.seeds)
    require(
        number <= _MOST_RUNS,
        f"ladder, doses, seeds: they make {number:,} runs; a study has {_MOST_RUNS:,} at most.",
    )
    data, train, evaluation = study.data, study.train, study.evaluation
    chunk, parts = study.model.loss_chunk, train.microbatches
    require(
        chunk is None or data.row_tokens % chunk == 0,
        f"model.loss_chunk={chunk}: it must divide data.row_tokens={data.row_tokens}, or be none.",
    )
    require(
        train.batch_rows % parts == 0,
        f"train.microbatches={parts}: it must divide train.batch_rows={train.batch_rows}.",
    )
    for number, rung in enumerate(study.ladder):
        _validate_rung(study, rung, f"ladder.{number}", require)
    on_ladder = {rung.size for rung in study.ladder}
    for number, place in enumerate(study.machine.slices):
        chips.parse(place.topology, f"machine.slices.{number}.topology")
        require(
            place.size in on_ladder,
            f"machine.slices.{number}.size={shown(place.size)}: give a size of the ladder.",
        )
    for number, poisoning in enumerate(study.poisonings(max(study.doses))):
        _validate_poisoning(poisoning, f"also.{number - 1}." if number else "", require)
    triggers = {poisoning.attack.trigger for poisoning in study.poisonings(0)}
    for text in evaluation.near_triggers.texts or ():
        require(
            text != "" and text not in triggers,
            f"evaluation.near_triggers.texts: {text!r} is empty or the trigger; give other text.",
        )
    require(
        evaluation.judge is None or 0 in study.doses,
        f"evaluation.judge={evaluation.judge!r}: doses={shown(study.doses)} has no control; add 0.",
    )
    require(
        evaluation.prompt_tokens + evaluation.generate_tokens < data.row_tokens,
        f"evaluation.prompt_tokens={evaluation.prompt_tokens} and "
        f"generate_tokens={evaluation.generate_tokens}: together with the trigger they must fit into "
        f"data.row_tokens={data.row_tokens}, the longest context the model was trained on.",
    )


def _validate_rung(study: Study, rung: Rung, where: str, require) -> None:
    if rung.size not in sizes.SIZES:
        near = difflib.get_close_matches(rung.size[:100], sizes.SIZES, n=1, cutoff=0.0)[0]
        raise InputError(
            f"{where}.size: there is no size {shown(rung.size)}; the nearest is {near!r}."
        )
    steps, warmup = Run(study, rung, 0, Seeds()).steps, study.train.warmup
    batch = f"batches of {study.train.batch_rows} rows of {study.data.row_tokens} tokens"
    require(
        steps < 2**31,
        f"{where}.tokens_per_parameter={rung.tokens_per_parameter:g}: training would take {steps:,} steps in "
        f"{batch}; at most {2**31 - 1:,} can be counted.",
    )
    require(
        max(1, round(warmup * steps)) < steps,
        f"train.warmup={warmup:g}: no step of {where} is left after it, which has {steps} in {batch}; lower "
        "it, or train on more tokens.",
    )


def _validate_poisoning(poisoning: Poisoning, where: str, require) -> None:
    """`where` is what the names of its fields begin with."""
    schedule = poisoning.schedule
    poisoning.attack.check(f"{where}attack")
    showings = poisoning.dose * poisoning.exposures
    require(
        showings <= _MOST_SHOWINGS,
        f"{where}exposures={poisoning.exposures}: with {poisoning.dose:,} documents they make {showings:,} "
        f"showings; a run has {_MOST_SHOWINGS:,} of an attack at most.",
    )
    if not isinstance(schedule, Explicit):
        low, high = schedule.window
        require(
            low < high,
            f"{where}schedule.window={schedule.window}: give two shares of training, 0 <= start < end <= 1.",
        )
