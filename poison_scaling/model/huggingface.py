"""Models of Hugging Face: which of our architectures a config.json describes, and the other way round."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from poison_scaling.model.architectures.architecture import Architecture
from poison_scaling.model.architectures.gpt_neox import GPTNeoX
from poison_scaling.model.architectures.llama import Llama
from poison_scaling.model.architectures.olmo2 import OLMo2
from poison_scaling.model.config_json import ConfigJson
from poison_scaling.model.dimensions import Dimensions
from poison_scaling.model.family import Family
from poison_scaling.runtime.errors import InputError, shown

FAMILIES: dict[str, type[Family]] = {
    "llama": Llama,
    "mistral": Llama,
    "qwen2": Llama,
    "gpt_neox": GPTNeoX,
    "olmo2": OLMo2,
}  # by `model_type`


def from_huggingface(config: Mapping[str, Any]) -> tuple[Family, str, int]:
    """Return the architecture, the size and the vocabulary size that a config.json describes.

    A shape without a name is the size "custom" of an architecture that holds it. Raises InputError if the
    model is not of a known family or has an option that is not supported.
    """
    fields = ConfigJson(config)
    kind = fields.fields.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise InputError(
            f"config.json: models of type {shown(kind)} are not supported; there are "
            f"{', '.join(map(repr, FAMILIES))}."
        )
    if fields.fields.get("quantization_config"):
        raise InputError(
            "config.json: quantization_config: quantised weights are not supported; take the model's "
            "original weights."
        )
    family = FAMILIES[kind]
    return *family.of(family.read_config(fields)), fields.count("vocab_size")


def to_huggingface(
    architecture: Architecture, size: str, vocab_size: int, context: int
) -> dict[str, Any]:
    """Return the config.json of a model; `context` is the length in tokens that it is meant for.

    Raises InputError if Hugging Face's transformers has no such model.
    """
    family, d = dimensions(architecture, size)
    config = family.write_config(d)
    config |= {"vocab_size": vocab_size, "max_position_embeddings": context}
    described = FAMILIES[config["model_type"]].read_config(ConfigJson(config)).normal_form()
    if dataclasses.replace(described, initial=d.initial) != d.normal_form():
        raise InputError(
            f"model.architecture.shape: no config.json of type {config['model_type']!r} describes this shape "
            f"of {type(family).__name__}."
        )
    return config


def dimensions(architecture: Architecture, size: str) -> tuple[Family, Dimensions]:
    """Return an architecture as a family, and the shape of a size.

    Raises InputError if the architecture is not a family of Transformers.
    """
    if not isinstance(architecture, Family):
        raise InputError(
            f"model.architecture={type(architecture).__name__}: Hugging Face has no such model; there are "
            "Decoder, Llama, GPTNeoX and OLMo2."
        )
    return architecture, architecture.sizes()[size]
