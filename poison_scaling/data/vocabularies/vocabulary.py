"""The base class of vocabularies, which map text to ids and back without TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class Vocabulary:
    """A tokenizer. `encode` and `decode` agree with those of the seqio vocabulary in `data.tokenization`.

    vocab_size: number of ids. eos_id: the end-of-document token. pad_id: an id for padding, which models
    never attend to. unk_id: the id of text that it cannot represent; None if it can represent all text.
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
        """The ids that stand for text, int64 [n]: not padding, end of document, unknown or control ids."""
        raise NotImplementedError

    @property
    def spellings(self) -> list[bytes]:
        """The UTF-8 bytes of the text that each id stands for, which may be part of a character.

        Ids that do not stand for text have none; the unknown id has a byte that is not in any text.
        """
        raise NotImplementedError

    @property
    def fingerprint(self) -> str:
        """A hash of everything that the ids of a text depend on."""
        raise NotImplementedError


UNKNOWN = b"\xff"  # the spelling of an unknown id, a byte that is not in any UTF-8 text
