"""Accelerators: how fast their matrix products can be, and how much memory they have.

Peaks are of dense bfloat16 products with float32 sums, as the makers state them; a CPU has no such number.
"""

from __future__ import annotations

import dataclasses
import math

from poison_scaling.errors import InputError, shown


@dataclasses.dataclass(frozen=True)
class Chip:
    """kind: what JAX calls it (`device_kind`); flops: a second; memory: bytes; slices: shapes it comes in."""

    kind: str
    flops: float
    memory: int
    source: str
    slices: tuple[str, ...] = ()


_GIB = 2**30
_FLAT = ("2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_CUBES = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8", "8x8x16")
_TPU, _NVIDIA = "cloud.google.com/tpu/docs", "nvidia.com/en-us/data-center"

CHIPS = {
    "v5e": Chip("TPU v5 lite", 197e12, 16 * _GIB, f"{_TPU}/v5e", _FLAT),
    "v5p": Chip("TPU v5", 459e12, 95 * _GIB, f"{_TPU}/v5p", _CUBES),
    "v6e": Chip("TPU v6 lite", 918e12, 32 * _GIB, f"{_TPU}/v6e", _FLAT),
    "a100": Chip("NVIDIA A100-SXM4-80GB", 312e12, 80 * 10**9, f"{_NVIDIA}/a100"),
    "h100": Chip("NVIDIA H100 80GB HBM3", 989e12, 80 * 10**9, f"{_NVIDIA}/h100"),
    "h200": Chip("NVIDIA H200", 989e12, 141 * 10**9, f"{_NVIDIA}/h200"),
}


def peak_flops(kind: str) -> float | None:
    """Of a device of this `device_kind`, a second; None where it is not known."""
    return next((c.flops for c in CHIPS.values() if c.kind == kind), None)


def parse(topology: str, field: str = "--topology") -> tuple[Chip, str]:
    """The chip and the shape of "v5p:4x4x4"; raises InputError where there is no such slice."""
    name, _, shape = topology.partition(":")
    chip = CHIPS.get(name)
    if chip is None or shape not in chip.slices:
        right = "; ".join(f"{n}:{', '.join(c.slices)}" for n, c in CHIPS.items() if c.slices)
        raise InputError(f"{field} {shown(topology)}: there is no such slice. There are {right}.")
    return chip, shape


def count(shape: str) -> int:
    """Chips of a slice of this shape, "4x4x4"."""
    return math.prod(map(int, shape.split("x")))
