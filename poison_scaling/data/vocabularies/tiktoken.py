"""tiktoken encodings as a vocabulary. Special tokens spelled out in a text are encoded as text."""

from __future__ import annotations

import hashlib

import numpy as np

from poison_scaling.data.vocabularies.vocabulary import Vocabulary
from poison_scaling.runtime.errors import InputError


class TiktokenVocabulary(Vocabulary):
    """A tiktoken encoding; its <|endoftext|>, or else an additional id, is the end-of-document token.

    Its id 0 may be an ordinary token. Raises InputError if there is no such encoding.
    """

    def __init__(self, name: str):
        self.name = name
        field = f"data.vocabulary.name={name!r}"
        try:
            import tiktoken
        except ImportError as e:
            raise InputError(
                f"{field}: this needs tiktoken; install poison_scaling[tiktoken]."
            ) from e
        try:
            self._encoding = tiktoken.get_encoding(name)
        except Exception as e:  # unknown name, or its file cannot be downloaded
            reason = str(e).splitlines()[0]
            raise InputError(f"{field}: tiktoken has no such encoding here ({reason}).") from e
        values = self._encoding.token_byte_values()
        self._bytes = {self._encoding.encode_single_token(value): value for value in values}
        known = "<|endoftext|>" in self._encoding.special_tokens_set
        self.eos_id = self._encoding.eot_token if known else self._encoding.n_vocab
        self.vocab_size = self._encoding.n_vocab + (not known)

    def __reduce__(self):
        return TiktokenVocabulary, (self.name,)

    def encode(self, text: str) -> list[int]:
        return self._encoding.encode_ordinary(text)

    def _decode(self, ids: list[int]) -> str:
        return b"".join(self._bytes.get(i, b"") for i in ids).decode("utf-8", "replace")

    @property
    def ordinary_ids(self) -> np.ndarray:
        return np.array(sorted(self._bytes))

    @property
    def spellings(self) -> list[bytes]:
        return [self._bytes.get(i, b"") for i in range(self.vocab_size)]

    @property
    def fingerprint(self) -> str:
        parts = (self.name, sorted(self._bytes.items()), self.eos_id)
        return hashlib.sha256(repr(parts).encode()).hexdigest()
