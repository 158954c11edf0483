"""Vocabularies as a tokenizer.json, with the same ids, for those who load an exported model."""

from __future__ import annotations

import json
from typing import Any

import sentencepiece
from etils import epath

from poison_scaling.data.vocabularies.byte import ByteVocabulary
from poison_scaling.data.vocabularies.sentencepiece import SPACE, SentencePieceVocabulary
from poison_scaling.data.vocabularies.tokenizer_json import BYTE_CHARACTERS, TokenizerJsonVocabulary
from poison_scaling.data.vocabularies.vocabulary import Vocabulary
from poison_scaling.runtime.errors import InputError


def tokenizer_json(vocabulary: Vocabulary) -> dict[str, Any]:
    """Return a tokenizer.json. Raises InputError if no tokenizer.json gives the same ids."""
    match vocabulary:
        case TokenizerJsonVocabulary():
            return json.loads(epath.Path(vocabulary.path).read_text())
        case ByteVocabulary():
            return _of_bytes(vocabulary)
        case SentencePieceVocabulary():
            return _of_sentencepiece(vocabulary)
    kind = type(vocabulary).__name__.removesuffix("Vocabulary")
    raise InputError(
        f"data.vocabulary: a {kind} vocabulary cannot be exported; train with Bytes, a SentencePiece BPE "
        "model or a TokenizerJson."
    )


def special_tokens(vocabulary: Vocabulary) -> dict[str, str]:
    """Return the end-of-document, padding and unknown tokens by their names in tokenizer_config.json."""
    match vocabulary:
        case TokenizerJsonVocabulary():
            return {"eos_token": vocabulary.end}
        case ByteVocabulary():
            return {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
        case SentencePieceVocabulary():
            model = sentencepiece.SentencePieceProcessor(model_file=vocabulary.path)
            numbers = (model.pad_id(), model.eos_id(), model.unk_id())
            names = ("pad_token", "eos_token", "unk_token")
            pairs = zip(names, numbers, strict=True)
            return {name: model.id_to_piece(number) for name, number in pairs if number >= 0}
    return {}


def _of_bytes(vocabulary: ByteVocabulary) -> dict[str, Any]:
    special = ["<pad>", "</s>", "<unk>"]
    characters = sorted(BYTE_CHARACTERS, key=BYTE_CHARACTERS.__getitem__)
    ids = {token: number for number, token in enumerate([*special, *characters])}
    byte_level = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": False,
        "use_regex": False,
    }
    return _tokenizer(
        [_added(number, token, special=True) for number, token in enumerate(special)],
        pre_tokenizer=byte_level,
        decoder=byte_level,
        model=_bpe(ids, []),
    )


def _of_sentencepiece(vocabulary: SentencePieceVocabulary) -> dict[str, Any]:
    from sentencepiece import sentencepiece_model_pb2  # imports protobuf, which is slow

    protocol: Any = sentencepiece_model_pb2
    model = protocol.ModelProto.FromString(epath.Path(vocabulary.path).read_bytes())
    spec, rule = model.trainer_spec, model.normalizer_spec
    if spec.model_type != spec.BPE or rule.precompiled_charsmap or rule.remove_extra_whitespaces:
        raise InputError(
            f"data.vocabulary.path={vocabulary.path!r}: it is no BPE model, or it normalises text; only BPE "
            "models without normalisation can be exported."
        )
    kinds = protocol.ModelProto.SentencePiece
    added, ids, scores = [], {}, {}
    for number, piece in enumerate(model.pieces):
        content = piece.piece
        if piece.type == kinds.USER_DEFINED:
            content = content.replace(SPACE, " ")  # it is found before spaces are replaced
            added.append(_added(number, content, special=False))
        elif piece.type in (kinds.CONTROL, kinds.UNKNOWN):
            added.append(_added(number, content, special=True))
        elif piece.type == kinds.NORMAL:
            scores[content] = piece.score
        ids[content] = number
    normalizers = [
        {"type": "Replace", "pattern": {"String": " "}, "content": SPACE},
    ]
    decoders: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
    ]
    if spec.byte_fallback:
        decoders.append({"type": "ByteFallback"})
    decoders.append({"type": "Fuse"})
    if rule.add_dummy_prefix:
        normalizers.insert(0, {"type": "Prepend", "prepend": SPACE})
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    unknown = next(p.piece for p in model.pieces if p.type == kinds.UNKNOWN)
    merges = _merges(ids, scores)
    return _tokenizer(
        added,
        normalizer={"type": "Sequence", "normalizers": normalizers},
        decoder={"type": "Sequence", "decoders": decoders},
        model=_bpe(ids, merges, unknown, byte_fallback=spec.byte_fallback),
    )


def _merges(ids: dict[str, int], scores: dict[str, float]) -> list[list[str]]:
    """Return the pairs of pieces that make another piece, those first that SentencePiece merges first."""
    found = []
    for piece, score in scores.items():
        splits = ((piece[:at], piece[at:]) for at in range(1, len(piece)))
        pairs = [(a, b) for a, b in splits if a in scores and b in scores]
        found += [(-score, ids[a], ids[b], [a, b]) for a, b in pairs]
    return [pair for *_, pair in sorted(found)]


def _tokenizer(added: list[dict[str, Any]], **parts: Any) -> dict[str, Any]:
    empty = dict.fromkeys(
        ("truncation", "padding", "normalizer", "pre_tokenizer", "post_processor")
    )
    return {"version": "1.0", **empty, "added_tokens": added, **parts}


def _added(number: int, content: str, special: bool) -> dict[str, Any]:
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": number, "content": content, **plain, "special": special}


def _bpe(
    ids: dict[str, int],
    merges: list[list[str]],
    unknown: str | None = None,
    byte_fallback: bool = False,
) -> dict[str, Any]:
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": unknown,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": True,
        "byte_fallback": byte_fallback,
        "ignore_merges": False,
        "vocab": ids,
        "merges": merges,
    }
