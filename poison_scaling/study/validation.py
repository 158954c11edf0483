"""Checks that the settings of a study fit together. The range of each is declared with its field."""

from __future__ import annotations

import difflib

from poison_scaling.runtime import chips
from poison_scaling.runtime.errors import InputError, shown
from poison_scaling.study.run import Run
from poison_scaling.study.settings import Poisoning, Rung, Seeds, Study

_MOST_RUNS = 10**6  # each has its own folder
_MOST_EXPOSURES = 10**6  # of an attack in a run, because placements are held in memory


def validate(study: Study) -> None:
    """Raise InputError if settings do not fit together, for the first that do not."""
    _validate_grid(study)
    _validate_batches(study)
    for number, rung in enumerate(study.ladder):
        _validate_rung(study, rung, f"ladder.{number}")
    _validate_slices(study)
    for number, poisoning in enumerate(study.poisonings(max(study.doses))):
        _validate_poisoning(poisoning, f"also.{number - 1}." if number else "")
    _validate_evaluation(study)


def _require(right: bool, message: str) -> None:
    if not right:
        raise InputError(message)


def _validate_grid(study: Study) -> None:
    for field in ("ladder", "doses", "seeds"):
        _require(len(getattr(study, field)) > 0, f"{field}: it is empty; name at least one.")
    number = len(study.ladder) * len(study.doses) * len(study.seeds)
    _require(
        number <= _MOST_RUNS,
        f"ladder, doses, seeds: they make {number:,} runs; a study has {_MOST_RUNS:,} at most.",
    )


def _validate_batches(study: Study) -> None:
    data, train = study.data, study.train
    chunk, parts = study.model.loss_chunk, train.microbatches
    _require(
        chunk is None or data.seq_len % chunk == 0,
        f"model.loss_chunk={chunk}: it must divide data.seq_len={data.seq_len}, or be none.",
    )
    _require(
        train.batch_size % parts == 0,
        f"train.microbatches={parts}: it must divide train.batch_size={train.batch_size}.",
    )


def _validate_rung(study: Study, rung: Rung, where: str) -> None:
    sizes = study.model.architecture.sizes()
    if rung.size not in sizes:
        near = difflib.get_close_matches(rung.size[:100], sizes, n=1, cutoff=0.0)[0]
        raise InputError(
            f"{where}.size: there is no size {shown(rung.size)}; the nearest is {near!r}."
        )
    steps, warmup = Run(study, rung, 0, Seeds()).steps, study.train.warmup
    batch = f"batches of {study.train.batch_size} sequences of {study.data.seq_len} tokens"
    _require(
        steps < 2**31,
        f"{where}.tokens_per_parameter={rung.tokens_per_parameter:g}: training would take {steps:,} steps in "
        f"{batch}; at most {2**31 - 1:,} can be counted.",
    )
    _require(
        max(1, round(warmup * steps)) < steps,
        f"train.warmup={warmup:g}: it leaves no step of {where}, which has {steps} in {batch}; lower it, or "
        "train on more tokens.",
    )


def _validate_slices(study: Study) -> None:
    on_ladder = {rung.size for rung in study.ladder}
    for number, place in enumerate(study.machine.slices):
        chips.parse(place.topology, f"machine.slices.{number}.topology")
        _require(
            place.size in on_ladder,
            f"machine.slices.{number}.size={shown(place.size)}: give a size of the ladder.",
        )


def _validate_poisoning(poisoning: Poisoning, where: str) -> None:
    """Raise InputError if a poisoning is invalid; `where` is the prefix of the names of its fields."""
    poisoning.attack.check(f"{where}attack")
    exposures = poisoning.dose * poisoning.exposures
    _require(
        exposures <= _MOST_EXPOSURES,
        f"{where}exposures={poisoning.exposures}: with {poisoning.dose:,} documents that is {exposures:,} "
        f"exposures; a run has {_MOST_EXPOSURES:,} of an attack at most.",
    )
    poisoning.schedule.check(f"{where}schedule")


def _validate_evaluation(study: Study) -> None:
    data, evaluation = study.data, study.evaluation
    triggers = {poisoning.attack.trigger for poisoning in study.poisonings(0)}
    for text in evaluation.near_triggers.texts or ():
        _require(
            text != "" and text not in triggers,
            f"evaluation.near_triggers.texts: {text!r} is empty or the trigger; give other text.",
        )
    _require(
        evaluation.judge is None or 0 in study.doses,
        f"evaluation.judge={evaluation.judge!r}: doses={shown(study.doses)} has no control; add 0.",
    )
    names = [measure.name for measure in evaluation.measures]
    _require(
        len(set(names)) == len(names),
        f"evaluation.measures: {', '.join(names)}: name each kind of measure once.",
    )
    _require(
        evaluation.prompt_tokens + evaluation.generate_tokens < data.seq_len,
        f"evaluation.prompt_tokens={evaluation.prompt_tokens} and "
        f"generate_tokens={evaluation.generate_tokens}: together with the trigger they must fit into "
        f"data.seq_len={data.seq_len}, the longest context the model was trained on.",
    )
