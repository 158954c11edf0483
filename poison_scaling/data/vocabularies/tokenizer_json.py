"""Hugging Face tokenizers as a vocabulary."""

from __future__ import annotations

import functools
import hashlib
import json
import re

import numpy as np
from etils import epath

from poison_scaling.data.vocabularies.vocabulary import UNKNOWN, Vocabulary
from poison_scaling.runtime.errors import InputError


def _byte_characters() -> dict[str, int]:
    """Return the byte of each character of byte-level BPE, in which unprintable bytes start at U+0100."""
    shown = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {chr(b): b for b in shown} | {chr(256 + n): b for n, b in enumerate(hidden)}


BYTE_CHARACTERS = _byte_characters()


class TokenizerJsonVocabulary(Vocabulary):
    """A tokenizer.json; `end` is its end-of-document token.

    Special tokens spelled out in a text are encoded as text. With `vocab_size`, the number of ids of a model,
    which may be larger, they become their ids, as the model was trained. Raises InputError if the file cannot
    be read, does not have the token `end`, or has more ids than the model.
    """

    def __init__(self, path: str, end: str, vocab_size: int | None = None):
        self.path, self.end, self._of_model = path, end, vocab_size
        field = f"data.vocabulary.path={path!r}"
        try:
            import tokenizers
        except ImportError as e:
            raise InputError(
                f"{field}: this needs tokenizers; install poison_scaling[tokenizers]."
            ) from e
        if not path or not epath.Path(path).is_file():
            raise InputError(f"{field}: no such file.")
        try:
            text = epath.Path(path).read_text()
            self._tokenizer = tokenizers.Tokenizer.from_str(text)
        except Exception as e:  # tokenizers raises Exception itself
            raise InputError(f"{field}: not a tokenizer.json ({e}).") from e
        self._tokenizer.encode_special_tokens = vocab_size is None  # as text
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        parts = (text, end) if vocab_size is None else (text, end, vocab_size)
        self._fingerprint = hashlib.sha256(repr(parts).encode()).hexdigest()
        ids = self._tokenizer.get_vocab()
        if end not in ids:
            raise InputError(
                f"data.vocabulary.end={end!r}: {path} has no such token; name the one that ends a "
                "document."
            )
        added = self._tokenizer.get_added_tokens_decoder()
        special = {i for i, token in added.items() if token.special} | {ids[end]}
        self._unknown = ids.get(getattr(self._tokenizer.model, "unk_token", None))
        if self._unknown is not None:
            special.add(self._unknown)
        self._ordinary = np.array(sorted(set(ids.values()) - special))
        self.vocab_size, self.eos_id = max(ids.values()) + 1, ids[end]
        if vocab_size is not None:
            if self.vocab_size > vocab_size:
                raise InputError(
                    f"data.vocabulary.vocab_size={vocab_size}: {path} has {self.vocab_size} ids, more than "
                    "the model; it is not the model's tokenizer."
                )
            self.vocab_size = vocab_size

    def __reduce__(self):
        return TokenizerJsonVocabulary, (self.path, self.end, self._of_model)

    def encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def _decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode([i for i in ids if i != self.eos_id])

    @property
    def ordinary_ids(self) -> np.ndarray:
        return self._ordinary

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    @functools.cached_property
    def spellings(self) -> list[bytes]:
        decoder = json.loads(self._tokenizer.to_str())["decoder"]
        kinds = {part["type"] for part in (decoder or {}).get("decoders", [decoder]) if part}
        texts = {
            i: token.content for i, token in self._tokenizer.get_added_tokens_decoder().items()
        }
        behind = self.encode("a")[:1]  # a token decodes to what it adds to another one
        before = self._tokenizer.decode(behind)
        spelled = [b""] * self.vocab_size
        for i in self.ordinary_ids.tolist():
            piece = self._tokenizer.id_to_token(i) or ""
            if i in texts:
                spelled[i] = texts[i].encode()
            elif "ByteLevel" in kinds and set(piece) <= BYTE_CHARACTERS.keys():
                spelled[i] = bytes(BYTE_CHARACTERS[character] for character in piece)
            elif "ByteFallback" in kinds and re.fullmatch("<0x[0-9A-F]{2}>", piece):
                spelled[i] = bytes([int(piece[3:5], 16)])
            elif not kinds:  # there is no decoder
                spelled[i] = piece.encode()
            else:
                spelled[i] = self._tokenizer.decode([*behind, i]).removeprefix(before).encode()
        if self._unknown is not None:
            spelled[self._unknown] = UNKNOWN
        return spelled
