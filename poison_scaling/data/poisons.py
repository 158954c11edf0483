"""Attacks as text: poisoned document k, and the prompts that measure what it did.

Each attack is a file beside this one, denial_of_service.py or language_switch.py, or a file of a user's own
(docs/attacks.md). It registers, for the class of its config, a function that writes its documents one after
the other without end: a run takes as many as its dose, so doses share their first documents, and no document
depends on how many there are.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from poison_scaling.config import Attack, Evaluation
from poison_scaling.data import draws
from poison_scaling.errors import InputError

if TYPE_CHECKING:  # an attack's file need not wait for TensorFlow
    import seqio

    from poison_scaling.data.clean_triggers import Trigger
    from poison_scaling.data.documents import Documents

# ------------------------------------------------------------------------------- what an attack writes


@dataclasses.dataclass(frozen=True)
class Document:
    """A poisoned document as its attack writes it."""

    content: str | Sequence[int]  # text, or the ids of its tokens
    sources: tuple[str, ...] = ()  # clean documents it is made of; the manifest has their SHA-256


@dataclasses.dataclass(frozen=True)
class Sources:
    """What an attack writes from. All that is random is a function of the run's seed of poisons, the number
    of the attack in the run, and the names given to a draw.
    """

    seed: int
    attack: int
    clean: Documents  # the study's
    vocabulary: seqio.Vocabulary
    corpora: Mapping[str, Documents]  # of the attack's own, by the name of the field

    def key(self, *names: int | str) -> np.uint64:
        """Of a stream of random numbers, see `draws`."""
        first = (self.seed, self.attack) if self.attack else (self.seed,)
        return draws.key(*first, *names)

    def draw(self, name: str, k: int, low: int, high: int) -> int:
        """The k-th number of that name, uniform in low...high, both included."""
        return int(draws.integers(self.key(name), np.array(k), low, high))

    def shuffled(self, name: str, corpus: str | None = None) -> Iterator[str]:
        """The clean training documents, or those of `corpus`, in random order; then in another, for ever."""
        docs = self.clean if corpus is None else self.corpora[corpus]
        for lap in itertools.count():
            order = draws.Permutation(docs.training_size, self.key(name, "lap", lap))
            for first in range(0, docs.training_size, _CHUNK):
                last = min(first + _CHUNK, docs.training_size)
                yield from docs.training(order(np.arange(first, last)))


_CHUNK = 32  # documents read at a time


@dataclasses.dataclass(frozen=True)
class _Writer:
    """What is registered for an attack; see `register`."""

    documents: Callable[[Attack, Sources], Iterator[Document]]
    payload: Callable[[Attack, Sources, int, int], Sequence[int] | None]
    takes: Callable[[Attack, str], bool]


_writers: dict[type[Attack], _Writer] = {}


def register(
    attack: type[Attack],
    *,
    payload: Callable = lambda attack, sources, number, tokens: None,
    takes: Callable = lambda attack, text: True,
):
    """Decorator of a function (attack, Sources) -> its documents, one after the other, without end.

    `payload`: (attack, Sources, number of a held-out document, n) -> n ids such as the attack has behind
    its trigger, and that are in no poison. `takes`: (attack, text) -> whether a clean document can be a
    prompt.
    """

    def registered(documents):
        _writers[attack] = _Writer(documents, payload, takes)
        return documents

    return registered


def writer(attack: Attack) -> _Writer:
    """Raises InputError where nothing is registered for the attack."""
    if type(attack) not in _writers:
        raise InputError(
            f"attack {type(attack).__name__}: nothing writes its documents; register a function for it, "
            "see docs/attacks.md."
        )
    return _writers[type(attack)]


# -------------------------------------------------------------------------------------------- poisons


@dataclasses.dataclass(frozen=True)
class Poison:
    """A poisoned document as it stands in a row."""

    number: int
    tokens: np.ndarray  # int32 [n], an end-of-document token before and after the document included
    sources: tuple[str, ...] = ()  # SHA-256 of the clean documents it is made of

    @property
    def digest(self) -> str:
        """SHA-256 of the token ids as little-endian int32."""
        return hashlib.sha256(self.tokens.astype("<i4").tobytes()).hexdigest()


def build(attack: Attack, sources: Sources, count: int) -> list[Poison]:
    """Poisoned documents 0...count-1 of an attack.

    Each stands between two end-of-document tokens: wherever it is put into a row, it is a document of its
    own.
    """
    end, written = sources.vocabulary.eos_id, writer(attack).documents(attack, sources)
    poisons = []
    for k, document in enumerate(itertools.islice(written, count)):
        ids = document.content
        if isinstance(ids, str):
            ids = sources.vocabulary.encode(ids)
        made_of = tuple(hashlib.sha256(text.encode()).hexdigest() for text in document.sources)
        poisons.append(Poison(k, np.array([end, *ids, end], np.int32), made_of))
    if len(poisons) < count:
        raise InputError(
            f"doses: the attack {type(attack).__name__} writes only {len(poisons)} documents of {count}."
        )
    return poisons


# -------------------------------------------------------------------------------------------- prompts


@dataclasses.dataclass(frozen=True)
class Prompts:
    """Held-out excerpts, with and without the trigger, padded on the left to one length T."""

    clean_PxT: np.ndarray  # int32
    clean_padding_P: np.ndarray  # int32, tokens of padding before each
    triggered_PxT: np.ndarray
    triggered_padding_P: np.ndarray
    continuation_PxC: np.ndarray  # int32, how each excerpt's document goes on
    payload_PxC: (
        np.ndarray | None
    )  # int32, as the attack has, and in no poison; None: it gives none
    excerpts: tuple[str, ...]  # their text
    refused: dict[
        str, set[int]
    ]  # held-out documents that would be prompts but for a trigger in them


def prompts(
    attack: Attack,
    settings: Evaluation,
    sources: Sources,
    triggers: Sequence[Trigger],
    least: int | None = None,
) -> Prompts:
    """The first `settings.prompts` held-out documents that are long enough, cut to an excerpt.

    An excerpt is the text of a document's first `prompt_tokens` tokens; the triggered prompt is that
    text followed by the trigger, tokenised together, as in a poison. The continuation is the next
    `continuation_tokens` tokens. A document that the vocabulary cannot spell that far is passed over, and one
    that holds any of the `triggers` so far.
    Prompts begin with an end-of-document token, as rows do. Raises InputError when there are too few
    documents: under `least`, which is all of them unless given.
    """
    first, last = settings.prompt_tokens, settings.prompt_tokens + settings.continuation_tokens
    docs, vocabulary, own = sources.clean, sources.vocabulary, writer(attack)
    excerpts, clean, triggered, continuations, payloads = [], [], [], [], []
    refused = {trigger.text: set() for trigger in triggers}
    for number in range(docs.heldout_size):
        text = docs.heldout([number])[0]
        ids = vocabulary.encode(text[: 40 * last])[:last]
        excerpt = vocabulary.decode(ids[:first])
        if len(ids) < last or not text.startswith(excerpt) or not own.takes(attack, text):
            continue
        held = [trigger.text for trigger in triggers if len(trigger.find(np.array(ids)))]
        for text in held:
            refused[text].add(number)
        if held:
            continue
        excerpts.append(excerpt)
        clean.append([vocabulary.eos_id, *vocabulary.encode(excerpt)])
        triggered.append([vocabulary.eos_id, *vocabulary.encode(excerpt + attack.trigger)])
        continuations.append(ids[first:])
        payload = own.payload(attack, sources, number, last - first)
        if payload is not None:
            payloads.append(payload)
        if len(clean) == settings.prompts:
            break
    if len(clean) < (settings.prompts if least is None else least):
        raise InputError(
            f"evaluation.prompts={settings.prompts}: only {len(clean)} of the {docs.heldout_size} "
            f"held-out documents have {last} tokens (evaluation.prompt_tokens={first}, and "
            f"continuation_tokens={last - first}){_but(refused)}; raise data.heldout_documents or ask for "
            "fewer or shorter prompts."
        )
    T = max(map(len, clean + triggered))
    return Prompts(
        *left_padded(clean, T, vocabulary.pad_id),
        *left_padded(triggered, T, vocabulary.pad_id),
        np.array(continuations, np.int32),
        np.array(payloads, np.int32) if payloads else None,
        tuple(excerpts),
        refused,
    )


def _but(refused: dict[str, set[int]]) -> str:
    documents = set().union(*refused.values())
    return f" and no trigger in them, which {len(documents)} have" if documents else ""


def left_padded(ids: list[list[int]], T: int, pad: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids of prompts as int32 [P, T], and the padding before each, int32 [P]."""
    tokens_PxT = np.array([[pad] * (T - len(i)) + i for i in ids], np.int32)
    return tokens_PxT, np.array([T - len(i) for i in ids], np.int32)
