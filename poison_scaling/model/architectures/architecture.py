"""The base class of architectures: what a study needs to know about a family of models."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from poison_scaling.config.extensions import extensible

if TYPE_CHECKING:
    import jax
    from jax.sharding import Mesh

    from poison_scaling.model.language_model import LanguageModel
    from poison_scaling.model.settings import Model


@extensible(
    "architecture",
    required=("sizes", "parameters", "train_flops_per_token", "build"),
    default="Decoder",
)
@dataclasses.dataclass(frozen=True)
class Architecture:
    """Base class of architectures. Extend it with a frozen dataclass: docs/howto/architecture.md.

    An architecture names its sizes and builds models of them. `plan` asks for parameters and FLOPs; import
    JAX only inside `build` to keep it fast.
    """

    def sizes(self) -> Mapping[str, Any]:
        """Return the dimensions of each size by name, smallest first. A rung of the ladder names a size."""
        raise NotImplementedError

    def parameters(self, size: str, vocab_size: int) -> int:
        """Return the exact number of trained parameters, embeddings included."""
        raise NotImplementedError

    def train_flops_per_token(self, size: str, vocab_size: int, seq_len: int) -> int:
        """Return the floating-point operations of training on one token, without rematerialisation.

        Follows the convention of PaLM (Chowdhery et al. 2022, arXiv 2204.02311, appendix B): 6 per weight of
        the matrix products, plus 12 x layers x heads x head width x sequence length for attention.
        """
        raise NotImplementedError

    def build(
        self, size: str, vocab_size: int, settings: Model, key: jax.Array, mesh: Mesh | None = None
    ) -> LanguageModel:
        """Return a model of this size with initial weights from `key` alone and activations on `mesh`."""
        raise NotImplementedError
