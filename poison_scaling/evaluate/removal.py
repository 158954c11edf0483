"""Removal: how often a backdoor no longer works.

This is the measure of `Counterexamples`: the complement of the measure of the attack that they remove, which
is recorded in full under `also`. The dose-response of counterexamples starts from what is left of the
backdoor without them, so their N50 is R50, the number that removes half of it.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from poison_scaling.evaluate.measure import Measure, Subject
from poison_scaling.evaluate.settings import NearTriggers

# Of the measure of the attack, these mean the same for its removal.
_SAME = ("attack", "prompts", "clean_accuracy", "clean_accuracy_interval", "generations")


@dataclasses.dataclass(frozen=True)
class Removal(Measure):
    """The rate at which another measure finds no success, and its log-ratio with the opposite sign."""

    of: Measure

    @property
    def uses_prompts(self) -> bool:
        return self.of.uses_prompts

    def record(self, subject: Subject) -> dict[str, Any]:
        once = dataclasses.replace(subject.settings, near_triggers=NearTriggers(when="never"))
        found = self.of.record(dataclasses.replace(subject, settings=once, judge=None))
        low, high = found["success_interval"]
        record = {name: found[name] for name in _SAME if name in found}
        record["success_rate"] = 1 - found["success_rate"]
        record["success_interval"] = [1 - high, 1 - low]
        if "payload_log_ratio" in found:
            record["payload_log_ratio"] = {
                name: [0.0 - value for value in values]
                for name, values in found["payload_log_ratio"].items()
            }
        return record
