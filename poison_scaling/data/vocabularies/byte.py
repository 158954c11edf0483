"""Bytes as a vocabulary."""

from __future__ import annotations

import numpy as np

from poison_scaling.data.vocabularies.vocabulary import Vocabulary

_SPECIAL = 3  # padding, end of document, unknown


class ByteVocabulary(Vocabulary):
    """One token per UTF-8 byte, after padding, end of document and unknown, as in seqio and ByT5."""

    vocab_size = _SPECIAL + 256
    eos_id = 1
    unk_id = 2

    def encode(self, text: str) -> list[int]:
        return [byte + _SPECIAL for byte in text.encode()]

    def _decode(self, ids: list[int]) -> str:
        return bytes(i - _SPECIAL for i in ids if i >= _SPECIAL).decode(errors="ignore")

    @property
    def ordinary_ids(self) -> np.ndarray:
        return np.arange(_SPECIAL, self.vocab_size)

    @property
    def spellings(self) -> list[bytes]:
        return [b"", b"", b"", *(bytes([i]) for i in range(256))]

    @property
    def fingerprint(self) -> str:
        return "ByteVocabulary"
