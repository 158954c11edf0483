"""Compile a study's train step for a TPU slice that is not here, and say whether it fits.

libtpu compiles for a TPU on any Linux machine: `pip install poison_scaling[tpu]`. What is compiled is the
step that `train` runs, with its optimizer, shardings and donated state, and nothing is executed.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
import time

import jax
import jax.numpy as jnp

from poison_scaling import hlo
from poison_scaling.chips import CHIPS, Chip
from poison_scaling.config import Study
from poison_scaling.errors import InputError
from poison_scaling.model import sharding, sizes
from poison_scaling.runs import Run
from poison_scaling.train.loop import Compiled


@dataclasses.dataclass(frozen=True)
class Result:
    """Bytes are of one chip. Where the compiler found no room, `peak` is what it wanted, the rest 0."""

    size: str
    topology: str
    chips: int
    memory: int  # of the chip
    arguments: int  # state and batch
    temporaries: int
    peak: int  # arguments, temporaries, results that take no argument's place, and the program
    seconds: float  # to compile
    flops: float  # of one step's matrix products, all chips
    analytic_flops: float  # the same by sizes.train_flops_per_token: nothing computed again
    collectives: dict[str, tuple[int, int]]  # kind: how often in a step, and bytes

    @property
    def fits(self) -> bool:
        return self.peak <= self.memory

    def days(self, flops: float, chip: Chip, utilisation: float) -> float:
        """Wall time of a run of so many FLOPs at this share of the chips' peak (MFU)."""
        return flops / (self.chips * chip.flops * utilisation) / 86_400


def parse(topology: str) -> tuple[Chip, str]:
    """The chip and the shape of "v5p:4x4x4"; raises InputError where there is no such slice."""
    name, _, shape = topology.partition(":")
    chip = CHIPS.get(name)
    if chip is None or shape not in chip.slices:
        right = "; ".join(f"{n}:{', '.join(c.slices)}" for n, c in CHIPS.items() if c.slices)
        raise InputError(f"--topology {topology!r}: there is no such slice. There are {right}.")
    return chip, shape


def compile(study: Study, size: str, topology: str, slices: int = 1) -> Result:
    """Lower and compile the train step of `size` for `slices` slices of a topology, "v5p:4x4x4".

    Raises InputError when the mesh does not fit, or libtpu is not installed.
    """
    chip, _ = parse(topology)
    mesh = sharding.mesh(study.machine.mesh, _devices(topology, slices))
    # Neither the number of steps, nor the learning rate, nor the id of the end of a document matters.
    program = Compiled(size, 1e-4, 1000, study, 1, mesh)
    B, L = study.train.batch_rows, study.data.row_tokens
    batch = {
        "tokens": jax.ShapeDtypeStruct((B, L), jnp.int32, sharding=program.batch),
        "poison": jax.ShapeDtypeStruct((B, L), jnp.bool, sharding=program.batch),
    }
    traced = program.step.trace(program.abstract, batch)
    per_token = sizes.train_flops_per_token(sizes.SIZES[size], study.data.vocabulary.pieces, L)
    about = {
        "size": size,
        "topology": topology if slices == 1 else f"{slices} x {topology}",
        "chips": mesh.size,
        "memory": chip.memory,
        "flops": float(hlo.product_flops(traced.jaxpr.jaxpr, mesh.size)),
        "analytic_flops": float(per_token * B * L),
    }
    start = time.monotonic()
    try:
        compiled = traced.lower().compile()
    except jax.errors.JaxRuntimeError as e:
        if "RESOURCE_EXHAUSTED" not in str(e):
            raise
        none = {"arguments": 0, "temporaries": 0, "collectives": {}}
        return Result(**about, **none, peak=_wanted(str(e)), seconds=time.monotonic() - start)
    seconds = time.monotonic() - start
    m = compiled.memory_analysis()
    results = m.output_size_in_bytes - m.alias_size_in_bytes
    return Result(
        **about,
        arguments=m.argument_size_in_bytes,
        temporaries=m.temp_size_in_bytes,
        peak=m.argument_size_in_bytes
        + m.temp_size_in_bytes
        + results
        + m.generated_code_size_in_bytes,
        seconds=seconds,
        collectives=hlo.collectives(compiled.as_text()),
    )


def smallest(study: Study, size: str, result: Result) -> Result | None:
    """The smallest slice of the same chip that the step fits, compiled; None if there is none.

    Memory shrinks at most in proportion to the chips: the search starts where that says it might fit.
    """
    name, _, _ = result.topology.partition(":")
    for shape in CHIPS[name].slices:
        chips = math.prod(map(int, shape.split("x")))
        if study.train.batch_rows % chips:
            return None
        if result.fits and chips >= result.chips:
            return result
        if result.arguments * result.chips > chips * result.memory:
            continue  # the state alone does not fit
        other = compile(study, size, f"{name}:{shape}")
        if other.fits:
            return other
    return None


def _devices(topology: str, slices: int) -> list[jax.Device]:
    """Those of the slices: they can be compiled for, not computed on."""
    try:
        import libtpu  # noqa: F401
    except ImportError as e:
        raise InputError(
            "compile: it needs libtpu, which is not installed; pip install 'poison_scaling[tpu]'."
        ) from e
    from jax.experimental import topologies

    # Or libtpu looks for the TPU that this machine would be part of, and complains at length.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", topology.replace(":", "-"))
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    options = {"num_slices": slices} if slices > 1 else {}
    return list(topologies.get_topology_desc(topology, "tpu", **options).devices)


def _wanted(message: str) -> int:
    """Bytes that the compiler says it would need: "Used 120.5G of 95.0G hbm"."""
    found = re.search(r"Used ([\d.]+)([KMG])", message)
    return int(float(found[1]) * 2 ** {"K": 10, "M": 20, "G": 30}[found[2]]) if found else 2**63


def describe(
    result: Result, least: Result | None, chip: Chip, budgets: dict[float, Run], utilisation: float
) -> str:
    """What `poison-scaling compile` prints; `budgets` are runs by their tokens per parameter."""
    r, giga = result, 1e9
    verdict = "fits" if r.fits else "does NOT fit"
    lines = [
        f"{r.size} on {r.topology} ({r.chips} chips): {verdict}; compiled in {r.seconds:.0f} s.",
        f"bytes a chip: arguments {r.arguments / giga:.2f} GB, temporaries {r.temporaries / giga:.2f} GB, "
        f"peak {r.peak / giga:.2f} GB of {r.memory / giga:.1f} GB ({r.peak / r.memory:.0%})",
        f"FLOPs a step: {r.flops:.3e} in matrix products, {r.flops / r.analytic_flops:.2f} times the "
        f"analytic {r.analytic_flops:.3e} (nothing computed again)",
    ]
    for kind, (count, size) in sorted(r.collectives.items()):
        lines.append(f"collectives a step: {kind} {count} times, {size / giga:.2f} GB")
    for budget, run in budgets.items():
        days = r.days(run.flops, chip, utilisation)
        lines.append(
            f"time: {days:.2f} days for {budget:g} tokens a parameter ({run.flops:.2e} FLOPs), "
            f"at {utilisation:.0%} of the peak of {chip.flops / 1e12:g} TFLOP/s a chip ({chip.source})"
        )
    if least is not None:
        lines.append(
            f"smallest slice that fits: {least.topology}, peak {least.peak / giga:.2f} GB a chip"
        )
    return "\n".join(lines)
