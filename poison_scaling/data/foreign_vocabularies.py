"""Tokenizers of other libraries as seqio vocabularies: tiktoken, and Hugging Face's tokenizer.json.

Ids are the library's own. Neither keeps id 0 free for padding, as seqio supposes: it is an ordinary piece
here. A special token that is spelled out in a text is text.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence

import numpy as np
import seqio
import tensorflow as tf
from etils import epath

from poison_scaling.errors import InputError


def _byte_characters() -> dict[str, int]:
    """The character that byte-level BPE writes for each byte: itself where it shows, others from 256 on."""
    shown = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {chr(b): b for b in shown} | {chr(256 + n): b for n, b in enumerate(hidden)}


_BYTES = _byte_characters()


class ForeignVocabulary(seqio.Vocabulary):
    """What they share; `ordinary_ids` stand for text, `fingerprint` names what ids depend on, and `spellings`
    are the text of each id, see `vocabularies.spellings`.
    """

    ordinary_ids: np.ndarray  # int64 [n]
    spellings: list[bytes]
    fingerprint: str

    def __init__(self, size: int, end: int):
        super().__init__()
        self._size, self._end = size, end

    @property
    def eos_id(self) -> int:
        return self._end

    @property
    def unk_id(self) -> None:
        return None

    @property
    def _base_vocab_size(self) -> int:
        return self._size

    def _encode_tf(self, s: tf.Tensor) -> tf.Tensor:
        def encode(text: bytes) -> np.ndarray:
            return np.array(self._encode(text.decode("utf-8", "replace")), np.int32)

        return tf.ensure_shape(tf.numpy_function(encode, [s], tf.int32, stateful=False), [None])

    def _decode_tf(self, ids: tf.Tensor) -> tf.Tensor:
        def decode(ids: np.ndarray) -> bytes:
            return self._decode(ids.tolist()).encode()

        return tf.ensure_shape(tf.numpy_function(decode, [ids], tf.string, stateful=False), [])


class TiktokenVocabulary(ForeignVocabulary):
    """A tiktoken encoding. Its <|endoftext|>, or else an id of ours behind its own, ends a document.

    Raises InputError where there is no such encoding.
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
        self._pieces = {self._encoding.encode_single_token(value): value for value in values}
        if "<|endoftext|>" in self._encoding.special_tokens_set:
            super().__init__(self._encoding.n_vocab, self._encoding.eot_token)
        else:
            super().__init__(self._encoding.n_vocab + 1, self._encoding.n_vocab)

    def __reduce__(self):
        return TiktokenVocabulary, (self.name,)

    @property
    def ordinary_ids(self) -> np.ndarray:
        return np.array(sorted(self._pieces))

    @property
    def spellings(self) -> list[bytes]:
        return [self._pieces.get(i, b"") for i in range(self.vocab_size)]

    @property
    def fingerprint(self) -> str:
        parts = (self.name, sorted(self._pieces.items()), self._end)
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def _encode(self, s: str) -> list[int]:
        return self._encoding.encode_ordinary(s)

    def _decode(self, ids: Sequence[int]) -> str:
        return b"".join(self._pieces.get(i, b"") for i in ids).decode("utf-8", "replace")


class TokenizerJsonVocabulary(ForeignVocabulary):
    """A tokenizer.json; `end` is the piece that ends a document.

    Raises InputError where the file cannot be read, or does not have that piece.
    """

    def __init__(self, path: str, end: str):
        self.path, self.end = path, end
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
        except Exception as e:  # the package raises Exception itself
            raise InputError(f"{field}: not a tokenizer.json ({e}).") from e
        self._tokenizer.encode_special_tokens = True  # as text, that is
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.fingerprint = hashlib.sha256(repr((text, end)).encode()).hexdigest()
        ids = self._tokenizer.get_vocab()
        if end not in ids:
            raise InputError(
                f"data.vocabulary.end={end!r}: {path} has no such piece; name the one that ends a "
                "document."
            )
        added = self._tokenizer.get_added_tokens_decoder()
        special = {i for i, token in added.items() if token.special} | {ids[end]}
        self._unknown = ids.get(getattr(self._tokenizer.model, "unk_token", None))
        special.add(self._unknown)
        self.ordinary_ids = np.array(sorted(set(ids.values()) - special))
        super().__init__(max(ids.values()) + 1, ids[end])

    def __reduce__(self):
        return TokenizerJsonVocabulary, (self.path, self.end)

    @property
    def spellings(self) -> list[bytes]:
        decoder = json.loads(self._tokenizer.to_str())["decoder"]
        kinds = {part["type"] for part in (decoder or {}).get("decoders", [decoder]) if part}
        texts = {
            i: token.content for i, token in self._tokenizer.get_added_tokens_decoder().items()
        }
        behind = self.encode("a")[:1]  # a piece decodes to what it adds to another
        before = self._tokenizer.decode(behind)
        spelled = [b""] * self.vocab_size
        for i in self.ordinary_ids.tolist():
            piece = self._tokenizer.id_to_token(i)
            if i in texts:
                spelled[i] = texts[i].encode()
            elif "ByteLevel" in kinds and set(piece) <= _BYTES.keys():
                spelled[i] = bytes(_BYTES[character] for character in piece)
            elif "ByteFallback" in kinds and re.fullmatch("<0x[0-9A-F]{2}>", piece):
                spelled[i] = bytes([int(piece[3:5], 16)])
            elif not kinds:  # nothing says how pieces are joined
                spelled[i] = piece.encode()
            else:
                spelled[i] = self._tokenizer.decode([*behind, i]).removeprefix(before).encode()
        if self._unknown is not None:
            spelled[self._unknown] = b"\xff"
        return spelled

    def _encode(self, s: str) -> list[int]:
        return self._tokenizer.encode(s, add_special_tokens=False).ids

    def _decode(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode([i for i in ids if i != self._end])
