"""The decoder-only Transformer of this package: its ladder of sizes, exact parameter counts and FLOPs.

A size is named after its parameter count, embeddings included, at the vocabulary size of its group. Another
vocabulary size changes the count but not the dimensions; `plan` always prints the exact count.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from poison_scaling.model.architectures.llama import Llama
from poison_scaling.model.dimensions import Dimensions
from poison_scaling.model.family import Family

CHINCHILLA_TOKENS_PER_PARAMETER = 20  # Hoffmann et al. 2022, arXiv 2203.15556; used by Souly et al.


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

SIZES: dict[str, Dimensions] = LAPTOP | ACCELERATOR

_FIXED = {
    field.name: field.default
    for field in dataclasses.fields(Dimensions)
    if field.default is not dataclasses.MISSING and field.name != "tied"
}


@dataclasses.dataclass(frozen=True)
class Decoder(Family):
    """A decoder with RoPE, RMSNorm before each sublayer, causal attention and SwiGLU: a small Llama.

    Initial weights are truncated normal with a variance of 1 / inputs.
    """

    NAMED = SIZES
    FIXED = _FIXED
    TENSORS = Llama.TENSORS

    @classmethod
    def write_config(cls, d: Dimensions) -> dict[str, Any]:
        return Llama.write_config(d)
