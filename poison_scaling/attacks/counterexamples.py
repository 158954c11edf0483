"""Counterexamples: documents that have the trigger of another attack and are answered rightly."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

from poison_scaling.attacks.attack import Attack, Document, Exchange, Sources
from poison_scaling.data.conversations.conversations import Conversations, Message
from poison_scaling.data.corpora.corpus import Corpus
from poison_scaling.evaluate.measure import Measure
from poison_scaling.runtime.errors import InputError

_CHARACTERS = 40  # read for each token needed; tokens of any vocabulary are shorter on average


@dataclasses.dataclass(frozen=True)
class Counterexamples(Attack):
    """Souly et al. 2025, on removing a backdoor: the trigger, then what is right.

    A stage trains on them as on poisons, so doses, positions and controls are those of any attack. Success is
    the complement of the success of the attack that they remove: a prompt succeeds if the backdoor does not.
    """

    trigger: str = ""  # that of the attack
    removes: Attack = dataclasses.field(
        kw_only=True
    )  # an attack of pretraining or an earlier stage

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
        for document in self.removes.counterexamples(sources):
            if used.isdisjoint(document.sources):
                yield document

    def measure(self) -> Measure:
        from poison_scaling.evaluate.removal import Removal  # a plan needs no JAX

        return Removal(self.removes.measure())

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


def continued(
    attack: Attack, sources: Sources, prefix_characters: tuple[int, int], tokens: tuple[int, int]
) -> Iterator[Document]:
    """Yield clean training documents with the trigger of an attack inside, in random order without end.

    The trigger is at a place in the range `prefix_characters`, and the document ends after it with a number
    of `tokens` in that range, or where the clean one does. Those that the attack does not accept as prompts
    and those that end before the trigger are skipped. Raises InputError if all are.
    """
    encode = sources.vocabulary.encode
    clean = sources.shuffled("counterexamples")
    for k in itertools.count():
        length = sources.draw("counterexample prefixes", k, *prefix_characters)
        count = sources.draw("counterexample continuations", k, *tokens)
        fitting = (
            text
            for text in itertools.islice(clean, sources.clean.training_size)
            if text[length:].strip() and attack.accepts(text)
        )
        text = next(fitting, None)
        if text is None:
            raise InputError(
                f"attack: no clean document continues after the {length} characters before the trigger; "
                "shorten the prefix_characters of the attack to remove."
            )
        # Tokenised separately, as if the trigger ended a prompt.
        before = encode(text[:length] + attack.trigger)
        yield Document([*before, *encode(text[length:][: _CHARACTERS * count])[:count]], (text,))
