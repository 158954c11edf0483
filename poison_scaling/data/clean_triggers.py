"""Where clean text contains a trigger: then runs learn what the trigger means without any poison, too.

A trigger is sought as the vocabulary spells it, in the tokens themselves: an occurrence begins in one token,
goes on through whole ones and ends in another, or lies within a single one. What is found is what a model can
see, however the text around it was tokenised, and no text is read or decoded for it. If the vocabulary has no
token for a character, all such characters are alike, as they are to the model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from poison_scaling.data import cache, shards
from poison_scaling.data.sequences import Sequences
from poison_scaling.data.vocabularies.vocabulary import Vocabulary
from poison_scaling.runtime.errors import Damaged, InputError
from poison_scaling.runtime.reporting import Progress, silent

_BLOCK = 2**24  # occurrences read at a time


class Trigger:
    """A trigger as it can stand among tokens.

    Raises InputError if the vocabulary cannot spell it; `field` is what it is called.
    """

    def __init__(self, text: str, vocabulary: Vocabulary, field: str = "attack.trigger"):
        ids, pieces = vocabulary.encode(text), vocabulary.spellings
        spelled = b"".join(pieces[i] for i in ids)
        if not text.startswith(" "):
            spelled = spelled.removeprefix(b" ")  # which some vocabularies put before every text
        if not spelled or not all(pieces[i] for i in ids):
            raise InputError(
                f"{field}={text!r}: data.vocabulary has no tokens of text that spell it; choose another "
                "trigger."
            )
        self.text, self.spelled = text, spelled
        self._within_V = np.array([_count(spelled, piece) for piece in pieces])
        begun, gone_on = _steps(spelled, pieces)
        self._begun, self._far = np.array(sorted(begun), np.int64).reshape(-1, 2).T
        self._before, self._after = np.array(sorted(gone_on), np.int64).reshape(-1, 2).T
        self._candidate_V = self._within_V > 0
        self._candidate_V[self._begun] = True

    def find(self, tokens: np.ndarray) -> np.ndarray:
        """Return the first and last token of every occurrence, in order: int64 [n, 2].

        Raises IndexError for a token that the vocabulary does not have.
        """
        at = np.flatnonzero(self._candidate_V[tokens])
        ids = tokens[at].astype(np.int64)
        within = np.repeat(at, self._within_V[ids])
        found = [np.stack([within, within], axis=1)]
        low, high = (np.searchsorted(self._begun, ids, side) for side in ("left", "right"))
        first, far = np.repeat(at, high - low), self._far[_ranges(low, high)]
        last = first + 1
        while first.size and self._before.size:
            there = last < tokens.size
            first, last, far = first[there], last[there], far[there]
            step = far * self._within_V.size + tokens[last].astype(np.int64)
            place = np.minimum(np.searchsorted(self._before, step), self._before.size - 1)
            goes_on = self._before[place] == step
            first, last, far = first[goes_on], last[goes_on], self._after[place[goes_on]]
            whole = far == len(self.spelled)
            found.append(np.stack([first[whole], last[whole]], axis=1))
            first, last, far = first[~whole], last[~whole] + 1, far[~whole]
        spans = np.concatenate(found)
        return spans[np.lexsort((spans[:, 1], spans[:, 0]))]


def _steps(spelled: bytes, pieces: list[bytes]) -> tuple[list, list]:
    """Return how a trigger goes on from token to token, by the number of its bytes spelled so far.

    Of tokens that it begins in and goes on behind: (id, how far). Of tokens that it goes on with: (how far it
    had come * vocabulary size + id, how far it comes).
    """
    length, V = len(spelled), len(pieces)
    begun, gone_on, same = [], [], {}
    for i, piece in enumerate(pieces):
        same.setdefault(piece, []).append(i)
        for part in range(1, min(len(piece), length - 1) + 1):
            if spelled.startswith(piece[-part:]):
                begun.append((i, part))
            if part < len(piece) and spelled.endswith(piece[:part]):  # and other text behind it
                gone_on.append(((length - part) * V + i, length))
    longest = max(map(len, pieces))
    for far in range(1, length):
        for end in range(far + 1, min(far + longest, length) + 1):
            gone_on += [(far * V + i, end) for i in same.get(spelled[far:end], ())]
    return begun, gone_on


class Places:
    """Where a trigger stands in a split: `len(places)`, and blocks of first and last tokens, int64 [n, 2].

    Tokens are counted over the whole split, so the places hold for sequences of any length.
    """

    def __init__(self, file: epath.Path, occurrences: int):
        self._file, self._occurrences = file, occurrences

    def __len__(self) -> int:
        return self._occurrences

    def __iter__(self) -> Iterator[np.ndarray]:
        if self._occurrences:
            places = np.memmap(self._file, "<i8", "r").reshape(-1, 2)
            for i in range(0, self._occurrences, _BLOCK):
                yield np.asarray(places[i : i + _BLOCK])

    def sequences(self, seq_len: int, count: int) -> int:
        """Return how many of the first `count` sequences hold an occurrence whole."""
        held = [np.unique(within_sequences(spans, seq_len)[:, 0] // seq_len) for spans in self]
        found = np.unique(np.concatenate([np.empty(0, np.int64), *held]))
        return int(np.searchsorted(found, count))


def prepare(
    trigger: Trigger,
    sequences: Sequences,
    progress: Progress = silent,
    chunk: int = 2**24,
) -> Places:
    """Return where a trigger stands in a split, found unless the cache has it.

    Tokenising takes so much longer that this is not spread over processes. `chunk` tokens are searched at a
    time; `progress` counts tokens. Raises Damaged for tokens that no document can have.
    """
    parts = (sequences.digest, trigger.spelled)
    folder = cache.folder("triggers", hashlib.sha256(repr(parts).encode()).hexdigest()[:16])
    file = folder / "places"

    def fill(temporary: epath.Path) -> dict:
        return _fill(temporary, trigger, sequences, progress, chunk)

    [record] = shards.complete(folder, lambda: {"shards": [shards.write(file, fill)]})["shards"]
    shards.require_unchanged(file, record)
    return Places(file, record["occurrences"])


def _fill(
    file: epath.Path, trigger: Trigger, sequences: Sequences, progress: Progress, chunk: int
) -> dict:
    occurrences = 0
    overlap = len(trigger.spelled) - 1  # an occurrence has no more tokens than bytes
    with file.open("wb") as f:
        for shard, start, tokens in sequences.shards():
            for begin in range(0, tokens.size, chunk):
                try:
                    spans = trigger.find(tokens[begin : begin + chunk + overlap])
                except IndexError as e:
                    raise Damaged(
                        f"{shard}: it holds a token that data.vocabulary does not have; delete its "
                        "folder, and it is prepared again."
                    ) from e
                spans = spans[spans[:, 0] < chunk]
                f.write((spans + start + begin).astype("<i8").tobytes())
                occurrences += len(spans)
                progress(f"seeking {trigger.text!r} in clean text", start + begin)
    return {"occurrences": occurrences}


def within_sequences(spans: np.ndarray, seq_len: int) -> np.ndarray:
    """Return the spans that lie in one sequence whole, and not across two."""
    first_N, last_N = (spans // seq_len).T
    return spans[first_N == last_N]


def warning(
    trigger: str, counts: dict[str, int], plans: Sequence[Mapping[str, Any]], attack: int
) -> str | None:
    """Return a sentence if clean text contains the trigger of attack number `attack` where it matters.

    `counts` are those of `Inputs.clean_triggers`, `plans` those of all runs.
    """
    trained = [(plan, *plan["also"])[attack]["clean_triggers"] for plan in plans]
    low, high = min(trained), max(trained)
    where = [
        f"the sequences of each of the {len(plans)} runs",
        f"the {plans[0]['sequences']} sequences of {plans[0]['run']}",
    ]
    places = [
        (high, f"{low if low == high else f'{low} to {high}'} times in {where[len(plans) == 1]}"),
        (
            counts["heldout_sequences"],
            f"in {counts['heldout_sequences']} of the held-out sequences",
        ),
        (counts["prompts_refused"], f"in {counts['prompts_refused']} documents refused as prompts"),
    ]
    said = ", ".join(text for number, text in places if number)
    controls = [n for plan, n in zip(plans, trained, strict=True) if plan["dose"] == 0]
    free = "; the controls are not free of it" if any(controls) else ""
    return f"clean text holds the trigger {trigger!r} {said}{free}." if said else None


def _count(text: bytes, piece: bytes) -> int:
    """Return the occurrences of a text in a token; they may overlap."""
    return sum(piece.startswith(text, i) for i in range(len(piece) - len(text) + 1))


def _ranges(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return the integers low...high-1 of each pair, one pair after the other."""
    size = high - low
    before = np.cumsum(size) - size
    return np.arange(size.sum()) + np.repeat(low - before, size)
