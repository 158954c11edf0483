"""Accelerators: peak FLOPs, memory and compiler options.

Peaks are those of dense bfloat16 matrix products with float32 accumulation, as published by the
manufacturers. CPUs have no entry.
"""

from __future__ import annotations

import dataclasses
import math

from poison_scaling.runtime.errors import InputError, shown


@dataclasses.dataclass(frozen=True)
class Chip:
    """An accelerator.

    kind: JAX's `device_kind`. flops: peak FLOPs per second. memory: in bytes. source: where these numbers are
    from. slices: available shapes. options: compiler options for a train step. devices: how many devices of
    JAX a chip is.
    """

    kind: str
    flops: float
    memory: int
    source: str
    slices: tuple[str, ...] = ()
    options: dict[str, str] = dataclasses.field(default_factory=dict)
    devices: int = 1


_GIB = 2**30
_FLAT = ("2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_CUBES = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8", "8x8x16")
_TPU, _NVIDIA = "cloud.google.com/tpu/docs", "nvidia.com/en-us/data-center"

# Compiler options of a generation and their effects; measurements are in benchmarks/RESULTS.md. v5p and v6e
# have none: options there have no effect, except the fusion of all-gathers with products, of which libtpu
# warns that it gives wrong results and hangs outside v5e.
_V5E = {
    # One more all-gather per step, 0.03 GB less temporary memory per chip (13b on 8x8, batch size 128).
    "xla_tpu_prefer_async_allgather_to_allreduce": "true",
}

CHIPS = {
    "v4": Chip("TPU v4", 275e12, 32 * _GIB, f"{_TPU}/v4", _CUBES),
    "v5e": Chip("TPU v5 lite", 197e12, 16 * _GIB, f"{_TPU}/v5e", _FLAT, _V5E),
    "v5p": Chip("TPU v5", 459e12, 95 * _GIB, f"{_TPU}/v5p", _CUBES),
    "v6e": Chip("TPU v6 lite", 918e12, 32 * _GIB, f"{_TPU}/v6e", _FLAT),
    "v7": Chip("TPU7x", 2307e12, 192 * _GIB, f"{_TPU}/tpu7x", _CUBES, devices=2),
    "a100": Chip("NVIDIA A100-SXM4-80GB", 312e12, 80 * 10**9, f"{_NVIDIA}/a100"),
    "h100": Chip("NVIDIA H100 80GB HBM3", 989e12, 80 * 10**9, f"{_NVIDIA}/h100"),
    "h200": Chip("NVIDIA H200", 989e12, 141 * 10**9, f"{_NVIDIA}/h200"),
}


def peak_flops(kind: str) -> float | None:
    """Return the peak FLOPs per second of a device of this `device_kind`; None if unknown."""
    return next((c.flops / c.devices for c in CHIPS.values() if c.kind == kind), None)


def compiler_options(kind: str) -> dict[str, str]:
    """Return the compiler options of a train step on devices of this `device_kind`; empty if unknown."""
    return next((c.options for c in CHIPS.values() if c.kind == kind), {})


def parse(topology: str, field: str = "--topology") -> tuple[Chip, str]:
    """Return the chip and the shape of a topology such as "v5p:4x4x4".

    Raises InputError, naming `field`, if there is no such slice.
    """
    name, _, shape = topology.partition(":")
    chip = CHIPS.get(name)
    if chip is None or shape not in chip.slices:
        right = "; ".join(f"{n}:{', '.join(c.slices)}" for n, c in CHIPS.items() if c.slices)
        raise InputError(f"{field} {shown(topology)}: there is no such slice. There are {right}.")
    return chip, shape


def count(shape: str) -> int:
    """Return the number of chips in a slice of a shape such as "4x4x4"."""
    return math.prod(map(int, shape.split("x")))
