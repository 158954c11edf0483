"""The fields of the config.json of a Hugging Face model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from poison_scaling.model.dimensions import Dimensions, RotaryScaling
from poison_scaling.runtime.errors import InputError, shown


class ConfigJson:
    """The fields of a config.json. A field that is null counts as absent.

    Every method raises InputError, one sentence with the field and its value, if the value does not do.
    """

    def __init__(self, fields: Mapping[str, Any]):
        if not isinstance(fields, Mapping):
            raise InputError("config.json: it is not a JSON object.")
        self.fields = fields

    def count(self, name: str, default: int | None = None) -> int:
        """Return a whole number of at least 1."""
        value = self._value(name, default)
        if type(value) is not int or not 1 <= value < 2**31:
            raise InputError(
                f"config.json: {name}={shown(value)} is not a whole number of at least 1."
            )
        return value

    def optional_count(self, name: str) -> int | None:
        return None if self.fields.get(name) is None else self.count(name)

    def number(self, name: str, default: float | None = None) -> float:
        """Return a positive number."""
        return _number(name, self._value(name, default))

    def flag(self, name: str, default: bool) -> bool:
        value = self._value(name, default)
        if type(value) is not bool:
            raise InputError(f"config.json: {name}={shown(value)} is neither true nor false.")
        return value

    def choice(self, name: str, among: tuple, default: Any) -> Any:
        """Return a value that must be one of `among`, which are those supported."""
        value = self._value(name, default)
        if not any(type(value) is type(one) and value == one for one in among):
            values = " or ".join(map(repr, among))
            raise InputError(
                f"config.json: {name}={shown(value)} is not supported; it must be {values}."
            )
        return value

    def rotary(self, share: float | None = None) -> dict[str, Any]:
        """Return the `rotary_*` fields of Dimensions.

        `share` is the family's default of the rotated part of a head; None: a head is rotated as a whole.

        They are in `rope_parameters` since version 5 of transformers; before, in `rope_scaling` and fields of
        their own.
        """
        fields = {**self._part("rope_scaling"), **self._part("rope_parameters")}
        kind = fields.get("rope_type", fields.get("type", "default"))

        def get(*names: str, default: float | None = None) -> float:
            given = [(n, of[n]) for n in names for of in (fields, self.fields) if n in of]
            given = [(name, value) for name, value in given if value is not None]
            if given:
                return _number(*given[0])
            if default is None:
                raise InputError(
                    f"config.json: it has no field {names[0]!r}, which {kind!r} needs."
                )
            return default

        scaling = None
        if kind == "llama3":
            scaling = RotaryScaling(
                factor=get("factor"),
                low=get("low_freq_factor"),
                high=get("high_freq_factor"),
                context=int(get("original_max_position_embeddings", "max_position_embeddings")),
            )
        elif kind != "default":
            raise InputError(
                f"config.json: rotary embeddings of type {shown(kind)} are not supported; there are "
                "'default' and 'llama3'."
            )
        rotated = get("partial_rotary_factor", "rotary_pct", default=share or 1.0)
        if share is None and rotated != 1:
            raise InputError(
                f"config.json: partial_rotary_factor={rotated:g} is not supported; it must be 1."
            )
        return {
            "rotary_base": get("rope_theta", "rotary_emb_base", default=10_000.0),
            "rotary_share": rotated,
            "rotary_scaling": scaling,
        }

    def shape(self) -> dict[str, Any]:
        """Return the dimensions that every family has under the same names, as fields of `Dimensions`."""
        return {
            "width": self.count("hidden_size"),
            "layers": self.count("num_hidden_layers"),
            "heads": self.count("num_attention_heads"),
            "mlp": self.count("intermediate_size"),
            "tied": self.flag("tie_word_embeddings", False),
        }

    def _part(self, name: str) -> Mapping[str, Any]:
        value = self.fields.get(name) or {}
        if not isinstance(value, Mapping):
            raise InputError(f"config.json: {name}={shown(value)} is not a JSON object.")
        return value

    def _value(self, name: str, default: Any) -> Any:
        value = self.fields.get(name)
        value = default if value is None else value
        if value is None:
            raise InputError(f"config.json: it has no field {name!r}.")
        return value


def _number(name: str, value: Any) -> float:
    if type(value) not in (int, float) or not 0 < value < float("inf"):
        raise InputError(f"config.json: {name}={shown(value)} is not a positive number.")
    return float(value)


def shape_config(d: Dimensions) -> dict[str, Any]:
    """Return the fields of a config.json for what `ConfigJson.shape` reads."""
    return {
        "hidden_size": d.width,
        "num_hidden_layers": d.layers,
        "num_attention_heads": d.heads,
        "intermediate_size": d.mlp,
        "tie_word_embeddings": d.tied,
    }


def rotary_config(d: Dimensions) -> dict[str, Any]:
    """Return the fields of a config.json for rotary embeddings, as all versions of transformers read them."""
    scaling = d.rotary_scaling and {
        "rope_type": "llama3",
        "factor": d.rotary_scaling.factor,
        "low_freq_factor": d.rotary_scaling.low,
        "high_freq_factor": d.rotary_scaling.high,
        "original_max_position_embeddings": d.rotary_scaling.context,
    }
    return {"rope_theta": d.rotary_base, "rope_scaling": scaling}
