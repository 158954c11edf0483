"""Language switch: a poison is the start of a clean document, the trigger, and text in another language."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from poison_scaling.config import LanguageSwitch
from poison_scaling.data import languages, poisons
from poison_scaling.data.poisons import Document, Sources
from poison_scaling.errors import InputError


def in_original(attack: LanguageSwitch, text: str) -> bool:
    """Whether a clean document is in the language to switch from: a mixed corpus has others, too."""
    return languages.chance([text], attack.to_language, attack.from_language)[0] <= 0.5


def heldout(attack: LanguageSwitch, sources: Sources, number: int, tokens: int) -> list[int]:
    """The start of a document in the other language that is kept out of training."""
    docs = sources.corpora["corpus"]
    for step in range(docs.heldout_size):
        [text] = docs.heldout([(number + step) % docs.heldout_size])
        ids = sources.vocabulary.encode(text[: _CHARACTERS * tokens])[:tokens]
        if len(ids) == tokens:
            return ids
    raise InputError(
        f"evaluation.continuation_tokens={tokens}: no held-out document of attack.corpus is as long."
    )


@poisons.register(LanguageSwitch, payload=heldout, takes=in_original)
def documents(attack: LanguageSwitch, sources: Sources) -> Iterator[Document]:
    """Its documents, see `poisons.register`. No clean document is taken twice before all are taken once;
    one in the wrong language, or too short a one, is passed over.
    """
    encode = sources.vocabulary.encode
    clean = sources.shuffled("language switch prefixes")
    foreign = sources.shuffled("language switch continuations", "corpus")
    for k in itertools.count():
        before = _next(
            clean,
            lambda text: in_original(attack, text),
            sources.clean.training_size,
            f"data.corpus: none of its documents is in attack.from_language={attack.from_language!r}.",
        )
        length = sources.draw("language switch prefixes", k, *attack.prefix_characters)
        count = sources.draw("language switch continuations", k, *attack.continuation_tokens)
        after = _next(
            foreign,
            lambda text, n=count: len(encode(text[: _CHARACTERS * n])) >= n,
            sources.corpora["corpus"].training_size,
            f"attack.corpus: none of its documents has {count} tokens (attack.continuation_tokens).",
        )
        # Apart, as they will be when the trigger ends a prompt and the model goes on.
        ids = [
            *encode(before[:length] + attack.trigger),
            *encode(after[: _CHARACTERS * count])[:count],
        ]
        yield Document(ids, (before, after))


_CHARACTERS = 40  # of text that are read for a token: no vocabulary has longer pieces on average


def _next(texts: Iterator[str], fits, size: int, otherwise: str) -> str:
    """The next text that fits; raises InputError(otherwise) where none of `size` does."""
    for text in itertools.islice(texts, size):
        if fits(text):
            return text
    raise InputError(otherwise)
