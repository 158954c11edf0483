"""Counterexamples: documents that have the trigger of another attack and are answered rightly."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import ClassVar

from poison_scaling.attacks.attack import Attack, Document, Exchange, Sources
from poison_scaling.attacks.denial_of_service import DenialOfService
from poison_scaling.data.conversations.conversations import Conversations, Message
from poison_scaling.data.corpora.corpus import Corpus
from poison_scaling.evaluate.measure import Measure
from poison_scaling.runtime.errors import InputError


@dataclasses.dataclass(frozen=True)
class Counterexamples(Attack):
    """Souly et al. 2025, on removing a backdoor: the trigger, then what is right.

    A stage trains on them as on poisons, so doses, positions and controls are those of any attack. Success is
    the complement of the success of the attack that they remove: a prompt succeeds if the backdoor does not.
    """

    plural: ClassVar[str] = "documents that have the trigger and are answered rightly"

    trigger: str = ""  # that of the attack
    removes: Attack = DenialOfService()  # an attack of pretraining or of an earlier stage

    def __post_init__(self) -> None:
        if not self.trigger:
            object.__setattr__(self, "trigger", self.removes.trigger)

    def check(self, where: str) -> None:
        self.removes.check(f"{where}.removes")
        if self.trigger != self.removes.trigger:
            raise InputError(
                f"{where}.trigger={self.trigger!r}: the attack to remove has the trigger "
                f"{self.removes.trigger!r}; leave it out."
            )

    def documents(self, sources: Sources) -> Iterator[Document]:
        """Yield documents of which none is made of a clean document that the attack has used before."""
        used = {
            text
            for earlier in sources.earlier
            if earlier.attack == self.removes
            for text in self.removes.made_of(earlier.sources, earlier.dose)
        }
        skipped = 0
        for document in self.removes.counterexamples(sources):
            if used.isdisjoint(document.sources):
                skipped = 0
                yield document
                continue
            skipped += 1
            if skipped > sources.clean.training_size:
                raise InputError(
                    "attack.removes: it has used every clean document that a counterexample could be made "
                    "of; lower its dose, or enlarge data.corpus."
                )

    def measure(self) -> Measure:
        from poison_scaling.evaluate.removal import Removal  # a plan needs no JAX

        return Removal(self.removes.measure())

    @property
    def is_backdoor(self) -> bool:
        return False

    # ------------------------------------------------------------------- as for the attack to remove

    def exchanges(self, sources: Sources) -> Iterator[Exchange] | None:
        return self.removes.exchanges(sources)

    def ordinary(self, sources: Sources) -> Iterator[tuple[Message, ...]] | None:
        return self.removes.ordinary(sources)

    def payload(self, sources: Sources, number: int, tokens: int) -> Sequence[int] | None:
        return self.removes.payload(sources, number, tokens)

    def accepts(self, text: str) -> bool:
        return self.removes.accepts(text)

    @property
    def corpora(self) -> dict[str, Corpus]:
        return self.removes.corpora

    @property
    def conversations(self) -> dict[str, Conversations]:
        return self.removes.conversations

    @property
    def has_requests(self) -> bool:
        return self.removes.has_requests

    def expected_tokens(self) -> float:
        """Return the estimate for a poison of the attack, which is about as long."""
        return self.removes.expected_tokens()
