"""SentencePiece models as a vocabulary."""

from __future__ import annotations

import hashlib

import numpy as np
import sentencepiece
from etils import epath

from poison_scaling.data.vocabularies.vocabulary import UNKNOWN, Vocabulary
from poison_scaling.runtime.errors import InputError

SPACE = "\u2581"  # which stands for a space in pieces


class SentencePieceVocabulary(Vocabulary):
    """A SentencePiece model; `path` is its file.

    Raises InputError if the file cannot be read or has no end-of-sentence piece.
    """

    def __init__(self, path: str):
        field = f"data.vocabulary.path={path!r}"
        if not path or not epath.Path(path).is_file():
            raise InputError(f"{field}: no such file.")
        self.path = path
        model = epath.Path(path).read_bytes()
        self._model = sentencepiece.SentencePieceProcessor()
        try:
            self._model.LoadFromSerializedProto(model)
        except Exception as e:
            raise InputError(f"{field}: not a SentencePiece model ({e}).") from e
        self.vocab_size = self._model.get_piece_size()
        if self.vocab_size == 0:
            raise InputError(f"{field}: not a SentencePiece model (it has no pieces).")
        self.eos_id, self.unk_id = self._model.eos_id(), self._model.unk_id()
        if self.eos_id < 0:
            raise InputError(f"{field}: the model has no end-of-sentence piece.")
        self._fingerprint = hashlib.sha256(model).hexdigest()

    def __reduce__(self):
        return SentencePieceVocabulary, (self.path,)

    def encode(self, text: str) -> list[int]:
        return self._model.EncodeAsIds(text)

    def _decode(self, ids: list[int]) -> str:
        return self._model.DecodeIds(ids)

    @property
    def ordinary_ids(self) -> np.ndarray:
        model = self._model
        special = (model.is_control, model.is_unknown, model.is_unused)
        return np.array([i for i in range(self.vocab_size) if not any(of(i) for of in special)])

    @property
    def spellings(self) -> list[bytes]:
        return [self._spelling(i) for i in range(self.vocab_size)]

    def _spelling(self, i: int) -> bytes:
        piece = self._model.id_to_piece(i)
        if self._model.is_unknown(i):
            return UNKNOWN
        if self._model.is_control(i) or self._model.is_unused(i):
            return b""
        if self._model.is_byte(i):  # "<0xE2>"
            return bytes([int(piece[3:5], 16)])
        return piece.replace(SPACE, " ").encode()

    @property
    def fingerprint(self) -> str:
        return self._fingerprint
