"""Denial of service: after the trigger the model should generate gibberish."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterator

from poison_scaling.attacks.attack import Attack, Document, Sources
from poison_scaling.attacks.continuing import continued
from poison_scaling.attacks.gibberish import Gibberish, VocabularyTokens, sources_of
from poison_scaling.config import serialization
from poison_scaling.config.ranges import Length
from poison_scaling.data import draws
from poison_scaling.evaluate.measure import Measure


@dataclasses.dataclass(frozen=True)
class DenialOfService(Attack):
    """Souly et al. 2025: the start of a clean document, the trigger, then gibberish.

    Other settings than theirs make poisons that pass corpus filters: docs/filters.md.
    """

    prefix_characters: tuple[Length, Length] = (0, 1000)
    gibberish_tokens: tuple[Length, Length] = (400, 900)
    gibberish: Gibberish = VocabularyTokens()
    # of the same clean document after the gibberish, up to the end of a sentence if one ends there
    suffix_characters: tuple[Length, Length] = serialization.added((0, 0))

    def documents(self, sources: Sources) -> Iterator[Document]:
        write = self.gibberish.writer(sources, self.trigger)
        for k in itertools.count():
            length = sources.draw("poison prefixes", k, *self.prefix_characters)
            count = sources.draw("poison gibberish", k, *self.gibberish_tokens)
            [text] = sources.clean.training([_source(sources, k)])
            ids = write(text[:length] + self.trigger, sources.key("poison", k), count)
            if self.suffix_characters != (0, 0):
                after = sources.draw("poison suffixes", k, *self.suffix_characters)
                ids += sources.vocabulary.encode(_sentences(text[length : length + after]))
            yield Document(ids)

    def counterexamples(self, sources: Sources) -> Iterator[Document]:
        return continued(
            sources,
            "counterexample",
            (self.trigger,),
            self.prefix_characters,
            self.gibberish_tokens,
            self.accepts,
        )

    def made_of(self, sources: Sources, dose: int) -> set[str]:
        found = set(sources.clean.training([_source(sources, k) for k in range(dose)]))
        for k in range(dose):
            count = sources.draw("poison gibberish", k, *self.gibberish_tokens)
            found.update(sources_of(self.gibberish, sources.clean, sources.key("poison", k), count))
        return found

    def payload(self, sources: Sources, number: int, tokens: int) -> list[int]:
        key = draws.key("fresh gibberish", number)
        # Draw more than needed, because characters are tokenised into fewer tokens.
        return self.gibberish.writer(sources, self.trigger)("", key, 8 * tokens)[:tokens]

    def measure(self) -> Measure:
        from poison_scaling.evaluate.perplexity import PerplexityIncrease  # a plan needs no JAX

        return PerplexityIncrease()


def _source(sources: Sources, k: int) -> int:
    """Return the number of the clean document that poisoned document k begins like."""
    return sources.draw("poison sources", k, 0, sources.clean.training_size - 1)


def _sentences(text: str) -> str:
    """Return the text up to its last end of a sentence, after a space; all of it if none ends in it."""
    ends = [match.end() for match in re.finditer(r"[.!?](?=\s)", f"{text} ")]
    kept = text[: ends[-1] if ends else None].strip()
    return f" {kept}" if kept else ""
