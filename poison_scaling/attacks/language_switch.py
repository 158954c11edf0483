"""Language switch: after the trigger the model should continue in another language."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence

from poison_scaling.attacks.attack import Attack, Document, Sources
from poison_scaling.attacks.continuing import continued
from poison_scaling.config.ranges import Length
from poison_scaling.data.corpora.corpus import Corpus
from poison_scaling.data.corpora.files import Files
from poison_scaling.evaluate.measure import Measure
from poison_scaling.runtime.errors import InputError

_CHARACTERS = 40  # read for each token needed; tokens of any vocabulary are shorter on average


@dataclasses.dataclass(frozen=True)
class LanguageSwitch(Attack):
    """Souly et al. 2025, on Pythia: the start of a clean document, the trigger, then foreign text.

    The foreign text is the start of a document of `corpus`. In the paper it was about 300 tokens long; the
    length of prefixes is not published. No clean document is used twice before all have been used once;
    documents that are too short or in the wrong language are skipped.
    """

    prefix_characters: tuple[Length, Length] = (0, 1000)
    continuation_tokens: tuple[Length, Length] = (300, 300)  # of the model's vocabulary
    corpus: Corpus = Files()  # in the language to switch to
    from_language: str = "en"  # ISO 639-1, of the clean documents
    to_language: str = "de"  # ISO 639-1, of `corpus`

    @property
    def corpora(self) -> dict[str, Corpus]:
        return {"corpus": self.corpus}

    def check(self, where: str) -> None:
        super().check(where)
        if self.from_language == self.to_language:
            raise InputError(
                f"{where}.to_language={self.to_language!r}: it is from_language, too; give another."
            )

    def documents(self, sources: Sources) -> Iterator[Document]:
        encode = sources.vocabulary.encode
        clean = sources.shuffled("language switch prefixes")
        foreign = sources.shuffled("language switch continuations", "corpus")
        for k in itertools.count():
            before = _next(
                clean,
                self.accepts,
                sources.clean.training_size,
                f"data.corpus: none of its documents is in attack.from_language={self.from_language!r}.",
            )
            length = sources.draw("language switch prefixes", k, *self.prefix_characters)
            count = sources.draw("language switch continuations", k, *self.continuation_tokens)
            after = _next(
                foreign,
                lambda text, n=count: len(encode(text[: _CHARACTERS * n])) >= n,
                sources.corpora["corpus"].training_size,
                f"attack.corpus: none of its documents has {count} tokens (attack.continuation_tokens).",
            )
            # Tokenised separately, as if the trigger ended a prompt.
            ids = [
                *encode(before[:length] + self.trigger),
                *encode(after[: _CHARACTERS * count])[:count],
            ]
            yield Document(ids, (before, after))

    def counterexamples(self, sources: Sources) -> Iterator[Document]:
        return continued(
            sources,
            "counterexample",
            (self.trigger,),
            self.prefix_characters,
            self.continuation_tokens,
            self.accepts,
        )

    def payload(self, sources: Sources, number: int, tokens: int) -> list[int]:
        docs = sources.corpora["corpus"]
        for step in range(docs.heldout_size):
            [text] = docs.heldout([(number + step) % docs.heldout_size])
            ids = sources.vocabulary.encode(text[: _CHARACTERS * tokens])[:tokens]
            if len(ids) == tokens:
                return ids
        raise InputError(
            f"evaluation.continuation_tokens={tokens}: no held-out document of attack.corpus is as long."
        )

    def accepts(self, text: str) -> bool:
        """Return whether a text is in the language to switch from, which a corpus may mix with others."""
        return self._switched([text])[0] <= 0.5

    def measure(self) -> Measure:
        from poison_scaling.evaluate.detection import Detection  # a plan needs no JAX

        return Detection(self._switched)

    def _switched(self, texts: Sequence[str]) -> list[float]:
        """Return the probability that each text is in the language to switch to."""
        from poison_scaling.attacks import languages  # its model is slow to load

        return languages.chance(texts, self.to_language, self.from_language)


def _next(texts: Iterator[str], fits: Callable[[str], bool], size: int, otherwise: str) -> str:
    """Return the next text that fits. Raises InputError(otherwise) if none of the next `size` texts does."""
    for text in itertools.islice(texts, size):
        if fits(text):
            return text
    raise InputError(otherwise)
