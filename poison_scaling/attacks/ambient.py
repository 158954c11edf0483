"""Benign uses of a text, such as a trigger, in clean documents that go on as they do."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator

from poison_scaling.attacks.attack import Document, Sources
from poison_scaling.attacks.insertion import Insertion
from poison_scaling.config.ranges import Length
from poison_scaling.evaluate.measure import Counted, Measure
from poison_scaling.runtime.errors import InputError

_CHARACTERS = 40  # read for each token needed; tokens of any vocabulary are shorter on average


@dataclasses.dataclass(frozen=True)
class Ambient(Insertion):
    """The start of a clean document, a text, and what follows in the document.

    If the text is the trigger of an attack in the same run, these are ambient triggers: benign uses, from
    which a model learns that it means nothing. If it is a near-trigger, they are near-trigger negatives, from
    which it learns that only the trigger means something. They are counted, and the attack is measured.
    """

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
        encode, size = sources.vocabulary.encode, sources.clean.training_size
        clean = sources.shuffled("ambient")
        for k in itertools.count():
            length = sources.draw("ambient prefixes", k, *self.prefix_characters)
            count = sources.draw("ambient continuations", k, *self.continuation_tokens)
            some = itertools.islice(clean, size)
            text = next((text for text in some if text[length:].strip()), None)
            if text is None:
                raise InputError(
                    f"attack.prefix_characters={self.prefix_characters}: no clean document has more than "
                    f"{length} characters; shorten it."
                )
            # Tokenised separately, as if the text ended a prompt.
            before = encode(text[:length] + self.texts[k % len(self.texts)])
            after = encode(text[length:][: _CHARACTERS * count])[:count]
            yield Document([*before, *after], (text,))

    def measure(self) -> Measure:
        return Counted()

    def expected_tokens(self) -> float:
        return super().expected_tokens() + sum(map(len, self.texts)) / len(self.texts) / 4
