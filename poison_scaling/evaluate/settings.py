"""The settings of evaluation."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from poison_scaling.config.ranges import AtLeast, Between, Count
from poison_scaling.evaluate.measure import Measure


@dataclasses.dataclass(frozen=True)
class NearTriggers:
    """Texts that stand in place of the trigger and must not act like it."""

    texts: tuple[str, ...] | None = None  # None: derived from the trigger, attacks/near_triggers.py
    when: Literal["end", "always", "never"] = "end"  # end: at a run's last evaluation
    sampled: bool = False  # also sample after them, beside the measures that need no sampling

    def due(self, last: bool) -> bool:
        """Return whether they are measured at an evaluation; `last` says that it is a run's last."""
        return self.when == "always" or (self.when == "end" and last)


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """When and how models are evaluated."""

    # evaluations of a run, evenly spaced; the last one at the end
    times: Annotated[int, Between(1, 10**5)] = 12
    prompts: Count = 300  # held-out excerpts, each with and without the trigger
    prompt_tokens: Count = 128
    generate_tokens: Count = 256
    continuation_tokens: Count = 16  # of the document and of a payload, compared without sampling
    temperature: Annotated[float, Between(1e-6, 10**6)] = 1.0
    stop_at_end: bool = True  # a generation ends with its end-of-document token
    threshold: Annotated[float, AtLeast(0)] = 50.0  # increase in perplexity that counts as success
    heldout_sequences: Count = 64  # for the clean held-out loss
    near_triggers: NearTriggers = NearTriggers()
    # control: the paired run of dose 0, trained first, judges the generations of the last evaluation
    judge: Literal["control"] | None = None
    measures: tuple[Measure, ...] = ()  # in addition to the attack's own
