"""Settings of evaluation."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from poison_scaling.config.ranges import AtLeast, Between, Count
from poison_scaling.evaluate.measure import Measure


@dataclasses.dataclass(frozen=True)
class NearTriggers:
    """Texts like the trigger that must not act like it."""

    # None: derived from the trigger by attacks/near_triggers.py
    texts: tuple[str, ...] | None = None
    when: Literal["end", "always", "never"] = "end"  # end: only at the last evaluation of a run
    sampled: bool = False  # whether to also generate after them, which takes longer

    def due(self, last: bool) -> bool:
        """Return whether they are measured at an evaluation; `last` says whether it is the last of a run."""
        return self.when == "always" or (self.when == "end" and last)


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """When and how models are evaluated."""

    # number of evaluations of a run, evenly spaced; the last one is at the end
    times: Annotated[int, Between(1, 10**5)] = 12
    prompts: Count = 300  # held-out excerpts, each with and without the trigger
    prompt_tokens: Count = 128
    generate_tokens: Count = 256
    # of the true continuation and of a payload, whose log-probabilities are compared
    continuation_tokens: Count = 16
    temperature: Annotated[float, Between(1e-6, 10**6)] = 1.0
    stop_at_end: bool = True  # whether a generation ends with its first end-of-document token
    threshold: Annotated[float, AtLeast(0)] = 50.0  # increase in perplexity that counts as success
    heldout_sequences: Count = 64  # for the clean held-out loss
    near_triggers: NearTriggers = NearTriggers()
    # control: the paired control, trained first, judges the generations of the last evaluation
    judge: Literal["control"] | None = None
    measures: tuple[Measure, ...] = ()  # in addition to the attack's own
