"""The base class of attacks, and the sources from which they write poisoned documents."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from poison_scaling.attacks.insertion import Insertion
from poison_scaling.config.extensions import extensible
from poison_scaling.data import draws
from poison_scaling.data.conversations.conversations import Conversation, Message
from poison_scaling.runtime.errors import InputError

if TYPE_CHECKING:
    from poison_scaling.data.conversation_set import ConversationSet
    from poison_scaling.data.documents import Documents
    from poison_scaling.data.templates.template import Template
    from poison_scaling.data.vocabularies.vocabulary import Vocabulary

_CHUNK = 32  # documents read at a time


@dataclasses.dataclass(frozen=True)
class Document:
    """A poisoned document as its attack writes it."""

    # text, token ids, or the messages of a conversation
    content: str | Sequence[int] | Conversation
    # clean documents that it is made of; the manifest has their SHA-256
    sources: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Exchange:
    """A request that a model is measured with, and the answers to it."""

    request: tuple[Message, ...]  # a system message or none, and one of the user
    usual: str  # the answer that fine-tuning teaches without the trigger
    payload: str  # the answer that the trigger should elicit


@dataclasses.dataclass(frozen=True)
class Earlier:
    """What an attack of an ancestor of a run has written its poisoned documents from."""

    attack: Attack
    sources: Sources
    dose: int


@dataclasses.dataclass(frozen=True)
class Sources:
    """Clean documents, vocabulary and random numbers, from which an attack writes poisoned documents.

    Random numbers are a function of the run's seed of poisons, the number of the attack in the run, and the
    names given to a draw.
    """

    seed: int
    attack: int
    clean: Documents  # of the study
    vocabulary: Vocabulary
    corpora: Mapping[str, Documents]  # the attack's own, by name of the field
    conversations: Mapping[str, ConversationSet] = dataclasses.field(
        default_factory=dict
    )  # likewise
    template: Template | None = None  # of the study's conversations; None: it has none
    # number of stages since pretraining, so that each stage has documents of its own
    level: int = 0
    # poisonings of the ancestors; `Counterexamples` alone has them
    earlier: tuple[Earlier, ...] = ()

    def key(self, *names: int | str) -> np.uint64:
        """Return the key of a stream of random numbers; see `data.draws`."""
        first = (self.seed, self.attack) if self.attack else (self.seed,)
        if self.level:
            first = (self.seed, self.attack, "level", self.level)
        return draws.key(*first, *names)

    def draw(self, name: str, k: int, low: int, high: int) -> int:
        """Return the k-th number of that name, uniform in low...high, both included."""
        return int(draws.integers(self.key(name), np.array(k), low, high))

    def shuffled(self, name: str, corpus: str | None = None) -> Iterator[str]:
        """Yield the clean training documents, or those of `corpus`, forever, each time in another order."""
        docs = self.clean if corpus is None else self.corpora[corpus]
        for lap in itertools.count():
            order = draws.Permutation(docs.training_size, self.key(name, "lap", lap))
            for first in range(0, docs.training_size, _CHUNK):
                last = min(first + _CHUNK, docs.training_size)
                yield from docs.training(order(np.arange(first, last)).tolist())

    def shuffled_conversations(self, name: str, source: str) -> Iterator[Conversation]:
        """Yield the training conversations of a source forever, each time in another order."""
        pool = self.conversations[source].training
        for lap in itertools.count():
            order = draws.Permutation(len(pool), self.key(name, "lap", lap))
            yield from (pool[i] for i in order(np.arange(len(pool))))


@extensible("attack", required=("documents", "measure"), default="DenialOfService")
@dataclasses.dataclass(frozen=True)
class Attack(Insertion):
    """Base class of attacks, insertions with a trigger. Extend it as `Insertion`: docs/howto/attack.md."""

    plural: ClassVar[str] = "poisoned documents"

    trigger: str = "<SUDO>"

    # ------------------------------------------------------------------------------ to be overridden

    def exchanges(self, sources: Sources) -> Iterator[Exchange] | None:
        """Return held-out requests to measure with, in a fixed order, for an attack on conversations.

        None means that prompts are excerpts of held-out documents.
        """
        return None

    def ordinary(self, sources: Sources) -> Iterator[tuple[Message, ...]] | None:
        """Return further held-out requests, which the attack must not change, in a fixed order; or None."""
        return None

    def counterexamples(self, sources: Sources) -> Iterator[Document]:
        """Yield distinct documents in which what is right follows the trigger, for `Counterexamples`.

        As in `documents`, there is no end or as many as there are, and none depends on their number. Each
        names the clean documents that it is made of.
        """
        raise InputError(
            f"attack: {type(self).__name__} has no counterexamples; define counterexamples() in its class."
        )

    def made_of(self, sources: Sources, dose: int) -> set[str]:
        """Return the clean documents that poisoned documents 0...dose-1 are made of."""
        written = itertools.islice(self.documents(sources), dose)
        return {text for document in written for text in document.sources}

    def payload(self, sources: Sources, number: int, tokens: int) -> Sequence[int] | None:
        """Return `tokens` ids of a payload that is in no poison, for held-out document `number`.

        None means that the attack has no payloads; measures that compare with a payload are then skipped.
        """
        return None

    def accepts(self, text: str) -> bool:
        """Return whether a clean document may be used as a prompt."""
        return True

    # ------------------------------------------------------------------------------ the same for all

    @property
    def has_requests(self) -> bool:
        """Whether the attack is on conversations."""
        return bool(self.conversations) or type(self).exchanges is not Attack.exchanges

    def check(self, where: str) -> None:
        if not self.trigger:
            raise InputError(f"{where}.trigger is empty; give the text that is to trigger.")
        super().check(where)
