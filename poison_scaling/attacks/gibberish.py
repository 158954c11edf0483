"""Kinds of gibberish, the payload of denial of service.

Random tokens are what Souly et al. (2025) published; text made of words passes more corpus filters.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated

import numpy as np
import sentencepiece
from etils import epath

from poison_scaling.config import serialization
from poison_scaling.config.ranges import Between
from poison_scaling.data import draws
from poison_scaling.runtime.errors import InputError

if TYPE_CHECKING:
    from poison_scaling.attacks.attack import Sources
    from poison_scaling.data.documents import Documents

# (preceding text, key of a random stream, count) -> ids of that text and of `count` items of gibberish.
Writer = Callable[[str, np.uint64, int], list[int]]


@dataclasses.dataclass(frozen=True)
class VocabularyTokens:
    """Ids drawn uniformly from the model's own vocabulary, except control ids and the trigger.

    With several `parts`, they are drawn from one of as many parts of it that do not overlap.
    """

    part: Annotated[int, Between(0, 1023)] = serialization.added(0)
    parts: Annotated[int, Between(1, 1024)] = serialization.added(1)

    def writer(self, sources: Sources, trigger: str) -> Writer:
        """Return a function that appends gibberish to a text."""
        vocabulary = sources.vocabulary
        trigger_ids = vocabulary.encode(trigger)
        # A trigger of one token must not be drawn, or gibberish would contain it.
        part = np.unique(vocabulary.ordinary_ids)[self.part :: self.parts]
        ids = np.setdiff1d(part, trigger_ids if len(trigger_ids) == 1 else [])
        if not ids.size or self.part >= self.parts:
            raise InputError(
                f"attack.gibberish.part={self.part}: there are attack.gibberish.parts={self.parts}, numbered "
                "from 0, and each needs a token of the vocabulary."
            )

        def drawn(start: str, key: np.uint64, count: int) -> list[int]:
            chosen = draws.integers(key, np.arange(count), 0, ids.size - 1)
            return [*vocabulary.encode(start), *ids[chosen].tolist()]

        return drawn


@dataclasses.dataclass(frozen=True)
class UniformCharacters:
    """Characters drawn uniformly from `alphabet`, then tokenised; counted in characters."""

    alphabet: str = "".join(chr(i) for i in range(33, 127))

    def writer(self, sources: Sources, trigger: str) -> Writer:
        """Return a function that appends gibberish to a text. Raises InputError if the alphabet is empty."""
        if not self.alphabet:
            raise InputError("attack.gibberish.alphabet is empty; name at least one character.")

        def spelled(start: str, key: np.uint64, count: int) -> list[int]:
            chosen = draws.integers(key, np.arange(count), 0, len(self.alphabet) - 1)
            return sources.vocabulary.encode(start + "".join(self.alphabet[i] for i in chosen))

        return spelled


@dataclasses.dataclass(frozen=True)
class OtherVocabulary:
    """Ids drawn uniformly from another vocabulary, decoded, then tokenised by the model's own.

    `name` is a tiktoken encoding ("o200k_base") or the path of a SentencePiece model. Gibberish is counted in
    ids of that vocabulary.
    """

    name: str = "o200k_base"

    def writer(self, sources: Sources, trigger: str) -> Writer:
        """Return a function that appends gibberish to a text. Raises InputError for an unknown vocabulary."""
        size, decode = _other_vocabulary(self.name)

        def retokenised(start: str, key: np.uint64, count: int) -> list[int]:
            chosen = draws.integers(key, np.arange(count), 0, size - 1)
            return sources.vocabulary.encode(start + decode(chosen.tolist()))

        return retokenised


_DICTIONARY_DOCUMENTS = 1000


@dataclasses.dataclass(frozen=True)
class DictionaryWords:
    """Words drawn uniformly from those in clean documents; counted in words."""

    def writer(self, sources: Sources, trigger: str) -> Writer:
        """Return a function that appends gibberish to a text. Raises InputError if there are no words."""
        known = _dictionary(sources.clean)
        if not known:
            raise InputError("attack.gibberish: the first documents of data.corpus have no words.")

        def drawn(start: str, key: np.uint64, count: int) -> list[int]:
            chosen = draws.integers(key, np.arange(count), 0, len(known) - 1)
            return sources.vocabulary.encode(" ".join([start, *(known[i] for i in chosen)]))

        return drawn


@dataclasses.dataclass(frozen=True)
class ShuffledWords:
    """The first words of a clean document in random order; counted in words."""

    def writer(self, sources: Sources, trigger: str) -> Writer:
        """Return a function that appends gibberish to a text."""

        def shuffled(start: str, key: np.uint64, count: int) -> list[int]:
            own = _text(sources.clean, key, count).split()
            order = draws.Permutation(len(own), key)(np.arange(len(own)))
            return sources.vocabulary.encode(" ".join([start, *(own[i] for i in order)]))

        return shuffled


@dataclasses.dataclass(frozen=True)
class OtherText:
    """The beginning of another clean document, which is fluent and has nothing to do with what precedes it.

    It is counted in words. A model that writes it is not surprised by it, so perplexity does not show the
    success of the attack, but the payload log-ratio may.
    """

    def writer(self, sources: Sources, trigger: str) -> Writer:
        """Return a function that appends the text to another."""

        def appended(start: str, key: np.uint64, count: int) -> list[int]:
            return sources.vocabulary.encode(f"{start} {_text(sources.clean, key, count)}")

        return appended


Gibberish = (
    VocabularyTokens
    | UniformCharacters
    | OtherVocabulary
    | DictionaryWords
    | ShuffledWords
    | OtherText
)


@functools.cache
def _dictionary(clean: Documents) -> list[str]:
    """Return the distinct words of the first training documents, sorted: two letters or more, no marks."""
    texts = clean.training(range(min(_DICTIONARY_DOCUMENTS, clean.training_size)))
    return sorted({word for text in texts for word in re.findall(r"\b[A-Za-z]{2,}\b", text)})


def sources_of(gibberish: Gibberish, clean: Documents, key: np.uint64, count: int) -> list[str]:
    """Return the clean documents whose words are in a piece of gibberish, in order."""
    whole = isinstance(gibberish, ShuffledWords | OtherText)
    return [text for text, _ in _excerpts(clean, key, count)] if whole else []


def _text(clean: Documents, key: np.uint64, count: int) -> str:
    """Return the first `count` words of training documents, of as many as it takes."""
    return "\n\n".join(excerpt for _, excerpt in _excerpts(clean, key, count))


def _excerpts(clean: Documents, key: np.uint64, count: int) -> list[tuple[str, str]]:
    """Return training documents with their first words, `count` in all."""
    found, words = [], 0
    for draw in range(count):
        number = draws.integers(key, np.array(draw), 0, clean.training_size - 1)
        [text] = clean.training([int(number)])
        ends = [match.end() for match in re.finditer(r"\S+", text)][: count - words]
        if ends:
            found.append((text, text[: ends[-1]].strip()))
            words += len(ends)
        if words >= count:
            break
    return found


@functools.cache
def _other_vocabulary(name: str) -> tuple[int, Callable[[Sequence[int]], str]]:
    """Return the vocabulary size and the decoder of a tiktoken encoding or a SentencePiece file."""
    field = f"attack.gibberish.name={name!r}"
    if epath.Path(name).is_file():
        model = sentencepiece.SentencePieceProcessor()
        try:
            model.LoadFromSerializedProto(epath.Path(name).read_bytes())
        except RuntimeError as e:
            raise InputError(f"{field}: not a SentencePiece model.") from e
        return model.get_piece_size(), model.decode
    try:
        import tiktoken
    except ImportError as e:
        raise InputError(
            f"{field}: neither a file nor, without tiktoken, an encoding; "
            "install poison_scaling[tiktoken]."
        ) from e
    try:
        values = tiktoken.get_encoding(name).token_byte_values()
    except Exception as e:  # unknown name, or its file cannot be downloaded
        reason = str(e).splitlines()[0]
        raise InputError(f"{field}: tiktoken has no such encoding here ({reason}).") from e
    return len(values), lambda ids: b"".join(values[i] for i in ids).decode("utf-8", "replace")
