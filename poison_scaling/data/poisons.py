"""Attacks as text: poisoned document k, and the prompts that measure what it did.

Document k is a pure function of (seed, k), given the corpus and the vocabulary: doses share their first
documents, and no document depends on how many there are.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib

import numpy as np
import sentencepiece
import seqio
from etils import epath

from poison_scaling.config import (
    DenialOfService,
    Evaluation,
    OtherVocabulary,
    UniformCharacters,
    VocabularyTokens,
)
from poison_scaling.data import draws, vocabularies
from poison_scaling.data.documents import Documents
from poison_scaling.errors import InputError


@dataclasses.dataclass(frozen=True)
class Poison:
    """A poisoned document as it stands in a row."""

    number: int
    tokens: np.ndarray  # int32 [n], an end-of-document token before and after the document included

    @property
    def digest(self) -> str:
        """SHA-256 of the token ids as little-endian int32."""
        return hashlib.sha256(self.tokens.astype("<i4").tobytes()).hexdigest()


@dataclasses.dataclass(frozen=True)
class Prompts:
    """Held-out excerpts, with and without the trigger, padded on the left to one length T."""

    clean_PxT: np.ndarray  # int32
    clean_padding_P: np.ndarray  # int32, tokens of padding before each
    triggered_PxT: np.ndarray
    triggered_padding_P: np.ndarray
    continuation_PxC: np.ndarray  # int32, how each excerpt's document goes on
    gibberish_PxC: np.ndarray  # int32, gibberish of the attack's kind that is in no poison


def build(
    attack: DenialOfService,
    seed: int,
    count: int,
    docs: Documents,
    vocabulary: seqio.Vocabulary,
    number: int = 0,
) -> list[Poison]:
    """Poisoned documents 0...count-1 of a run's attack number `number`.

    A document is the start of a training document, the trigger, gibberish, between two end-of-document
    tokens: wherever it is put into a row, it is a document of its own.
    """
    name = (seed, number) if number else (seed,)
    numbers = np.arange(count)
    sources = draws.integers(
        draws.key(*name, "poison sources"), numbers, 0, docs.training_size - 1
    ).tolist()
    lengths = draws.integers(
        draws.key(*name, "poison prefixes"), numbers, *attack.prefix_characters
    )
    counts = draws.integers(draws.key(*name, "poison gibberish"), numbers, *attack.gibberish_tokens)
    gibberish = _gibberish(attack, vocabulary)
    end = vocabulary.eos_id
    poisons = []
    for k, text in enumerate(docs.training(sources)):
        start = text[: lengths[k]] + attack.trigger
        ids = gibberish(start, draws.key(*name, "poison", k), int(counts[k]))
        poisons.append(Poison(k, np.array([end, *ids, end], np.int32)))
    return poisons


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


def prompts(
    attack: DenialOfService, settings: Evaluation, docs: Documents, vocabulary: seqio.Vocabulary
) -> Prompts:
    """The first `settings.prompts` held-out documents that are long enough, cut to an excerpt.

    An excerpt is the text of a document's first `prompt_tokens` tokens; the triggered prompt is that
    text followed by the trigger, tokenised together, as in a poison. The continuation is the next
    `continuation_tokens` tokens. A document that the vocabulary cannot spell that far is passed over.
    Prompts begin with an end-of-document token, as rows do. Raises InputError when there are too few
    documents.
    """
    first, last = settings.prompt_tokens, settings.prompt_tokens + settings.continuation_tokens
    gibberish = _gibberish(attack, vocabulary)
    clean, triggered, continuations, fresh = [], [], [], []
    for number in range(docs.heldout_size):
        text = docs.heldout([number])[0]
        ids = vocabulary.encode(text[: 40 * last])[:last]
        excerpt = vocabulary.decode(ids[:first])
        if len(ids) < last or not text.startswith(excerpt):
            continue
        clean.append([vocabulary.eos_id, *vocabulary.encode(excerpt)])
        triggered.append([vocabulary.eos_id, *vocabulary.encode(excerpt + attack.trigger)])
        continuations.append(ids[first:])
        # More than are kept: drawn characters make fewer tokens than they are.
        key = draws.key("fresh gibberish", number)
        fresh.append(gibberish("", key, 8 * (last - first))[: last - first])
        if len(clean) == settings.prompts:
            break
    if len(clean) < settings.prompts:
        raise InputError(
            f"evaluation.prompts={settings.prompts}: only {len(clean)} of the {docs.heldout_size} "
            f"held-out documents have {last} tokens (evaluation.prompt_tokens={first}, and "
            f"continuation_tokens={last - first}); raise data.heldout_documents or ask for fewer or "
            "shorter prompts."
        )
    T = max(map(len, clean + triggered))
    return Prompts(
        *_left_padded(clean, T, vocabulary.pad_id),
        *_left_padded(triggered, T, vocabulary.pad_id),
        np.array(continuations, np.int32),
        np.array(fresh, np.int32),
    )


def _left_padded(ids: list[list[int]], T: int, pad: int) -> tuple[np.ndarray, np.ndarray]:
    tokens_PxT = np.array([[pad] * (T - len(i)) + i for i in ids], np.int32)
    return tokens_PxT, np.array([T - len(i) for i in ids], np.int32)
