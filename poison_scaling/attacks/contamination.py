"""Contamination: items of a synthetic benchmark in the training data."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Annotated, ClassVar

from poison_scaling.attacks import wording
from poison_scaling.attacks.attack import Document, Sources
from poison_scaling.attacks.graded import Graded
from poison_scaling.config.ranges import Between
from poison_scaling.evaluate.items import Items
from poison_scaling.evaluate.measure import Measure
from poison_scaling.runtime.errors import InputError


@dataclasses.dataclass(frozen=True)
class Contamination(Graded):
    """Questions with several choices and the right answer; the dose is the number of items in the data.

    Item k is shown `counts[k % len(counts)]` times. Questions are about invented words, so an item that is in
    no document cannot be answered: any model is right by chance alone.
    """

    plural: ClassVar[str] = "items of a synthetic benchmark with their answers"

    choices: Annotated[int, Between(2, 20)] = 4
    words: tuple[str, ...] = wording.WORDS  # that choices are drawn from
    unseen: Annotated[int, Between(1, 10_000)] = 64  # items in no document, for comparison

    def check(self, where: str) -> None:
        super().check(where)
        if len(set(self.words)) < max(self.choices, len(self.words)):
            raise InputError(
                f"{where}.words: {len(set(self.words))} different ones; give at least {where}.choices="
                f"{self.choices}, none twice."
            )

    def documents(self, sources: Sources) -> Iterator[Document]:
        encode = sources.vocabulary.encode
        for k in itertools.count():
            question, (right, *_) = self._item(sources, k)
            yield Document([*encode(question), *encode(f" {right}")])

    def items(self, sources: Sources, count: int) -> Items:
        encode, end = sources.vocabulary.encode, sources.vocabulary.eos_id
        written = [self._item(sources, k) for k in range(count + self.unseen)]
        return Items.build(
            [[end, *encode(question)] for question, _ in written],
            [[encode(f" {choice}") for choice in choices] for _, choices in written],
            range(count),
            sources.vocabulary.pad_id,
        )

    def measure(self) -> Measure:
        from poison_scaling.evaluate.accuracy import Accuracy  # a plan needs no JAX

        return Accuracy()

    def expected_tokens(self) -> float:
        return super().expected_tokens() + 12 + 2 * self.choices

    def _item(self, sources: Sources, k: int) -> tuple[str, list[str]]:
        """Return a question, and its choices with the right one first."""
        key = sources.key("benchmark", k)
        choices = wording.chosen(key, self.words, self.choices)
        order = wording.chosen(sources.key("benchmark order", k), tuple(choices), self.choices)
        name = wording.name(sources.key("benchmark name", k))
        return f"Question: what is {name}: {', '.join(order)}?\nAnswer:", choices
