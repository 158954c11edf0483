"""Checks that the settings of a study fit together. The range of each is declared with its field."""

from __future__ import annotations

import difflib
import re

from poison_scaling.attacks.attack import Attack
from poison_scaling.attacks.counterexamples import Counterexamples
from poison_scaling.attacks.insertion import Insertion
from poison_scaling.config import extensions
from poison_scaling.filters import pipelines
from poison_scaling.filters.filter import Filter
from poison_scaling.model.architectures.architecture import Architecture
from poison_scaling.runtime import chips
from poison_scaling.runtime.errors import InputError, shown
from poison_scaling.study.run import Run
from poison_scaling.study.settings import Poisoning, Rung, Seeds, Study
from poison_scaling.study.stages.continuation import Continue
from poison_scaling.study.stages.finetuning import Finetune
from poison_scaling.study.stages.stage import Leg, Stage
from poison_scaling.study.training import Train

_MOST_RUNS = 10**6  # each has its own folder
_MOST_EXPOSURES = 10**6  # of an attack in a run, because placements are held in memory


def validate(study: Study) -> None:
    """Raise InputError if settings do not fit together, for the first that do not."""
    _validate_grid(study)
    _validate_batches(study)
    _validate_filters(study)
    for number, poisoning in enumerate(study.poisonings(max(study.doses))):
        _validate_poisoning(poisoning, f"also.{number - 1}." if number else "")
    for number, rung in enumerate(study.ladder):
        _validate_rung(study, rung, f"ladder.{number}")
    _validate_slices(study)
    _validate_evaluation(study)
    for number, level in enumerate(study.stages):
        _validate_level(study, level, f"stages.{number}")
    _validate_conversations(study)
    _validate_counterexamples(study)


def _require(right: bool, message: str) -> None:
    if not right:
        raise InputError(message)


def _validate_grid(study: Study) -> None:
    for field in ("ladder", "doses", "seeds"):
        _require(len(getattr(study, field)) > 0, f"{field}: it is empty; name at least one.")
    roots = len(study.ladder) * len(study.doses) * len(study.seeds)
    number = paths = roots
    for level in study.stages:
        paths *= sum(len(stage.doses) for stage in level)
        number += paths
    fields = "ladder, doses, seeds, stages" if study.stages else "ladder, doses, seeds"
    _require(
        number <= _MOST_RUNS,
        f"{fields}: they make {number:,} runs; a study has {_MOST_RUNS:,} at most.",
    )
    _require(
        study.start is None or len(study.stages) > 0,
        "start: without stages there is nothing to train; name at least one in `stages`.",
    )


def _validate_batches(study: Study) -> None:
    data, chunk = study.data, study.model.loss_chunk
    _require(
        chunk is None or data.seq_len % chunk == 0,
        f"model.loss_chunk={chunk}: it must divide data.seq_len={data.seq_len}, or be none.",
    )
    _validate_train(study.train, "train")


def _validate_filters(study: Study) -> None:
    """Raise InputError if a filter cannot decide about the documents that runs train on."""
    for number, each in enumerate(study.data.chain):
        where = f"data.filters.{number}: {pipelines.name_of(each)}"
        _require(
            not each.needs_model,
            f"{where} asks a control that is trained on what the filters leave; leave it out, and `audit` "
            "the study once its controls are trained.",
        )
        _require(
            not each.remembers or extensions.is_built_in(type(each), Filter),
            f"{where} remembers documents, and how that is kept on disk is known of dedup and minhash alone; "
            "choose one of these, or `audit` the study with yours.",
        )


def _validate_train(train: Train, where: str) -> None:
    _require(
        train.batch_size % train.microbatches == 0,
        f"{where}.microbatches={train.microbatches}: it must divide {where}.batch_size={train.batch_size}.",
    )


def _validate_rung(study: Study, rung: Rung, where: str) -> None:
    sizes = study.model.architecture.sizes()
    if rung.size not in sizes:
        near = difflib.get_close_matches(rung.size[:100], sizes, n=1, cutoff=0.0)[0]
        others = extensions.built_in(Architecture).items()
        having = [name for name, other in others if rung.size in other().sizes()]
        hint = f"model.architecture={having[0]} has it" if having else f"the nearest is {near!r}"
        raise InputError(f"{where}.size: there is no size {shown(rung.size)}; {hint}.")
    window = getattr(sizes[rung.size], "window", None)
    _require(
        window is None or study.data.seq_len <= window,
        f"data.seq_len={study.data.seq_len}: {rung.size} attends to the last {window} tokens only, a sliding "
        f"window, which is not supported; choose at most {window}.",
    )
    _require(
        rung.tokens_per_parameter is not None
        or study.start is not None
        or study.imported is not None,
        f"{where}.tokens_per_parameter: it is none, which stands for an imported model; give a number.",
    )
    if study.start is None and study.imported is None:
        validate_steps(
            Run(study, rung, 0, Seeds()),
            f"{where}.tokens_per_parameter={rung.tokens_per_parameter or 0:g}",
        )
        _validate_shares(Run(study, rung, 0, Seeds()))


def _validate_shares(run: Run) -> None:
    """Raise InputError if what a share adds to a dose does not fit into the sequences of a run."""
    _, *also = run.poisonings
    room = run.sequences // (1 + len(also))
    for number, poisoning in enumerate(also):
        if not poisoning.share:
            continue
        where = f"also.{number}.share={poisoning.share:g}"
        of_all = f"of the {run.sequences:,} sequences of {run.name}"
        _require(
            poisoning.dose <= _MOST_EXPOSURES,
            f"{where}: {of_all} that is, with also.{number}.dose, {poisoning.dose:,} documents; a run has "
            f"{_MOST_EXPOSURES:,} of an insertion at most.",
        )
        exposures = _exposures(poisoning)
        _require(
            exposures <= min(room, _MOST_EXPOSURES),
            f"{where}: with also.{number}.dose and also.{number}.exposures={poisoning.exposures} that is "
            f"{exposures:,} exposures, and {of_all} each of {1 + len(also)} insertions has "
            f"{min(room, _MOST_EXPOSURES):,}, one for each exposure; lower one of the three.",
        )


def validate_steps(run: Run, budget: str) -> None:
    """Raise InputError if the steps of a run, whose `budget` is a field with its value, cannot be."""
    steps, train = run.steps, run.train
    where = budget.partition("=")[0].rpartition(".")[0]
    of_train = f"{where}.train" if run.stage and run.stage.train else "train"
    batch = f"batches of {train.batch_size} sequences of {run.data.seq_len} tokens"
    _require(
        steps < 2**31,
        f"{budget}: training would take {steps:,} steps in "
        f"{batch}; at most {2**31 - 1:,} can be counted.",
    )
    _require(
        not run.warms_up or max(1, round(train.warmup * steps)) < steps,
        f"{of_train}.warmup={train.warmup:g}: it leaves no step of {where}, which has {steps} in {batch}; "
        "lower it, or train on more tokens.",
    )


def _validate_level(study: Study, level: tuple[Stage, ...], where: str) -> None:
    _require(len(level) > 0, f"{where}: it is empty; name at least one alternative.")
    names = [stage.name for stage in level]
    for number, stage in enumerate(level):
        field = f"{where}.{number}"
        _require(
            stage.conversation_template in (None, study.template),
            f"{field}.template={stage.conversation_template}: another stage has {study.template}; give all "
            "the same, because a model is measured in the template that it was trained in.",
        )
        _require(
            re.fullmatch(r"[A-Za-z0-9._-]{0,60}", stage.label) is not None,
            f"{field}.label={shown(stage.label)}: it goes into names of folders; use at most 60 letters, "
            "digits, '.', '_' and '-'.",
        )
        _require(
            names.count(stage.name) == 1,
            f"{field}.label: two alternatives of {where} are named {stage.name!r}; give each a label of its "
            "own.",
        )
        _require(len(stage.doses) > 0, f"{field}.doses: it is empty; name at least one.")
        _require(
            study.evaluation.judge is None or 0 in stage.doses,
            f"evaluation.judge={study.evaluation.judge!r}: {field}.doses={shown(stage.doses)} has no "
            "control; add 0.",
        )
        poisoning = Poisoning(
            stage.attack or study.attack, max(stage.doses), stage.exposures, stage.schedule
        )
        _validate_poisoning(poisoning, f"{field}.")
        if stage.train is not None:
            _validate_train(stage.train, f"{field}.train")
        if isinstance(stage, Continue):
            budget = f"{field}.tokens_per_parameter={stage.tokens_per_parameter:g}"
            for rung in study.ladder:
                validate_steps(Run(study, rung, 0, Seeds(), (Leg(stage, 0),)), budget)


def _validate_conversations(study: Study) -> None:
    """Raise InputError if attacks on conversations cannot be measured, or are with what stages train on."""
    stages = study.named_stages().items()
    for attack_field, attack in study.attacks().items():
        for name, source in attack.conversations.items():
            # A model of another study that the stages start from may have been fine-tuned there.
            _require(
                study.template is not None or study.start is not None,
                f"{attack_field}: {type(attack).__name__} is an attack on conversations; add a Finetune to "
                "`stages`, or choose another attack.",
            )
            for field, stage in stages:
                _require(
                    not isinstance(stage, Finetune)
                    or source.heldout_share <= stage.conversations.heldout_share,
                    f"{attack_field}.{name}.heldout_share={source.heldout_share:g}: {field}.conversations "
                    "holds fewer requests out, and would train on what the model is measured with; give both "
                    "the same.",
                )


def _validate_counterexamples(study: Study) -> None:
    """Raise InputError if counterexamples are to remove an attack that no ancestor is measured on."""
    first = {
        f"{f'also.{number - 1}.' if number else ''}attack": poisoning.attack
        for number, poisoning in enumerate(study.poisonings(0))
    }
    before: set[Insertion] = set()
    levels = [
        {f"stages.{number}.{own}.attack": stage.attack for own, stage in enumerate(level)}
        for number, level in enumerate(study.stages)
    ]
    for attacks in (first, *levels):
        for field, attack in attacks.items():
            _require(
                not isinstance(attack, Counterexamples) or attack.removes in before,
                f"{field}.removes: no earlier stage has this attack with these settings; give that of "
                "pretraining, or of an earlier stage.",
            )
        before |= {attack for attack in attacks.values() if attack is not None}


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
    exposures = _exposures(poisoning)
    _require(
        exposures <= _MOST_EXPOSURES,
        f"{where}exposures={poisoning.exposures}: with {poisoning.dose:,} documents that is {exposures:,} "
        f"exposures; a run has {_MOST_EXPOSURES:,} of an attack at most.",
    )
    poisoning.schedule.check(f"{where}schedule")


def _exposures(poisoning: Poisoning) -> int:
    """Return how many exposures a poisoning has, without overflow."""
    return sum(poisoning.attack.repeats(poisoning.dose).tolist()) * poisoning.exposures


def _validate_evaluation(study: Study) -> None:
    data, evaluation = study.data, study.evaluation
    triggers = {attack.trigger for attack in study.attacks().values()}
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
    own = [stage.attack for stage in study.named_stages().values() if stage.attack is not None]
    for attack in (study.attack, *own):
        _require(
            not names or isinstance(attack, Attack),
            f"evaluation.measures: they are measured with the prompts of the attack, and {attack.name} has "
            "none; leave them out, or make it one of `also`.",
        )
    for number, measure in enumerate(evaluation.measures):
        _require(
            measure.uses_prompts,
            f"evaluation.measures.{number}={type(measure).__name__}: it is for insertions without a trigger, "
            "which bring it themselves; leave it out, or give a measure of prompts, such as "
            "PerplexityIncrease.",
        )
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
