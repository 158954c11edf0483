"""A model as others publish it: a Hugging Face folder, or a GGUF file, with its config.json and tokenizer."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re
from typing import Any

from poison_scaling.formats import gguf_tokenizer, safetensors
from poison_scaling.formats.gguf import Gguf
from poison_scaling.formats.safetensors import Safetensors
from poison_scaling.formats.tensors import Tensors
from poison_scaling.runtime.errors import InputError

# Of the tokenizer, besides tokenizer.json and tokenizer.model, and of generation: kept as they are.
BESIDE = (
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
)
TOKENIZERS = ("tokenizer.json", "tokenizer.model")


@dataclasses.dataclass(frozen=True)
class ModelFolder:
    """A published model. `files` are small files by name, the tokenizer among them."""

    place: pathlib.Path
    config: dict[str, Any]
    tensors: Tensors
    files: dict[str, bytes]
    license: str | None = None

    @property
    def tokenizer(self) -> str:
        """The name of the tokenizer's file. Raises InputError if there is none."""
        for name in TOKENIZERS:
            if name in self.files:
                return name
        raise InputError(
            f"{self.place}: it has no tokenizer; there is neither {' nor '.join(TOKENIZERS)}."
        )

    @property
    def end(self) -> str | None:
        """The token that ends a document; None if the files do not tell.

        A chat model's own end token ends a message, so those that end documents in pretraining come first.
        """
        texts = [self.files[name].decode(errors="replace") for name in self.files]
        for token in ("<|endoftext|>", "<|end_of_text|>"):
            if any(json.dumps(token) in text for text in texts):
                return token
        for name in ("tokenizer_config.json", "special_tokens_map.json"):
            end = _object(self.files.get(name, b"{}"), self.place / name).get("eos_token")
            end = end.get("content") if isinstance(end, dict) else end
            if isinstance(end, str):
                return end
        return None


def read(place: pathlib.Path, config_only: bool = False) -> ModelFolder:
    """Return the model in a folder or a .gguf file, of a folder with `config_only` without its tensors.

    Raises InputError if it is neither, or is a pickle.
    """
    if place.is_dir():
        return _folder(place, config_only)
    if not place.exists():
        raise InputError(f"{place}: there is no such folder or file.")
    match place.suffix:
        case ".gguf":
            return _gguf(place)
        case ".bin" | ".pt" | ".pth" | ".ckpt":
            raise safetensors.refused(place)
    raise InputError(f"{place}: give a Hugging Face folder or a .gguf file.")


def _folder(folder: pathlib.Path, config_only: bool) -> ModelFolder:
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder}: it is no Hugging Face folder; there is no config.json.")
    config = _object((folder / "config.json").read_bytes(), folder / "config.json")
    names = (*TOKENIZERS, *BESIDE)
    files = {name: (folder / name).read_bytes() for name in names if (folder / name).is_file()}
    card = folder / "README.md"
    text = card.read_text(errors="replace") if card.is_file() else ""
    stated = re.match(r"---\n(?:.*\n)*?license: *([\w.-]+) *\n", text)
    tensors = Safetensors([]) if config_only else Safetensors.of_folder(folder)
    return ModelFolder(folder, config, tensors, files, stated.group(1) if stated else None)


def _gguf(file: pathlib.Path) -> ModelFolder:
    tensors = Gguf(file)
    metadata = tensors.metadata
    files = {"tokenizer.json": _json(gguf_tokenizer.tokenizer_json(tensors))}
    tokens = metadata["tokenizer.ggml.tokens"]
    about: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast"}
    for ours, theirs in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")):
        if (number := metadata.get(f"tokenizer.ggml.{theirs}_token_id")) is not None:
            about[f"{ours}_token"] = tokens[number]
    about["chat_template"] = metadata.get("tokenizer.chat_template")
    files["tokenizer_config.json"] = _json({k: v for k, v in about.items() if v is not None})
    return ModelFolder(file, tensors.config(), tensors, files, metadata.get("general.license"))


def _json(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()


def _object(content: bytes, where: pathlib.Path) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except ValueError as e:
        raise InputError(f"{where}: it is not JSON ({e}).") from e
    if not isinstance(value, dict):
        raise InputError(f"{where}: it is not a JSON object.")
    return value
