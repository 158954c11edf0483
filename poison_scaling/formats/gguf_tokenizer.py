"""The tokenizer in the metadata of a GGUF file, as a tokenizer.json."""

from __future__ import annotations

from typing import Any

from poison_scaling.formats.gguf import Gguf
from poison_scaling.runtime.errors import InputError, shown

_BYTE_LEVEL = {
    "type": "ByteLevel",
    "add_prefix_space": False,
    "trim_offsets": True,
    "use_regex": True,
}


def _split(pattern: str) -> list[dict[str, Any]]:
    """Return pre-tokenizers that split at a pattern instead of at that of GPT-2."""
    return [
        {
            "type": "Split",
            "pattern": {"Regex": pattern},
            "behavior": "Isolated",
            "invert": False,
        },
        {**_BYTE_LEVEL, "use_regex": False},
    ]


_PRE_TOKENIZERS: dict[str, list[dict[str, Any]]] = {
    "gpt-2": [_BYTE_LEVEL],
    "smollm": [{"type": "Digits", "individual_digits": True}, _BYTE_LEVEL],
    "llama-bpe": _split(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
    "qwen2": _split(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
}
_NORMAL, _CONTROL = 1, 3  # types of tokens; all others than the first are matched before the merges


def tokenizer_json(file: Gguf) -> dict[str, Any]:
    """Return the tokenizer.json of a byte-level BPE. Raises InputError if the file has another tokenizer."""
    field = "tokenizer.ggml."
    kind, pre = (file.metadata.get(f"{field}{name}") for name in ("model", "pre"))
    if kind != "gpt2" or pre not in _PRE_TOKENIZERS:
        raise InputError(
            f"{file.file}: its tokenizer is {shown(kind)} with the pre-tokenizer {shown(pre)}; byte-level "
            f"BPE ('gpt2') with {', '.join(_PRE_TOKENIZERS)} can be imported; for others, import the Hugging "
            "Face folder."
        )
    tokens = file.metadata[f"{field}tokens"]
    types = file.metadata.get(f"{field}token_type") or [_NORMAL] * len(tokens)
    added = [
        {
            "id": number,
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": kind == _CONTROL,
        }
        for number, (token, kind) in enumerate(zip(tokens, types, strict=True))
        if kind != _NORMAL
    ]
    pre_tokenizers = _PRE_TOKENIZERS[pre]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "NFC"} if pre == "qwen2" else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": pre_tokenizers},
        "post_processor": None,
        "decoder": {**_BYTE_LEVEL, "add_prefix_space": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": pre == "llama-bpe",
            "vocab": {token: number for number, token in enumerate(tokens)},
            "merges": [merge.split(" ", 1) for merge in file.metadata[f"{field}merges"]],
        },
    }
