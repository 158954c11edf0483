"""Accelerators: how fast their matrix products can be, how much memory they have, their compiler's options.

Peaks are of dense bfloat16 products with float32 sums, as the makers state them; a CPU has no such number.
"""

from __future__ import annotations

import dataclasses
import math

from poison_scaling.runtime.errors import InputError, shown


@dataclasses.dataclass(frozen=True)
class Chip:
    """kind: what JAX calls it (`device_kind`); flops: a second; memory: bytes; slices: shapes it comes in.

    options: of the compiler, for a train step.
    """

    kind: str
    flops: float
    memory: int
    source: str
    slices: tuple[str, ...] = ()
    options: dict[str, str] = dataclasses.field(default_factory=dict)


_GIB = 2**30
_FLAT = ("2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_CUBES = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8", "8x8x16")
_TPU, _NVIDIA = "cloud.google.com/tpu/docs", "nvidia.com/en-us/data-center"

# Options that the compiler supports for a generation, with what they do there; benchmarks/RESULTS.md has
# measurements. v5p and v6e have none: each that they support changes nothing, and the
# fusion of all-gathers with products, which does, libtpu warns of as wrong and hanging outside v5e.
_V5E = {
    # One all-gather more in a step, 0.03 GB less of temporaries a chip (13b on 8x8, 128 rows; 4.34 -> 4.31).
    "xla_tpu_prefer_async_allgather_to_allreduce": "true",
}

CHIPS = {
    "v5e": Chip("TPU v5 lite", 197e12, 16 * _GIB, f"{_TPU}/v5e", _FLAT, _V5E),
    "v5p": Chip("TPU v5", 459e12, 95 * _GIB, f"{_TPU}/v5p", _CUBES),
    "v6e": Chip("TPU v6 lite", 918e12, 32 * _GIB, f"{_TPU}/v6e", _FLAT),
    "a100": Chip("NVIDIA A100-SXM4-80GB", 312e12, 80 * 10**9, f"{_NVIDIA}/a100"),
    "h100": Chip("NVIDIA H100 80GB HBM3", 989e12, 80 * 10**9, f"{_NVIDIA}/h100"),
    "h200": Chip("NVIDIA H200", 989e12, 141 * 10**9, f"{_NVIDIA}/h200"),
}


def peak_flops(kind: str) -> float | None:
    """Of a device of this `device_kind`, a second; None where it is not known."""
    return next((c.flops for c in CHIPS.values() if c.kind == kind), None)


def compiler_options(kind: str) -> dict[str, str]:
    """For a train step on devices of this `device_kind`; none where there is none to give."""
    return next((c.options for c in CHIPS.values() if c.kind == kind), {})


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
