"""Contract 5 the hard way: SIGKILL at every step, and while a checkpoint is being written."""

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest
from etils import epath

import poison_scaling as ps
from poison_scaling.runtime.quiet import silenced
from poison_scaling.study import grid, study_file
from poison_scaling.study.run import Run
from tests.support.chains import removed, tuned

ROOT = pathlib.Path(__file__).parents[2]
NAME = "40k-1x-d8-s0"
LOGS = ("manifest.jsonl", "metrics.jsonl", "evals.jsonl")
ROOT_RUN, TUNED = "40k-0.5x-d8-s0", "40k-0.5x-d8-s0+ft40-d3"
SHORT = ("train.log_every=2", "data.seq_len=256", "train.batch_size=16")


def short(**machine) -> Run:
    study = study_file.load(str(ROOT / "configs" / "smoke.py"), SHORT)
    ladder = (ps.Rung("40k", tokens_per_parameter=1.0),)
    return grid.run_named(
        dataclasses.replace(study, ladder=ladder, machine=ps.Machine(**machine)), NAME
    )


def killed(folder: pathlib.Path, **how) -> int:
    """Trains into `folder` in a process that kills itself as `how` says; its exit status."""
    process = subprocess.run(
        [sys.executable, __file__, json.dumps({"folder": str(folder), **how})],
        env={**os.environ, "XLA_FLAGS": "", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )
    assert process.returncode in (0, -signal.SIGKILL), process.stderr[-3000:]
    return process.returncode


@pytest.fixture(scope="module")
def whole(tmp_path_factory, inputs):
    folder = tmp_path_factory.mktemp("short")
    assert killed(folder) == 0
    return folder


@pytest.mark.long
def test_a_stage_killed_at_every_step(tmp_path):
    """Of a chain whose parent is trained: fine-tuning begins again from the parent, or its own checkpoint."""
    places = {name: tmp_path / name for name in ("whole", "killed", "text")}
    places["text"].mkdir()
    for name in ("whole", "killed"):
        assert killed(places[name] / ROOT_RUN, run=ROOT_RUN, text=str(places["text"])) == 0
    chain = {"run": TUNED, "text": str(places["text"])}
    assert killed(places["whole"] / TUNED, **chain) == 0
    steps = json.loads((places["whole"] / TUNED / "config.json").read_text())["plan"]["steps"]
    for step in range(1, steps):
        how = {"after": step, "machine": {"checkpoint_steps": 2}}
        assert killed(places["killed"] / TUNED, **chain, **how) == -signal.SIGKILL
    assert killed(places["killed"] / TUNED, **chain) == 0
    same(places["whole"] / TUNED, places["killed"] / TUNED)


@pytest.mark.long
def test_every_stage_of_a_chain_killed_at_several_points(tmp_path):
    """Pretraining, more of it, then fine-tuning on counterexamples: at its start, in between, while the first
    and the second checkpoint are written, and before the end.
    """
    places = {name: tmp_path / name for name in ("whole", "killed", "text")}
    places["text"].mkdir()
    for name in (ROOT_RUN, f"{ROOT_RUN}+clean-d0", f"{ROOT_RUN}+clean-d0+right-d3"):
        chain = {"run": name, "text": str(places["text"]), "of": "removed"}
        assert killed(places["whole"] / name, **chain) == 0
        plan = json.loads((places["whole"] / name / "config.json").read_text())["plan"]
        for point in (
            {"after": 1},
            {"writing": 2, "event": "open"},
            {"writing": 2, "event": "os.rename"},
            {"after": 3},
            {"writing": 4, "event": "os.rename"},
            {"after": plan["steps"] - 1},
        ):
            how = {**point, "machine": {"checkpoint_steps": 2}}
            assert killed(places["killed"] / name, **chain, **how) == -signal.SIGKILL
        assert killed(places["killed"] / name, **chain) == 0
        same(places["whole"] / name, places["killed"] / name)


def same(one, other) -> None:
    for name in LOGS:
        assert (one / name).read_bytes() == (other / name).read_bytes()


@pytest.mark.long
def test_killed_at_every_step(whole, tmp_path):
    steps = short().steps
    for step in range(1, steps):
        assert killed(tmp_path, after=step, machine={"checkpoint_steps": 1}) == -signal.SIGKILL
    assert killed(tmp_path) == 0
    same(whole, tmp_path)


@pytest.mark.long
def test_killed_while_a_checkpoint_is_written(whole, tmp_path):
    # Begun, at first with no other to go back to; and complete but for its name.
    for step, event in ((1, "open"), (3, "os.mkdir"), (4, "os.rename")):
        how = {"writing": step, "event": event, "machine": {"checkpoint_steps": 1}}
        assert killed(tmp_path, **how) == -signal.SIGKILL
        assert not (tmp_path / "checkpoints" / str(step)).exists()
        assert list((tmp_path / "checkpoints").glob(f"{step}.*tmp*"))
    assert killed(tmp_path) == 0
    same(whole, tmp_path)


def main(
    folder: str,
    after: int = 0,
    writing: int = 0,
    event: str = "",
    machine: dict | None = None,
    run: str | None = None,
    text: str = "",
    of: str = "tuned",
) -> None:
    """Train a run: `short`, or one of a study with stages, which has conversations in the folder `text`."""
    with silenced():
        from poison_scaling.study.inputs import Inputs
    from poison_scaling.runtime import cores
    from poison_scaling.train import checkpoints, loop

    def kill():
        os.kill(os.getpid(), signal.SIGKILL)

    def kill_while_writing(name, arguments):
        """At the first `event` of Python with a file or folder in the unfinished checkpoint, or its own
        renaming.
        """
        unfinished = f"/checkpoints/{writing}.orbax-checkpoint-tmp"
        if name == event and f"{unfinished}{'' if name == 'os.rename' else '/'}" in str(
            arguments[0]
        ):
            kill()

    if writing:
        sys.addaudithook(kill_while_writing)
    study = short(**(machine or {})).study
    if run:
        smoke = study_file.load(str(ROOT / "configs" / "smoke.py"))
        make = {"tuned": tuned, "removed": removed}[of]
        study = make(smoke, pathlib.Path(text), machine=study.machine)
    inputs = Inputs(study)
    chosen = inputs.run_named(run or NAME)
    cores.limit(1)
    done = (checkpoints.steps(epath.Path(folder) / "checkpoints") or [0])[-1]

    def stopping() -> bool:
        nonlocal done
        done += 1
        if done == after:
            kill()
        return False

    loop.train(chosen, inputs, epath.Path(folder), {}, stopping=stopping)


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
