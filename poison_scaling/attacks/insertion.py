"""The base class of insertions: text that is put at known places in the training data, and its measure.

An attack is an insertion with a trigger (`attacks.attack`). Others have none: a secret that a model may
memorise, a false fact, an item of a benchmark.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from poison_scaling.config import serialization
from poison_scaling.config.extensions import extensible
from poison_scaling.data.conversations.conversations import Conversations
from poison_scaling.data.corpora.corpus import Corpus
from poison_scaling.evaluate.measure import Measure, snake_case
from poison_scaling.runtime.errors import InputError

if TYPE_CHECKING:
    from poison_scaling.attacks.attack import Document, Sources
    from poison_scaling.evaluate.items import Items


@extensible("attack", required=("documents", "measure"), default="DenialOfService")
@dataclasses.dataclass(frozen=True)
class Insertion:
    """Base class of insertions. Extend it with a frozen dataclass: docs/insertions.md.

    A field that is a pair of integers is a range, both ends included, from which each document draws
    uniformly; its name ends with the unit, characters or tokens. Other fields may declare their valid ranges,
    as those of this package do (`config.ranges`).
    """

    # of its documents, in model cards: "32 poisoned documents"
    plural: ClassVar[str] = "inserted documents"

    # ------------------------------------------------------------------------------ to be overridden

    def documents(self, sources: Sources) -> Iterator[Document]:
        """Yield distinct documents, without end or as many as there are.

        A run takes as many as its dose, so doses share their first documents, and no document may depend on
        the number of documents.
        """
        raise NotImplementedError

    def measure(self) -> Measure:
        """Return the measure of what the insertion did to a model."""
        raise NotImplementedError

    def items(self, sources: Sources, count: int) -> Items | None:
        """Return what a model is measured with, if that depends on documents 0...count-1.

        None means that its exposures are counted and nothing is measured, or, for an attack, that it is
        measured with prompts.
        """
        return None

    def repeats(self, count: int) -> np.ndarray:
        """Return how often each of documents 0...count-1 is shown, int64 [count], before `exposures` multiply
        it; how often one is shown may not depend on their number.
        """
        return np.ones(count, np.int64)

    @property
    def corpora(self) -> dict[str, Corpus]:
        """The corpora that the insertion needs in addition to the clean documents, by name of the field."""
        return {}

    @property
    def conversations(self) -> dict[str, Conversations]:
        """The conversations that the insertion needs, by name of the field."""
        return {}

    # ------------------------------------------------------------------------------ the same for all

    @property
    def trigger(self) -> str | None:
        """The text that activates what was inserted; None if there is none."""
        return None

    @property
    def name(self) -> str:
        """The name in records: "denial_of_service"."""
        return snake_case(type(self).__name__)

    @property
    def is_backdoor(self) -> bool:
        """Whether the model is to do something after the trigger that it should not do."""
        return self.trigger is not None

    @property
    def has_requests(self) -> bool:
        """Whether the insertion is into conversations."""
        return bool(self.conversations)

    def ranges(self) -> dict[str, tuple[int, int]]:
        """Return the fields that are pairs of integers, by name."""
        types = serialization.field_types(type(self))
        return {name: getattr(self, name) for name, of in types.items() if of == tuple[int, int]}

    def check(self, where: str) -> None:
        """Raise InputError if a field is invalid; `where` is the name of its field in the study: "attack"."""
        for name, (low, high) in self.ranges().items():
            if not 0 <= low <= high:
                raise InputError(
                    f"{where}.{name}={(low, high)}: give the least and the most, neither negative."
                )

    def expected_tokens(self) -> float:
        """Return the estimated mean number of tokens of a document, which needs no vocabulary.

        It assumes 4 characters of text per token, and one token for each id of another vocabulary.
        """
        ranges = self.ranges().items()
        text = len(self.trigger or "")
        text += sum(sum(r) / 2 for n, r in ranges if n.endswith("_characters"))
        separators = 2
        return text / 4 + sum(sum(r) / 2 for n, r in ranges if n.endswith("_tokens")) + separators
