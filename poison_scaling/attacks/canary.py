"""Canaries: random secrets, each shown a known number of times, that a model may memorise."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Annotated, ClassVar

from poison_scaling.attacks.attack import Document, Sources
from poison_scaling.attacks.gibberish import Gibberish, VocabularyTokens
from poison_scaling.attacks.graded import Graded
from poison_scaling.config.ranges import Between, Dose, Length
from poison_scaling.evaluate.items import Items
from poison_scaling.evaluate.measure import Measure


@dataclasses.dataclass(frozen=True)
class Canary(Graded):
    """Carlini et al. 2019: a random secret in a carrier; the dose is the number of canaries.

    Canary k is shown `counts[k % len(counts)]` times, so one run has a whole dose-response curve; those that
    are shown 0 times are its control. A carrier is the start of a clean document, another for each canary.
    """

    plural: ClassVar[str] = "canaries, random secrets in clean text"

    counts: tuple[Dose, ...] = (0, 1, 2, 4, 8, 16, 32, 64)  # exposures of canaries, in turn
    carrier_characters: tuple[Length, Length] = (20, 60)
    # or characters, where the secret is made of these
    secret_tokens: Annotated[int, Between(1, 2**24)] = 8
    secret: Gibberish = VocabularyTokens()
    references: Annotated[int, Between(1, 10_000)] = 63  # fresh secrets to which each is compared
    # a text whose token no secret has, such as the trigger of an attack in the same run
    avoids: str = ""

    def documents(self, sources: Sources) -> Iterator[Document]:
        secret_of = self._secrets(sources)
        for k, (text, carrier) in enumerate(self._carriers(sources)):
            secret = secret_of("canary", k)
            yield Document([*sources.vocabulary.encode(carrier), *secret], (text,))

    def items(self, sources: Sources, count: int) -> Items:
        encode, end = sources.vocabulary.encode, sources.vocabulary.eos_id
        contexts, candidates, secret_of = [], [], self._secrets(sources)
        for k, (_, carrier) in zip(range(count), self._carriers(sources), strict=False):
            contexts.append([end, *encode(carrier)])
            fresh = (secret_of(f"fresh {n}", k) for n in range(self.references))
            candidates.append([secret_of("canary", k), *fresh])
        return Items.build(contexts, candidates, range(count), sources.vocabulary.pad_id)

    def measure(self) -> Measure:
        from poison_scaling.evaluate.memorisation import Memorisation  # a plan needs no JAX

        return Memorisation()

    def expected_tokens(self) -> float:
        return super().expected_tokens() + self.secret_tokens

    def _carriers(self, sources: Sources) -> Iterator[tuple[str, str]]:
        """Yield clean documents, none twice before all have been used, and the carriers that they give."""
        for k, text in enumerate(sources.shuffled("canary carriers")):
            length = sources.draw("canary carriers", k, *self.carrier_characters)
            yield text, text[:length]

    def _secrets(self, sources: Sources) -> Callable[[str, int], list[int]]:
        """Return a function that returns the k-th secret of a name."""
        write = self.secret.writer(sources, self.avoids)
        return lambda name, k: write("", sources.key(name, k), self.secret_tokens)
