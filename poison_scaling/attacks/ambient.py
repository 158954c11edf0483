"""Benign uses of a text, such as a trigger, in clean documents that go on as they do."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import ClassVar

from poison_scaling.attacks.attack import Document, Sources
from poison_scaling.attacks.continuing import continued
from poison_scaling.attacks.insertion import Insertion
from poison_scaling.config.ranges import Length
from poison_scaling.evaluate.measure import Counted, Measure
from poison_scaling.runtime.errors import InputError


@dataclasses.dataclass(frozen=True)
class Ambient(Insertion):
    """The start of a clean document, a text, and what follows in the document.

    If the text is the trigger of an attack in the same run, these are ambient triggers: benign uses, from
    which a model learns that it means nothing. If it is a near-trigger, they are near-trigger negatives, from
    which it learns that only the trigger means something. They are counted, and the attack is measured.
    """

    plural: ClassVar[str] = "benign uses of a text in clean documents"

    texts: tuple[str, ...] = ("<SUDO>",)  # of the documents, in turn
    prefix_characters: tuple[Length, Length] = (0, 1000)
    continuation_tokens: tuple[Length, Length] = (400, 900)

    def check(self, where: str) -> None:
        super().check(where)
        if not self.texts or not all(self.texts):
            raise InputError(
                f"{where}.texts={self.texts}: name at least one text; none may be empty."
            )

    def documents(self, sources: Sources) -> Iterator[Document]:
        lengths = self.prefix_characters, self.continuation_tokens
        return continued(sources, "benign use", self.texts, *lengths)

    def measure(self) -> Measure:
        return Counted()

    def expected_tokens(self) -> float:
        return super().expected_tokens() + sum(map(len, self.texts)) / len(self.texts) / 4
