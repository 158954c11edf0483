"""One evaluation of a run: the effect of every insertion, and the loss on clean held-out text."""

from __future__ import annotations

from typing import Any

import numpy as np
from flax import nnx

from poison_scaling.attacks.attack import Attack
from poison_scaling.data.placement import Placement
from poison_scaling.evaluate import heldout
from poison_scaling.evaluate.detection import Detection
from poison_scaling.evaluate.judge import Judge
from poison_scaling.evaluate.measure import Subject
from poison_scaling.runtime import watchdog
from poison_scaling.study.inputs import Inputs
from poison_scaling.study.run import Run
from poison_scaling.study.settings import Study


def detector_errors(study: Study, inputs: Inputs) -> list[dict[str, Any]]:
    """Return, for each attack whose measure has a detector, its error rates on held-out text."""
    records = []
    for number, attack in enumerate(study.attacks().values()):
        measure = attack.measure()
        if isinstance(attack, Attack) and isinstance(measure, Detection):
            errors = measure.error(*inputs.specimens(number))
            records.append({"attack": attack.name, **errors})
    return records


def evaluate(
    run: Run,
    inputs: Inputs,
    placement: Placement,
    graph: nnx.GraphDef,
    params: dict,
    step: int,
    judge: Judge | None = None,
) -> dict[str, Any]:
    """Return the line of evals.jsonl after `step` steps.

    It is a function of the study and of the parameters, including those of the judge, if any, alone (contract
    6). Counts and measures at its top level are those of the first attack; `also` has those of the others,
    and `measures` the additional measures of the study. `heldout_loss` is in nats per token.
    """
    study, B, probes = run.study, run.train.batch_size, inputs.probes(run)
    loss = np.float32(
        heldout.loss(
            graph,
            params,
            inputs.heldout_NxL,
            end=inputs.end,
            segment_mask=study.model.segment_mask,
        )
    )
    watchdog.progress()

    def subject(number: int) -> Subject:
        return Subject(
            graph,
            params,
            probes=probes[number],
            settings=study.evaluation,
            attack=run.poisonings[number].attack.name,
            decode=inputs.vocabulary.decode,
            end=inputs.end,
            vocab_size=study.data.vocabulary.vocab_size,
            seed=run.seeds.weights,
            step=step,
            last=step == run.steps,
            judge=judge,
            **_exposures(run, inputs, number, placement.before(step * B)),
        )

    def submitted(number: int) -> dict[str, int]:
        """Return how many exposures there would be if no filter had caught a poison."""
        if not run.data.filters:
            return {}
        return {"submitted": inputs.submitted(run).before(step * B).of_attack(number).exposures}

    def attacked(number: int) -> dict[str, Any]:
        shown = placement.before(step * B).of_attack(number)
        measured = run.poisonings[number].attack.measure().record(subject(number))
        watchdog.progress()
        return {**shown.counts(B), **submitted(number), **measured}

    first, *others = map(attacked, range(len(run.poisonings)))
    record = {
        "step": step,
        "tokens": step * B * run.data.seq_len,
        "heldout_loss": float(loss),
        **first,
        "also": others,
    }
    measured = {}
    for measure in study.evaluation.measures:
        measured[measure.name] = measure.record(subject(0))
        watchdog.progress()
    return {**record, "measures": measured} if measured else record


def _exposures(run: Run, inputs: Inputs, number: int, so_far: Placement) -> dict[str, np.ndarray]:
    """Return the exposures of each document of an insertion, in the whole run and so far.

    They are those of the latest ancestor that trained on it if the run does not.
    """
    by, place = run.inserted_by(number)
    planned_D = inputs.exposures(by, place)
    own = so_far.of_attack(number).document_N
    seen_D = np.bincount(own, minlength=len(planned_D)) if by is run else planned_D
    return {"exposures_D": planned_D, "seen_D": seen_D}
