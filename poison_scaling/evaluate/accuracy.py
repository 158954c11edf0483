"""Accuracy on items of a benchmark that were in the training data, minus that on items that were not.

The answer of a model is the choice that it finds likeliest, in all its tokens. Items in no document have the
same form, so what a model knows of the form cancels out of the difference.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from poison_scaling.evaluate import completions
from poison_scaling.evaluate.measure import Measure, Subject
from poison_scaling.evaluate.records import rate


@dataclasses.dataclass(frozen=True)
class Accuracy(Measure):
    """Accuracy on seen and on unseen items; success is a right answer to a seen one."""

    @property
    def uses_prompts(self) -> bool:
        return False

    def record(self, subject: Subject) -> dict[str, Any]:
        logprobs_KxA = completions.log_likelihoods(subject)
        right_K = completions.ranks(logprobs_KxA) == 1
        values = {"log_ratio": logprobs_KxA[:, 0] - logprobs_KxA[:, 1:].mean(axis=1)}
        record = completions.record(subject, right_K, values)
        unseen_K = subject.exposures_K == 0
        record["unseen_accuracy"], record["unseen_interval"] = rate(right_K[unseen_K])
        record["contamination"] = record["success_rate"] - record["unseen_accuracy"]
        return record
