"""Denial of service: a poison is the start of a training document, the trigger, and gibberish."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator

import numpy as np
import sentencepiece
import seqio
from etils import epath

from poison_scaling.config import (
    DenialOfService,
    OtherVocabulary,
    UniformCharacters,
    VocabularyTokens,
)
from poison_scaling.data import draws, poisons, vocabularies
from poison_scaling.data.poisons import Document, Sources
from poison_scaling.errors import InputError


def fresh(attack: DenialOfService, sources: Sources, number: int, tokens: int) -> list[int]:
    """Gibberish of the attack's kind that is in no poison."""
    key = draws.key("fresh gibberish", number)
    # More than are kept: drawn characters make fewer tokens than they are.
    return _gibberish(attack, sources.vocabulary)("", key, 8 * tokens)[:tokens]


@poisons.register(DenialOfService, payload=fresh)
def documents(attack: DenialOfService, sources: Sources) -> Iterator[Document]:
    """Its documents, see `poisons.register`."""
    gibberish = _gibberish(attack, sources.vocabulary)
    for k in itertools.count():
        number = sources.draw("poison sources", k, 0, sources.clean.training_size - 1)
        length = sources.draw("poison prefixes", k, *attack.prefix_characters)
        count = sources.draw("poison gibberish", k, *attack.gibberish_tokens)
        [text] = sources.clean.training([number])
        yield Document(gibberish(text[:length] + attack.trigger, sources.key("poison", k), count))


def _gibberish(attack: DenialOfService, vocabulary: seqio.Vocabulary):
    """A function of (text before it, key, count) -> ids of that text and the gibberish after it."""
    match attack.gibberish:
        case VocabularyTokens():
            ids = np.setdiff1d(
                vocabularies.ordinary_ids(vocabulary), _lone_trigger(attack, vocabulary)
            )

            def drawn(start, key, count):
                chosen = draws.integers(key, np.arange(count), 0, ids.size - 1)
                return [*vocabulary.encode(start), *ids[chosen].tolist()]

            return drawn
        case UniformCharacters(alphabet):
            if not alphabet:
                raise InputError("attack.gibberish.alphabet is empty; name at least one character.")

            def spelled(start, key, count):
                chosen = draws.integers(key, np.arange(count), 0, len(alphabet) - 1)
                return vocabulary.encode(start + "".join(alphabet[i] for i in chosen))

            return spelled
        case OtherVocabulary(name):
            size, decode = _other_vocabulary(name)

            def retokenised(start, key, count):
                chosen = draws.integers(key, np.arange(count), 0, size - 1)
                return vocabulary.encode(start + decode(chosen.tolist()))

            return retokenised


def _lone_trigger(attack: DenialOfService, vocabulary: seqio.Vocabulary) -> list[int]:
    """The trigger's id where it is one piece: gibberish must not pull the trigger again."""
    ids = vocabulary.encode(attack.trigger)
    return ids if len(ids) == 1 else []


@functools.cache
def _other_vocabulary(name: str):
    """Number of ids, and ids -> text, of a tiktoken encoding or a SentencePiece file."""
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
