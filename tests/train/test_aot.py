"""Compiling for a machine that is not here: what is counted, and that the paper's sizes compile for TPUs."""

import dataclasses
import importlib.util
import re
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import poison_scaling as ps
from poison_scaling.model import sharding
from poison_scaling.model.architectures.decoder import SIZES
from poison_scaling.runtime import chips, hlo
from poison_scaling.runtime.errors import InputError
from poison_scaling.study import grid, study_file
from poison_scaling.train import aot
from poison_scaling.train.compiled import Compiled
from tests.support.runs import run_cli

TEXT = """HloModule m

%add (x: f32[], y: f32[]) -> f32[] {
  ROOT %sum = f32[] add(%x, %y)
}

%gathered (p: bf16[4]) -> bf16[8,4] {
  ROOT %g = bf16[8,4]{1,0} all-gather(%p), channel_id=7, dimensions={0}
}

%condition (p: (s32[])) -> pred[] {
  %limit = s32[]{:T(128)} constant(40)
  ROOT %lt = pred[] compare(%i, %limit), direction=LT
}

%body (p: (s32[])) -> (s32[]) {
  %start = bf16[8,4] fusion(%w), calls=%gathered
  %sum = f32[16]{0} all-reduce(%x), channel_id=2, to_apply=%add
}

ENTRY %main (a: f32[16]) -> f32[16] {
  %loop = (s32[]) while(%init), condition=%condition, body=%body
  %both = (f32[], s32[]) all-reduce(%a, %b), channel_id=3, to_apply=%add
}
"""


def test_collectives_in_a_loop_count_as_often_as_it_runs():
    assert hlo.collectives(TEXT) == {
        "all-gather": (40, 40 * 8 * 4 * 2),
        "all-reduce": (41, 40 * 16 * 4 + 8),
    }


@pytest.mark.parametrize(
    ("remat", "times"), [("none", (1.0, 1.0)), ("dots", (1.0, 1.1)), ("full", (1.25, 4 / 3))]
)
def test_counted_flops_are_the_analytic_ones_and_what_is_computed_again(remat, times):
    model = ps.Model(scan_layers=True, remat=remat, attention="plain")
    study = ps.Study("s", (), (), data=ps.Data(seq_len=128), model=model)
    mesh = sharding.mesh((1, 1, 1), jax.devices()[:1])
    program = Compiled("150m", 1e-3, 10, study, 1, mesh)
    B, V = study.train.batch_size, study.data.vocabulary.vocab_size
    batch = {"tokens": jnp.zeros((B, 128), jnp.int32), "poison": jnp.zeros((B, 128), bool)}
    counted = hlo.product_flops(program.step.trace(program.abstract, batch).jaxpr.jaxpr)
    analytic = SIZES["150m"].train_flops_per_token(V, 128) * B * 128
    assert times[0] * 0.999 <= counted / analytic <= times[1]


@pytest.mark.parametrize("topology", ["v5p", "v5p:3x3x3", "v9:2x2", "h100:2x2"])
def test_a_slice_that_does_not_exist_is_refused(topology):
    with pytest.raises(InputError, match=r"there is no such slice. There are v4:2x2x1"):
        chips.parse(topology)


def test_a_size_that_is_not_on_the_ladder_is_refused():
    process = run_cli(
        "compile", "configs/paper.py", "--size", "9b", "--topology", "v5p:2x2x1", check=2
    )
    assert "it is not on the ladder of 'paper': 600m, 2b, 7b, 13b" in process.stderr


def test_slices_of_a_study_are_checked_and_timed():
    largest = grid.runs(study_file.load("configs/paper.py"))[-1]
    assert largest.rung.size == "13b"
    place = ps.Slice("13b", "v5p:4x4x4", 2)
    expected = largest.flops / (128 * 459e12 * largest.study.machine.mfu) / 86_400
    assert largest.days(place) == pytest.approx(expected)
    assert {run.rung.size for run in grid.runs(largest.study)} == {
        place.size for place in largest.study.machine.slices
    }
    for wrong in (ps.Slice("9b", "v5p:4x4x4"), ps.Slice("13b", "v5p:5x5x5")):
        machine = ps.Machine(slices=(wrong,))
        with pytest.raises(InputError, match="machine.slices"):
            grid.runs(dataclasses.replace(largest.study, machine=machine))


def test_the_compiler_is_given_what_the_chips_generation_supports():
    def options(kind, platform):
        device = types.SimpleNamespace(device_kind=kind, platform=platform)
        return sharding.compiler_options(types.SimpleNamespace(devices=np.array([device])))

    for name in ("v5e", "v5p", "v6e"):
        chip = chips.CHIPS[name]
        assert options(chip.kind, "tpu") == chip.options
        # Fused into products, they give wrong results or hang on any other generation.
        assert name == "v5e" or not any("all_gather" in option for option in chip.options)
    assert chips.CHIPS["v5e"].options
    assert options("TPU v4", "tpu") == options("cpu", "cpu") == {}


@pytest.mark.long
@pytest.mark.skipif(not importlib.util.find_spec("libtpu"), reason="needs libtpu")
@pytest.mark.parametrize("topology", ["v5e:2x2", "v5p:2x2x1", "v6e:2x2"])
def test_the_compiler_warns_of_no_option(topology, tmp_path):
    """libtpu warns in its log of what is unsupported; some versions go on, and others refuse to compile."""
    process = run_cli(
        *("compile", "configs/demo.py", "--size", "60k", "--topology", topology),
        *("--set", "machine.mesh=(1,-1,1)"),
        TPU_LOG_DIR=str(tmp_path),
    )
    logs = [path.read_text() for path in tmp_path.glob("*.log.INFO.*")]
    said = "".join((process.stderr, *logs)).splitlines()
    assert any("HLO optimization" in line for line in said)
    warning = re.compile(r"not supported|unsupported|incorrect result|\bhangs?\b|\bSDC\b")
    assert not [line for line in said if line[:1] in "WEF" and warning.search(line)]
    printed = (
        r"60k on |bytes per chip: |FLOPs per step: |collectives per step: |time: |smallest slice "
    )
    assert all(re.match(printed, line) for line in process.stdout.splitlines()), process.stdout


def test_the_steps_that_differ_are_compiled(study):
    own = {"optimizer": "keep", "tokens_per_parameter": 1.0}
    larger = dataclasses.replace(study.train, batch_size=16)
    level = (ps.Continue(**own), ps.Continue(**own, label="larger", train=larger))
    tuned = [ps.Finetune(optimizer="keep", examples=n) for n in (100, 200)]
    staged = dataclasses.replace(study, stages=(level, tuple(tuned)))
    assert aot.different_steps(study) == [None]
    assert aot.different_steps(staged) == [None, level[1], tuned[0]]


@pytest.mark.long
@pytest.mark.skipif(not importlib.util.find_spec("libtpu"), reason="needs libtpu")
def test_the_step_of_fine_tuning_compiles():
    stages = (
        "stages=[[{'kind': 'Finetune', 'optimizer': 'reset', 'examples': 1000, 'seq_len': 64}]]"
    )
    process = run_cli(
        "compile", "configs/smoke.py", "--size", "40k", "--topology", "v5e:2x2", "--set", stages
    )
    assert "40k on v5e:2x2 (4 chips): fits" in process.stdout
    assert "40k, stage ft1000, on v5e:2x2 (4 chips): fits" in process.stdout


@pytest.mark.long
@pytest.mark.skipif(not importlib.util.find_spec("libtpu"), reason="needs libtpu")
@pytest.mark.parametrize("segment_mask", ["false", "true"])
def test_the_largest_size_compiles_for_a_pod(segment_mask):
    """13 B, fully sharded over 64 chips, kernel of attention forward and backward, under 10 GB a chip."""
    settings = ("--set", "train.batch_size=128", "--set", f"model.segment_mask={segment_mask}")
    process = run_cli(
        "compile", "configs/paper.py", "--size", "13b", "--topology", "v5p:4x4x4", *settings
    )
    assert "13b on v5p:4x4x4 (64 chips): fits" in process.stdout
    assert float(re.search(r"peak ([\d.]+) GB of", process.stdout)[1]) < 10
    assert "all-reduce" in process.stdout and "smallest slice that fits: v5p:" in process.stdout


@pytest.mark.long
@pytest.mark.skipif(not importlib.util.find_spec("libtpu"), reason="needs libtpu")
def test_between_slices_goes_the_data_axis_alone():
    """Two slices of 4 chips: parameters lie within a slice, gradients are summed across."""
    script = """
from poison_scaling.train import aot
from poison_scaling.model import sharding
mesh = sharding.mesh((2, -1, 1), aot._devices("v5e:2x2", 2))
print([sorted({d.slice_index for d in group.flat}) for group in mesh.devices])
try:
    sharding.mesh((1, -1, 1), aot._devices("v5e:2x2", 2))
except Exception as e:
    print(e)
"""
    process = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, encoding="utf-8", timeout=300
    )
    assert "[[0], [1]]" in process.stdout, process.stderr
    assert "its data axis of 1 must be a multiple of the 2 slices" in process.stdout
