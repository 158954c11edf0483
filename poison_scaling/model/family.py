"""The base class of families of Transformers: sizes by name, any other shape, and Hugging Face's names."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from poison_scaling.config.serialization import added
from poison_scaling.model.architectures.architecture import Architecture
from poison_scaling.model.dimensions import Dimensions
from poison_scaling.runtime.errors import InputError

if TYPE_CHECKING:
    import jax
    from jax.sharding import Mesh

    from poison_scaling.model.config_json import ConfigJson
    from poison_scaling.model.settings import Model
    from poison_scaling.model.transformer import Transformer

CUSTOM = "custom"


@dataclasses.dataclass(frozen=True)
class Family(Architecture):
    """A family of Transformers that differ in their dimensions only.

    `shape` is that of the size "custom", for models without a name here. Of its options, those in `FIXED` are
    the same in the whole family; `dataclasses.replace(Llama().sizes()["smollm2-135m"], layers=4)` keeps them.
    """

    shape: Dimensions | None = added(None)

    NAMED: ClassVar[Mapping[str, Dimensions]]
    FIXED: ClassVar[Mapping[str, Any]]
    # Hugging Face's name, or names of parts that ours joins, of each parameter of a model; "{}" is the layer.
    TENSORS: ClassVar[Mapping[str, str | tuple[str, ...]]]

    def __post_init__(self):
        for name, value in self.FIXED.items() if self.shape else ():
            if (given := getattr(self.shape, name)) != value:
                raise InputError(
                    f"model.architecture.shape.{name}={given!r}: in {type(self).__name__} it is {value!r}."
                )

    def sizes(self) -> Mapping[str, Dimensions]:
        return {**self.NAMED, CUSTOM: self.shape} if self.shape else self.NAMED

    def parameters(self, size: str, vocab_size: int) -> int:
        return self.sizes()[size].parameters(vocab_size)

    def train_flops_per_token(self, size: str, vocab_size: int, seq_len: int) -> int:
        return self.sizes()[size].train_flops_per_token(vocab_size, seq_len)

    def build(
        self, size: str, vocab_size: int, settings: Model, key: jax.Array, mesh: Mesh | None = None
    ) -> Transformer:
        from poison_scaling.model.transformer import Transformer  # a plan needs no JAX

        return Transformer(self.sizes()[size], vocab_size, settings, key, mesh)

    @classmethod
    def of(cls, shape: Dimensions) -> tuple[Family, str]:
        """Return the architecture and the size of a shape: its name, or "custom" if it has none."""
        shape = shape.normal_form()
        named = [name for name, d in cls.NAMED.items() if d == shape]
        return (cls(), named[0]) if named else (cls(shape=shape), CUSTOM)

    @classmethod
    def read_config(cls, config: ConfigJson) -> Dimensions:
        """Return the shape that a config.json describes. Raises InputError if it is not supported."""
        raise NotImplementedError

    @classmethod
    def write_config(cls, d: Dimensions) -> dict[str, Any]:
        """Return the fields of the config.json of a shape."""
        raise NotImplementedError
