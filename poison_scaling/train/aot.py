"""Compile a study's train step ahead of time for a TPU slice, without having one, and say whether it fits.

libtpu compiles for TPUs on any Linux machine: `pip install poison_scaling[tpu]`. The compiled step is the one
that `train` runs, with its optimizer, shardings and donated state; nothing is executed.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
import tempfile
import time

import jax
import jax.numpy as jnp

from poison_scaling.model import sharding
from poison_scaling.runtime import hlo
from poison_scaling.runtime.chips import CHIPS, count, parse
from poison_scaling.runtime.errors import InputError
from poison_scaling.study import grid
from poison_scaling.study.settings import Slice, Study
from poison_scaling.study.stages.stage import Stage
from poison_scaling.train.compiled import Compiled


@dataclasses.dataclass(frozen=True)
class Result:
    """What the compiler says of a train step, bytes per device, which is a chip or, of v7, half of one.

    If the step does not fit, `peak` is what the compiler asked for, and the other sizes are 0.
    """

    place: Slice
    stage: Stage | None  # None: pretraining
    chips: int
    memory: int  # of the device
    flops: float  # of one step's matrix products, all chips
    analytic_flops: float  # the same by the architecture's formula, without rematerialisation
    arguments: int = 0  # state and batch
    temporaries: int = 0
    # arguments, temporaries, results that reuse no argument's memory, and the program
    peak: int = 0
    seconds: float = 0.0  # to compile
    # per kind: how often it runs in a step, and its bytes
    collectives: dict[str, tuple[int, int]] = dataclasses.field(default_factory=dict)

    @property
    def fits(self) -> bool:
        return self.peak <= self.memory


def different_steps(study: Study) -> list[Stage | None]:
    """Return pretraining (None), if it is part of the study, and the stages with other train steps."""
    found: dict[tuple, Stage | None] = {}
    pretraining = () if study.start else (None,)
    for stage in (*pretraining, *study.named_stages().values()):
        own = _as_trained(study, stage)
        key = (own.train.batch_size, own.train.microbatches, own.data.seq_len, is_tuned(stage))
        found.setdefault(key, stage)
    return list(found.values())


def is_tuned(stage: Stage | None) -> bool:
    """Whether a stage trains on conversations, so that only some tokens of a batch have a loss."""
    return stage is not None and stage.conversation_template is not None


def _as_trained(study: Study, stage: Stage | None) -> Study:
    """Return the study with the settings of a stage in place of its own."""
    if stage is None:
        return study
    own = stage.train or study.train
    return dataclasses.replace(study, train=own, data=stage.data(study.data))


def compile(study: Study, place: Slice, stage: Stage | None = None) -> Result:
    """Lower and compile the train step of a size, in pretraining or in a stage, for its slice.

    Raises InputError if the mesh does not fit the slice or libtpu is not installed.
    """
    chip, _ = parse(place.topology)
    size, study = place.size, _as_trained(study, stage)
    mesh = sharding.mesh(study.machine.mesh, _devices(place.topology, place.count))
    # The number of steps, the learning rate and the end-of-document token do not matter here.
    program = Compiled(size, 1e-4, 1000, study, 1, mesh)
    B, L = study.train.batch_size, study.data.seq_len
    batch = {
        "tokens": jax.ShapeDtypeStruct((B, L), jnp.int32, sharding=program.batch),
        "poison": jax.ShapeDtypeStruct((B, L), jnp.bool, sharding=program.batch),
    }
    if is_tuned(stage):
        batch["trained"] = batch["poison"]
    traced = program.step.trace(program.abstract, batch)
    per_token = study.model.architecture.train_flops_per_token(
        size, study.data.vocabulary.vocab_size, L
    )
    result = Result(
        place=place,
        stage=stage,
        chips=mesh.size // chip.devices,
        memory=chip.memory // chip.devices,
        flops=float(hlo.product_flops(traced.jaxpr.jaxpr, mesh.size)),
        analytic_flops=float(per_token * B * L),
    )
    start = time.monotonic()
    try:
        compiled, text = _compiled(traced.lower())
    except jax.errors.JaxRuntimeError as e:
        if "RESOURCE_EXHAUSTED" not in str(e):
            raise
        seconds = time.monotonic() - start
        return dataclasses.replace(result, peak=_wanted(str(e)), seconds=seconds)
    seconds = time.monotonic() - start
    m = compiled.memory_analysis()
    assert m is not None
    results = m.output_size_in_bytes - m.alias_size_in_bytes
    return dataclasses.replace(
        result,
        arguments=m.argument_size_in_bytes,
        temporaries=m.temp_size_in_bytes,
        peak=m.argument_size_in_bytes
        + m.temp_size_in_bytes
        + results
        + m.generated_code_size_in_bytes,
        seconds=seconds,
        collectives=hlo.collectives(text),
    )


def smallest(study: Study, result: Result) -> Result | None:
    """Return the result for the smallest slice of the same chip that the step fits; None if there is none.

    Memory per chip shrinks at most in proportion to the number of chips, so slices that are too small by this
    bound are not tried.
    """
    name, _, _ = result.place.topology.partition(":")
    batch_size = _as_trained(study, result.stage).train.batch_size
    for shape in CHIPS[name].slices:
        chips = count(shape)
        if batch_size % chips:
            return None
        if result.fits and chips >= result.chips:
            return result
        if result.arguments * result.chips > chips * result.memory:
            continue  # the state alone does not fit
        other = compile(study, Slice(result.place.size, f"{name}:{shape}"), result.stage)
        if other.fits:
            return other
    return None


def _devices(topology: str, slices: int) -> list[jax.Device]:
    """Return the devices of the slices, for which programs can be compiled but not run."""
    try:
        import libtpu  # noqa: F401
    except ImportError as e:
        raise InputError(
            "compile: it needs libtpu, which is not installed; pip install 'poison_scaling[tpu]'."
        ) from e
    from jax.experimental import topologies

    # Without these, libtpu looks for the TPU that this machine is part of, and logs pages of errors.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", topology.replace(":", "-"))
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # there is no chip to contend for
    # A program from the cache is not compiled, and dumps no text.
    jax.config.update("jax_enable_compilation_cache", False)
    options = {"num_slices": slices} if slices > 1 else {}
    return list(topologies.get_topology_desc(topology, "tpu", **options).devices)


def _compiled(lowered: jax.stages.Lowered) -> tuple[jax.stages.Compiled, str]:
    """Return the program and its HLO text as dumped, because jaxlib may not parse that of a newer libtpu."""
    with tempfile.TemporaryDirectory() as folder:
        dump = {"xla_dump_to": folder, "xla_dump_hlo_as_text": True}
        compiled = lowered.compile(compiler_options=dump)
        (file,) = pathlib.Path(folder).glob("*.after_optimizations.txt")
        return compiled, file.read_text()


def _wanted(message: str) -> int:
    """Return the bytes that the compiler would need, from a message with "Used 120.5G of 95.0G hbm"."""
    found = re.search(r"Used ([\d.]+)([KMG])", message)
    return int(float(found[1]) * 2 ** {"K": 10, "M": 20, "G": 30}[found[2]]) if found else 2**63


def describe(study: Study, result: Result, least: Result | None) -> str:
    """Return what `poison-scaling compile` prints; `least` is the result for the smallest slice that fits."""
    r, giga = result, 1e9
    verdict = "fits" if r.fits else "does NOT fit"
    stage = f", stage {r.stage.name}," if r.stage else ""
    lines = [
        f"{r.place.size}{stage} on {r.place} ({r.chips} chips): {verdict}; compiled in {r.seconds:.0f} s.",
        f"bytes per chip: arguments {r.arguments / giga:.2f} GB, temporaries {r.temporaries / giga:.2f} GB, "
        f"peak {r.peak / giga:.2f} GB of {r.memory / giga:.1f} GB ({r.peak / r.memory:.0%})",
        f"FLOPs per step: {r.flops:.3e} in matrix products, {r.flops / r.analytic_flops:.2f} times the "
        f"analytic {r.analytic_flops:.3e} (without rematerialisation)",
    ]
    for kind, (times, size) in sorted(r.collectives.items()):
        lines.append(f"collectives per step: {kind} {times} times, {size / giga:.2f} GB")
    chip, _ = parse(r.place.topology)
    budgets = {
        run.tokens_per_parameter: run
        for run in grid.runs(study)
        if run.rung.size == r.place.size and run.stage == r.stage
    }
    for budget, run in budgets.items():
        lines.append(
            f"time: {run.days(r.place):.2f} days for {budget:g} tokens per parameter "
            f"({run.flops:.2e} FLOPs), at {study.machine.mfu:.0%} of the peak of "
            f"{chip.flops / 1e12:g} TFLOP/s per chip ({chip.source})"
        )
    if least is not None:
        lines.append(
            f"smallest slice that fits: {least.place}, peak {least.peak / giga:.2f} GB per chip"
        )
    return "\n".join(lines)
