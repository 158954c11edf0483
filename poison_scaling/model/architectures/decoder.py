"""The decoder-only Transformer of this package: its ladder of sizes, exact parameter counts and FLOPs.

A size is named after its parameter count, embeddings included, at the vocabulary size of its group. Another
vocabulary size changes the count but not the dimensions; `plan` always prints the exact count.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

from poison_scaling.model.architectures.architecture import Architecture

if TYPE_CHECKING:
    import jax
    from jax.sharding import Mesh

    from poison_scaling.model.settings import Model
    from poison_scaling.model.transformer import Transformer

CHINCHILLA_TOKENS_PER_PARAMETER = 20  # Hoffmann et al. 2022, arXiv 2203.15556; used by Souly et al.


@dataclasses.dataclass(frozen=True)
class Dimensions:
    """Dimensions of a decoder-only Transformer.

    width: of the residual stream. layers: number of blocks. heads: attention heads, each width / heads wide.
    mlp: hidden width of the gated MLP. tied: whether input and output embeddings share weights.
    """

    width: int
    layers: int
    heads: int
    mlp: int
    tied: bool = False

    @property
    def head(self) -> int:
        """The width of one attention head."""
        return self.width // self.heads

    def parameters(self, vocab_size: int) -> int:
        """Return the exact number of trained parameters, embeddings included."""
        embeddings = vocab_size * self.width * (1 if self.tied else 2)
        norms = 2 * self.width
        return embeddings + self.layers * (self._products() + norms) + self.width

    def train_flops_per_token(self, vocab_size: int, seq_len: int) -> int:
        """Return FLOPs as `Architecture.train_flops_per_token` defines them.

        The input embedding, a lookup, is not counted; the output layer is. Attention counts as if not causal.
        """
        weights = self.layers * self._products() + vocab_size * self.width
        return 6 * weights + 12 * self.layers * self.heads * self.head * seq_len

    def _products(self) -> int:
        """Return the number of weights in a block's matrix products."""
        return 4 * self.width * self.heads * self.head + 3 * self.width * self.mlp


# Vocabulary size 1,024: sizes that train on a laptop CPU.
LAPTOP: dict[str, Dimensions] = {
    "30k": Dimensions(width=12, layers=2, heads=1, mlp=56),
    "40k": Dimensions(width=16, layers=2, heads=1, mlp=48),
    "60k": Dimensions(width=24, layers=2, heads=2, mlp=64),
    "90k": Dimensions(width=32, layers=2, heads=2, mlp=88),
    "150k": Dimensions(width=48, layers=2, heads=3, mlp=128),
    "230k": Dimensions(width=64, layers=2, heads=2, mlp=176),
    "350k": Dimensions(width=80, layers=3, heads=4, mlp=152),
    "530k": Dimensions(width=96, layers=3, heads=6, mlp=256),
    "1m": Dimensions(width=128, layers=4, heads=4, mlp=344),
    "2m": Dimensions(width=192, layers=4, heads=6, mlp=480),
    "3m": Dimensions(width=224, layers=4, heads=7, mlp=640),
    "5m": Dimensions(width=256, layers=6, heads=8, mlp=640),
}

# Vocabulary size 32,000: from a single accelerator up to pods.
ACCELERATOR: dict[str, Dimensions] = {
    "10m": Dimensions(width=128, layers=9, heads=4, mlp=344),
    "20m": Dimensions(width=256, layers=5, heads=4, mlp=640),
    "50m": Dimensions(width=512, layers=6, heads=8, mlp=1280),
    "100m": Dimensions(width=640, layers=12, heads=10, mlp=1728),
    "150m": Dimensions(width=768, layers=14, heads=12, mlp=2048),
    "300m": Dimensions(width=1024, layers=18, heads=16, mlp=2816),
    "600m": Dimensions(width=1280, layers=26, heads=10, mlp=3456),
    "1b": Dimensions(width=1792, layers=23, heads=14, mlp=4864),
    "2b": Dimensions(width=2048, layers=36, heads=16, mlp=5632),
    "4b": Dimensions(width=3072, layers=33, heads=24, mlp=8320),
    "7b": Dimensions(width=4096, layers=32, heads=32, mlp=11520),
    "13b": Dimensions(width=5120, layers=40, heads=40, mlp=13824),
}

# Vocabulary size 50,304: width, layers and heads of Pythia (Biderman et al. 2023, arXiv 2304.01373, table 1,
# and the two smaller models released later). Its MLP has two matrices and a hidden width of 4 x width; ours
# has three and a hidden width of 8/3 x width, rounded, which gives the same number of parameters.
PYTHIA: dict[str, Dimensions] = {
    "pythia-14m": Dimensions(width=128, layers=6, heads=4, mlp=344),
    "pythia-31m": Dimensions(width=256, layers=6, heads=8, mlp=688),
    "pythia-70m": Dimensions(width=512, layers=6, heads=8, mlp=1376),
    "pythia-160m": Dimensions(width=768, layers=12, heads=12, mlp=2048),
    "pythia-410m": Dimensions(width=1024, layers=24, heads=16, mlp=2752),
    "pythia-1b": Dimensions(width=2048, layers=16, heads=8, mlp=5440),
    "pythia-1.4b": Dimensions(width=2048, layers=24, heads=16, mlp=5440),
    "pythia-2.8b": Dimensions(width=2560, layers=32, heads=32, mlp=6848),
    "pythia-6.9b": Dimensions(width=4096, layers=32, heads=32, mlp=10944),
    "pythia-12b": Dimensions(width=5120, layers=36, heads=40, mlp=13632),
}

SIZES: dict[str, Dimensions] = LAPTOP | ACCELERATOR | PYTHIA


@dataclasses.dataclass(frozen=True)
class Decoder(Architecture):
    """A decoder with RoPE, RMSNorm before each sublayer, causal attention and SwiGLU: `Transformer`."""

    def sizes(self) -> Mapping[str, Dimensions]:
        return SIZES

    def parameters(self, size: str, vocab_size: int) -> int:
        return self.sizes()[size].parameters(vocab_size)

    def train_flops_per_token(self, size: str, vocab_size: int, seq_len: int) -> int:
        return self.sizes()[size].train_flops_per_token(vocab_size, seq_len)

    def build(
        self, size: str, vocab_size: int, settings: Model, key: jax.Array, mesh: Mesh | None = None
    ) -> Transformer:
        from poison_scaling.model.transformer import Transformer  # a plan needs no JAX

        return Transformer(self.sizes()[size], vocab_size, settings, key, mesh)
