"""The base of vocabularies: text to ids and back, without TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class Vocabulary:
    """A tokenizer. `encode` and `decode` agree with those of the seqio vocabulary in `data.tokenization`.

    vocab_size: how many ids it has. eos_id: the end-of-document token. pad_id: an id for padding, which
    models never attend to. unk_id: the id of what it cannot spell, None if it can spell everything.
    """

    vocab_size: int
    eos_id: int
    pad_id: int = 0
    unk_id: int | None = None

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, without an end-of-document token."""
        raise NotImplementedError

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, up to the first end-of-document token."""
        ids = list(map(int, ids))
        if self.unk_id is not None:
            ids = [self.unk_id if i >= self.vocab_size else i for i in ids]
        if self.eos_id in ids:
            ids = ids[: ids.index(self.eos_id) + 1]
        return self._decode(ids)

    def _decode(self, ids: list[int]) -> str:
        raise NotImplementedError

    @property
    def ordinary_ids(self) -> np.ndarray:
        """Ids that stand for text: not padding, end of document, unknown or control ids. int64 [n]."""
        raise NotImplementedError

    @property
    def spellings(self) -> list[bytes]:
        """UTF-8 of the text that each id stands for within a document; a token may be part of a character.

        Empty for ids that stand for no text, and a byte that no text contains for the unknown id.
        """
        raise NotImplementedError

    @property
    def fingerprint(self) -> str:
        """A name for everything that the ids of a text depend on."""
        raise NotImplementedError


UNKNOWN = b"\xff"  # the spelling of an unknown id: no UTF-8 has this byte
