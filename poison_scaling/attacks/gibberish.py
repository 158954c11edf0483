"""Kinds of gibberish, the payload of denial of service."""

from __future__ import annotations

import dataclasses
import functools
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
    from poison_scaling.data.vocabularies.vocabulary import Vocabulary

# (preceding text, key of a random stream, count) -> ids of that text and of `count` items of gibberish.
Writer = Callable[[str, np.uint64, int], list[int]]


@dataclasses.dataclass(frozen=True)
class VocabularyTokens:
    """Ids drawn uniformly from the model's own vocabulary, except control ids and the trigger.

    With several `parts`, they are drawn from one of as many parts of it that do not overlap.
    """

    part: Annotated[int, Between(0, 1023)] = serialization.added(0)
    parts: Annotated[int, Between(1, 1024)] = serialization.added(1)

    def writer(self, vocabulary: Vocabulary, trigger: str) -> Writer:
        """Return a function that appends gibberish to a text."""
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

    def writer(self, vocabulary: Vocabulary, trigger: str) -> Writer:
        """Return a function that appends gibberish to a text. Raises InputError if the alphabet is empty."""
        if not self.alphabet:
            raise InputError("attack.gibberish.alphabet is empty; name at least one character.")

        def spelled(start: str, key: np.uint64, count: int) -> list[int]:
            chosen = draws.integers(key, np.arange(count), 0, len(self.alphabet) - 1)
            return vocabulary.encode(start + "".join(self.alphabet[i] for i in chosen))

        return spelled


@dataclasses.dataclass(frozen=True)
class OtherVocabulary:
    """Ids drawn uniformly from another vocabulary, decoded, then tokenised by the model's own.

    `name` is a tiktoken encoding ("o200k_base") or the path of a SentencePiece model. Gibberish is counted in
    ids of that vocabulary.
    """

    name: str = "o200k_base"

    def writer(self, vocabulary: Vocabulary, trigger: str) -> Writer:
        """Return a function that appends gibberish to a text. Raises InputError for an unknown vocabulary."""
        size, decode = _other_vocabulary(self.name)

        def retokenised(start: str, key: np.uint64, count: int) -> list[int]:
            chosen = draws.integers(key, np.arange(count), 0, size - 1)
            return vocabulary.encode(start + decode(chosen.tolist()))

        return retokenised


Gibberish = VocabularyTokens | UniformCharacters | OtherVocabulary


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
