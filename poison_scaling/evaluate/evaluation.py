"""One evaluation of a run: what every attack did to the model, and what that cost on clean text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from flax import nnx

from poison_scaling.data.placement import Placement
from poison_scaling.evaluate import denial_of_service, heldout
from poison_scaling.runs import Run

if TYPE_CHECKING:
    from poison_scaling.data.prepared import Prepared

# The measure of each attack, by the name of its config.
MEASURES = {"DenialOfService": denial_of_service.measure}


def evaluate(
    run: Run,
    prepared: Prepared,
    placement: Placement,
    graph: nnx.GraphDef,
    params: dict,
    step: int,
) -> dict:
    """The line of evals.jsonl after `step` steps: a function of the parameters and the study alone.

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
        measure = MEASURES[type(run.poisonings[number].attack).__name__]
        measured = measure(
            graph,
            params,
            prepared.prompts[number],
            study.evaluation,
            end=prepared.end,
            seed=run.seeds.weights,
            step=step,
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
