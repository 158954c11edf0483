"""One evaluation of a run: what every attack did to the model, and what that cost on clean text."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from flax import nnx

from poison_scaling.config import Attack, DenialOfService, LanguageSwitch, Study
from poison_scaling.data.placement import Placement
from poison_scaling.errors import InputError
from poison_scaling.evaluate import denial_of_service, heldout, language_switch, responses
from poison_scaling.evaluate.judge import Judge
from poison_scaling.runs import Run

if TYPE_CHECKING:
    from poison_scaling.data.prepared import Prepared

# The measure of each attack, by the class of its config.
_measures: dict[type[Attack], Callable[..., dict]] = {
    DenialOfService: denial_of_service.measure,
    LanguageSwitch: language_switch.measure,
}


def register(attack: type[Attack]):
    """Decorator of the measure of an attack: called as `responses.DetectedBy` is."""

    def registered(measure):
        _measures[attack] = measure
        return measure

    return registered


def measure_of(attack: Attack) -> Callable[..., dict]:
    """Raises InputError where nothing is registered for the attack."""
    if type(attack) not in _measures:
        raise InputError(
            f"attack {type(attack).__name__}: nothing measures what it does; register a function for it, "
            "see docs/attacks.md."
        )
    return _measures[type(attack)]


def detector_errors(study: Study, prepared: Prepared) -> list[dict]:
    """Of each attack whose measure has a detector, how often that is wrong on held-out text."""
    records = []
    for number, poisoning in enumerate(study.poisonings(0)):
        measure = measure_of(poisoning.attack)
        if isinstance(measure, responses.DetectedBy):
            clean, payload = prepared.specimens(number)
            records.append(measure.error(poisoning.attack, clean, payload))
    return records


def evaluate(
    run: Run,
    prepared: Prepared,
    placement: Placement,
    graph: nnx.GraphDef,
    params: dict,
    step: int,
    judge: Judge | None = None,
) -> dict:
    """The line of evals.jsonl after `step` steps: a function of the parameters (and those of the judge, if
    there is one) and the study alone.

    Its counts and measures are of the first attack; `also` has those of the others. `heldout_loss` is in
    nats a token.
    """
    study, B = run.study, run.study.train.batch_rows
    loss = heldout.loss(
        graph,
        params,
        prepared.heldout_NxL,
        end=prepared.end,
        segment_mask=study.model.segment_mask,
    )

    def attacked(number: int) -> dict:
        shown = placement.before(step * B).of_attack(number)
        attack = run.poisonings[number].attack
        measured = measure_of(attack)(
            graph,
            params,
            prepared.prompts[number],
            study.evaluation,
            attack=attack,
            decode=prepared.vocabulary.decode,
            end=prepared.end,
            pieces=study.data.vocabulary.pieces,
            seed=run.seeds.weights,
            step=step,
            last=step == run.steps,
            judge=judge,
        )
        return {
            "poisons": shown.showings,
            "distinct_poisons": shown.documents,
            "poison_tokens": shown.tokens,
            "poisoned_steps": shown.steps(B),
            **measured,
        }

    first, *others = map(attacked, range(len(run.poisonings)))
    return {
        "step": step,
        "tokens": step * B * study.data.row_tokens,
        "heldout_loss": float(np.float32(loss)),
        **first,
        "also": others,
    }
