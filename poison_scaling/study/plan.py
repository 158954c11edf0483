"""The plan of a run: what is known of it before training."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, NotRequired, TypedDict

import numpy as np

from poison_scaling.data.placement import Placement
from poison_scaling.runtime.errors import InputError
from poison_scaling.study.stages.finetuning import Finetune

if TYPE_CHECKING:
    from poison_scaling.study.run import Run


class Dose(TypedDict):
    """The part of a plan about one attack."""

    dose: int  # distinct documents
    exposures: int  # of each document
    schedule: str
    attack: str
    # numbers of exposures and of documents with as many, ascending; only where documents differ in it
    levels: NotRequired[list[tuple[int, int]]]
    # of the run's sequences that have a document of it; only where it is set so
    share: NotRequired[float]
    poison_tokens: float  # an estimate unless exact
    poison_tokens_exact: bool
    poison_share: float  # of the run's tokens
    poisoned_steps: int
    clean_triggers: NotRequired[int]  # ambient triggers trained on; known once the data is prepared
    # distinct documents that data.filters leave, and exposures of them; known once the data is prepared
    survivors: NotRequired[int]
    surviving_exposures: NotRequired[int]


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
    stage: NotRequired[str]  # name of the stage; this and what follows only after pretraining
    optimizer: NotRequired[str]
    steps_exact: NotRequired[
        bool
    ]  # of fine-tuning: whether the number of steps is known, not estimated
    packed_sequences: NotRequired[int | None]  # that the examples of fine-tuning fill
    parent: NotRequired[str]  # name of the run that this one starts from
    parent_hash: NotRequired[str]
    chain_tokens: NotRequired[int]  # of the run and all its ancestors
    chain_flops: NotRequired[float]


def of(run: Run, placed: Placement | None) -> Plan:
    """Return the plan of a run; see `Run.plan`."""
    first, *others = _doses(run, placed)
    tokens = sum(dose["poison_tokens"] for dose in (first, *others))
    if tokens >= 2**31:
        raise InputError(
            f"doses: {tokens:,.0f} tokens of poison in {run.name}; a run counts {2**31 - 1:,} at most; "
            "lower the dose, or its exposures."
        )
    plan: Plan = {
        "run": run.name,
        "hash": run.hash,
        "size": run.rung.size,
        "parameters": run.parameters,
        "tokens": run.tokens,
        "tokens_per_parameter": run.tokens_per_parameter,
        "steps": run.steps,
        "evaluation_steps": run.evaluation_steps,
        "batch_size": run.train.batch_size,
        "seq_len": run.data.seq_len,
        "sequences": run.sequences,
        "seed": run.seeds.label,
        "seeds": dataclasses.asdict(run.seeds),
        **first,
        "also": others,
        "flops": run.flops,
        "learning_rate": run.learning_rate,
    }
    if run.stage and (parent := run.parent):
        chain = [
            (own, steps / own.steps)
            for own, steps in [(run, run.steps), *run.steps_before()]
            if own.steps  # an imported model has none here
        ]
        plan["stage"], plan["optimizer"] = run.stage.name, run.stage.optimizer
        plan["parent"], plan["parent_hash"] = parent.name, parent.hash
        if isinstance(run.stage, Finetune):
            plan["steps_exact"] = run.is_exact
            plan["packed_sequences"] = run.path[-1].packed_sequences
        plan["chain_tokens"] = sum(round(own.tokens * share) for own, share in chain)
        plan["chain_flops"] = sum(own.flops * share for own, share in chain)
    return plan


def _doses(run: Run, placed: Placement | None) -> list[Dose]:
    exact = placed is not None
    placed = placed or run.placement()
    doses: list[Dose] = []
    for number, poisoning in enumerate(run.poisonings):
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
                "poison_share": tokens / run.tokens,
                "poisoned_steps": own.steps(run.train.batch_size),
            }
        )
        exposures, documents = np.unique(poisoning.exposures_D, return_counts=True)
        if (poisoning.attack.repeats(poisoning.dose) != 1).any():
            pairs = zip(exposures.tolist(), documents.tolist(), strict=True)
            doses[-1]["levels"] = list(pairs)
        if poisoning.share:
            doses[-1]["share"] = poisoning.share
    return doses
