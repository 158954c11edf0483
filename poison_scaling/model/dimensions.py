"""What the families of decoder-only Transformers differ in, as data, and the counts that follow from it.

This module needs no JAX, so that a plan can count parameters and FLOPs.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, Literal

from poison_scaling.config.ranges import Above, AtMost, Count, Share
from poison_scaling.runtime.errors import InputError

Positive = Annotated[float, Above(0)]


@dataclasses.dataclass(frozen=True)
class RotaryScaling:
    """Llama 3's scaling of rotary frequencies (Dubey et al. 2024, arXiv 2407.21783; Llama 3.1's release).

    Wavelengths above context / low are multiplied by `factor`, those below context / high stay as they are,
    and those between are interpolated. `context` is the length, in tokens, trained with before.
    """

    factor: Positive = 8.0
    low: Positive = 1.0
    high: Positive = 4.0
    context: Count = 8192

    def __post_init__(self):
        if self.high <= self.low:
            raise InputError(
                f"rotary_scaling.high={self.high:g}: it must be above low={self.low:g}."
            )


@dataclasses.dataclass(frozen=True)
class Dimensions:
    """Dimensions and options of a decoder-only Transformer; the defaults are those of `Decoder`.

    width: of the residual stream. layers: number of blocks. heads: attention heads. mlp: hidden width of the
    MLP. tied: whether input and output embeddings share weights.
    """

    width: Count
    layers: Count
    heads: Count
    mlp: Count
    tied: bool = False
    # Heads of keys and values, each shared by heads / kv_heads queries (Ainslie et al. 2023, arXiv
    # 2305.13245); None: as many as heads.
    kv_heads: Count | None = None
    head_width: Count | None = None  # of one attention head; None: width / heads
    norm: Literal["rms", "layer"] = "rms"  # LayerNorm has a bias
    epsilon: Annotated[float, Above(0), AtMost(1)] = 1e-6  # of the norms
    norm_after: bool = False  # norms follow attention and MLP instead of preceding them
    qk_norm: bool = False  # norms over all queries, and over all keys, of a position
    parallel: bool = False  # attention and MLP of a block read the same input
    activation: Literal["swiglu", "gelu", "gelu_tanh"] = "swiglu"  # gelu: exact; swiglu is gated
    qkv_bias: bool = False
    out_bias: bool = False  # of the output projection of attention
    mlp_bias: bool = False
    rotary_base: Annotated[float, Above(1)] = 10_000.0
    rotary_share: Share = 1.0  # of a head that is rotated, from its start
    rotary_scaling: RotaryScaling | None = None
    window: Count | None = None  # positions attended to; longer sequences are refused
    # Initial weights. fan_in: truncated normal with variance 1 / inputs. normal: N(0, 0.02^2). small:
    # N(0, 2 / (5 width)), and 2 / (layers sqrt(width)) as the standard deviation of what is added to the
    # residual stream (GPT-NeoX: Black et al. 2022, arXiv 2204.06745, section 3).
    initial: Literal["fan_in", "normal", "small"] = "fan_in"

    def __post_init__(self):
        if self.head_width is None and self.width % self.heads:
            raise InputError(
                f"heads={self.heads}: it must divide width={self.width}, or state head_width."
            )
        if self.heads % self.groups:
            raise InputError(
                f"kv_heads={self.kv_heads}: it must divide heads={self.heads}, which share keys and values."
            )
        if self.rotary % 2:
            raise InputError(
                f"heads={self.heads}: {self.rotary} numbers of a head are rotated, in pairs; choose an even "
                "number by width, heads, head_width and rotary_share."
            )

    @property
    def head(self) -> int:
        """The width of one attention head."""
        return self.head_width or self.width // self.heads

    @property
    def groups(self) -> int:
        """The number of heads of keys and values."""
        return self.kv_heads or self.heads

    @property
    def rotary(self) -> int:
        """The number of entries of a head that rotary position embeddings rotate."""
        return int(self.head * self.rotary_share)

    def normal_form(self) -> Dimensions:
        """Return equal dimensions in which no number of heads or width of them is stated needlessly."""
        return dataclasses.replace(
            self,
            kv_heads=None if self.kv_heads == self.heads else self.kv_heads,
            head_width=None if self.head_width == self.width / self.heads else self.head_width,
        )

    def shapes(self, vocab_size: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the parameters outside of the blocks, by their dotted names in the model."""
        found: dict[str, tuple[int, ...]] = {"embedding_VxD": (vocab_size, self.width)}
        found |= self._norm("norm")
        if not self.tied:
            found["output_DxV"] = (self.width, vocab_size)
        return found

    def block_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the parameters of each block, by their dotted names in the block."""
        D, M = self.width, self.mlp
        Q, KV = self.heads * self.head, self.groups * self.head
        found = self._norm("attention_norm")
        found["attention.query_key_value_DxJ"] = (D, Q + 2 * KV)
        if self.qkv_bias:
            found["attention.query_key_value_bias_J"] = (Q + 2 * KV,)
        if self.qk_norm:
            found["attention.query_norm.scale_D"] = (Q,)
            found["attention.key_norm.scale_D"] = (KV,)
        found["attention.out_JxD"] = (Q, D)
        if self.out_bias:
            found["attention.out_bias_D"] = (D,)
        found |= self._norm("mlp_norm")
        if self.activation == "swiglu":
            found["mlp.gate_DxM"] = (D, M)
            if self.mlp_bias:
                found["mlp.gate_bias_M"] = (M,)
        found["mlp.up_DxM"] = (D, M)
        found["mlp.down_MxD"] = (M, D)
        if self.mlp_bias:
            found |= {"mlp.up_bias_M": (M,), "mlp.down_bias_D": (D,)}
        return found

    def parameters(self, vocab_size: int) -> int:
        """Return the exact number of trained parameters, embeddings included."""
        outside, block = self.shapes(vocab_size).values(), self.block_shapes().values()
        return sum(map(math.prod, outside)) + self.layers * sum(map(math.prod, block))

    def train_flops_per_token(self, vocab_size: int, seq_len: int) -> int:
        """Return FLOPs as `Architecture.train_flops_per_token` defines them.

        The input embedding, a lookup, is not counted; the output layer is. Attention counts as if not causal.
        """
        products = sum(math.prod(s) for s in self.block_shapes().values() if len(s) == 2)
        weights = self.layers * products + vocab_size * self.width
        return 6 * weights + 12 * self.layers * self.heads * self.head * seq_len

    def _norm(self, name: str) -> dict[str, tuple[int, ...]]:
        parts = ("scale_D", "bias_D") if self.norm == "layer" else ("scale_D",)
        return {f"{name}.{part}": (self.width,) for part in parts}
