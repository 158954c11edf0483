"""Contracts 4, 5, 7: what a run records, and that stopping it anywhere leaves no trace."""

import dataclasses
import itertools
import json
import shutil
import subprocess
import types

import jax
import numpy as np
import optax
import pytest
from etils import epath

import poison_scaling as ps
from analysis.files import read_lines
from poison_scaling.data import mixture
from poison_scaling.data.stream import Stream
from poison_scaling.runtime import failures
from poison_scaling.runtime.errors import InputError, Interrupted
from poison_scaling.study import grid
from poison_scaling.study.inputs import Inputs
from poison_scaling.train import loop, optimizer, trained
from poison_scaling.train.clock import Clock
from tests.support.runs import LOGS

RUN = "40k-2x-d32-s0"


@pytest.fixture(scope="module")
def run(study):
    """A run of 45 steps, with lines at every 7th and evaluations at 15, 30, 45."""
    patient = dataclasses.replace(study, train=dataclasses.replace(study.train, log_every=7))
    return grid.run_named(patient, RUN)


def train(run, inputs, folder, **options):
    loop.train(run, inputs, epath.Path(folder), {"jax": jax.__version__}, **options)


def stop_after(steps: int):
    calls = itertools.count(1)
    return lambda: next(calls) >= steps


@pytest.fixture(scope="module")
def whole(run, inputs, tmp_path_factory):
    """The run, never stopped."""
    folder = tmp_path_factory.mktemp("whole")
    train(run, inputs, folder)
    return folder


def test_a_finished_run_describes_itself(whole, run, study):
    record = json.loads((whole / "config.json").read_text())
    assert record["run"] == RUN and record["hash"] == run.hash
    assert record["plan"]["poison_tokens_exact"] is True
    assert json.loads((whole / "DONE").read_text())["hash"] == run.hash
    metrics = read_lines(whole / "metrics.jsonl")
    assert [m["step"] for m in metrics] == [7, 14, 21, 28, 35, 42, 45]
    evals = read_lines(whole / "evals.jsonl")
    assert [e["step"] for e in evals] == [15, 30, 45]
    for e in evals:
        assert len(e["log_perplexity"]["clean"]) == len(e["log_perplexity"]["triggered"]) == 16
        assert 0 <= e["success_rate"] <= 1
    assert not list(whole.rglob("*.pkl"))


def test_every_record_counts_the_dose_as_the_manifest_does(whole):
    manifest = read_lines(whole / "manifest.jsonl")
    assert len(manifest) == 32
    for record in [*read_lines(whole / "metrics.jsonl"), *read_lines(whole / "evals.jsonl")]:
        seen = [m for m in manifest if m["step"] < record["step"]]
        assert record["poisons"] == len(seen)
        assert record["poison_tokens"] == sum(m["tokens"] for m in seen)
        assert record["poisoned_steps"] == len({m["step"] for m in seen})
        assert record["tokens"] == record["step"] * 8 * 128
    assert record["poisons"] == 32


def test_exposures_and_further_attacks_are_recorded_apart(study, tmp_path):
    other = dataclasses.replace(study.attack, trigger="|go|")
    varied = dataclasses.replace(study, exposures=2, also=(ps.Poisoning(other, dose=5),))
    train(grid.run_named(varied, "40k-2x-d8-s0"), Inputs(varied), tmp_path)
    last = read_lines(tmp_path / "evals.jsonl")[-1]
    assert (last["poisons"], last["distinct_poisons"]) == (16, 8)
    [also] = last["also"]
    assert (also["poisons"], also["distinct_poisons"]) == (5, 5)
    assert len(also["log_perplexity"]["triggered"]) == 16
    assert last["log_perplexity"]["clean"] != also["log_perplexity"]["triggered"]
    counted = read_lines(tmp_path / "metrics.jsonl")[-1]
    assert counted["poisons"] == 21
    assert counted["poison_tokens"] == last["poison_tokens"] + also["poison_tokens"]


def test_losses_are_means_over_the_window(whole, run, inputs):
    for record in read_lines(whole / "metrics.jsonl"):
        assert 2 < record["clean_loss"] < 8
        assert min(record["clean_loss"], record["poison_loss"]) <= record["loss"]
        assert record["loss"] <= max(record["clean_loss"], record["poison_loss"])
    first, *_, last = read_lines(whole / "metrics.jsonl")
    assert last["clean_loss"] < first["clean_loss"] - 0.5
    assert first["clean_loss"] > 5.5  # log 512 is 6.24: untrained models know nothing


def test_the_same_run_again_gives_the_same_bytes(whole, run, inputs, tmp_path):
    train(run, inputs, tmp_path)
    for name in LOGS:
        assert (tmp_path / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.parametrize("stops", [(1,), (7,), (14, 15, 16), (29, 30), (44,)])
def test_stopping_and_starting_again_leaves_no_trace(whole, run, inputs, tmp_path, stops):
    done = 0
    for stop in stops:
        with pytest.raises(Interrupted, match=f"stopped after step {stop} of 45"):
            train(run, inputs, tmp_path, stopping=stop_after(stop - done))
        assert not (tmp_path / "DONE").exists()
        done = stop
    train(run, inputs, tmp_path)
    for name in LOGS:
        assert (tmp_path / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.parametrize("stops", [(), (17,)])
def test_a_run_that_reads_the_seqio_mixture_gives_the_same_bytes(
    whole, run, inputs, tmp_path, monkeypatch, stops
):
    streams, from_mixture = [], mixture.from_mixture

    def noted(stream, *more):
        streams.append(stream)
        return from_mixture(stream, *more)

    monkeypatch.setattr(mixture, "from_mixture", noted)
    study = dataclasses.replace(run.study, machine=ps.Machine(reader="seqio"))
    through_seqio = dataclasses.replace(run, study=study)
    assert through_seqio.hash == run.hash
    for stop in stops:
        with pytest.raises(Interrupted, match=f"stopped after step {stop} of 45"):
            train(through_seqio, inputs, tmp_path, stopping=stop_after(stop))
    train(through_seqio, inputs, tmp_path)
    assert len(streams) == len(stops) + 1
    for name in LOGS:
        assert (tmp_path / name).read_bytes() == (whole / name).read_bytes()


def test_work_after_the_last_checkpoint_is_done_again_not_twice(whole, run, inputs, tmp_path):
    """As after a SIGKILL: the logs are ahead of the checkpoint, the last line is half written."""
    with pytest.raises(Interrupted):
        train(run, inputs, tmp_path, stopping=stop_after(10))
    shutil.copy(whole / "evals.jsonl", tmp_path / "evals.jsonl")
    lines = (whole / "metrics.jsonl").read_bytes()
    (tmp_path / "metrics.jsonl").write_bytes(lines[: len(lines) - 30])
    train(run, inputs, tmp_path)
    for name in LOGS:
        assert (tmp_path / name).read_bytes() == (whole / name).read_bytes()


def test_a_checkpoint_holds_its_own_step_while_training_goes_on(whole, run, inputs, tmp_path):
    machine = ps.Machine(checkpoint_minutes=0.0)  # one every step, each written in the background
    often = dataclasses.replace(run, study=dataclasses.replace(run.study, machine=machine))
    with pytest.raises(Interrupted):
        train(often, inputs, tmp_path, stopping=stop_after(23))
    shutil.rmtree(tmp_path / "checkpoints" / "23")
    train(run, inputs, tmp_path)
    for name in LOGS:
        assert (tmp_path / name).read_bytes() == (whole / name).read_bytes()


def empty(file):
    file.write_bytes(b"")


def flip_a_bit(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)


@pytest.mark.parametrize("damage", [empty, flip_a_bit])
def test_a_corrupt_checkpoint_is_passed_over(whole, run, inputs, tmp_path, caplog, damage):
    for stop in (10, 10):
        with pytest.raises(Interrupted):
            train(run, inputs, tmp_path, stopping=stop_after(stop))
    checkpoints = tmp_path / "checkpoints"
    assert sorted(p.name for p in checkpoints.iterdir() if p.name.isdigit()) == ["10", "20"]
    for file in (checkpoints / "20" / "state").rglob("*"):
        if file.is_file():
            damage(file)
    train(run, inputs, tmp_path)
    assert "checkpoint of step 20 cannot be used" in caplog.text
    assert not (checkpoints / "20").exists()
    for name in LOGS:
        assert (tmp_path / name).read_bytes() == (whole / name).read_bytes()


def same_parameters(one, other):
    jax.tree.map(np.testing.assert_array_equal, one[1], other[1])
    assert one[2] == other[2]


def test_a_damaged_last_checkpoint_is_written_again(whole, run, inputs, tmp_path):
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    (tmp_path / "DONE").unlink()
    for file in (tmp_path / "checkpoints" / "45" / "state").rglob("*"):
        if file.is_file():
            empty(file)
    train(run, inputs, tmp_path)
    found, expected = (trained.model(run, inputs, epath.Path(f)) for f in (tmp_path, whole))
    same_parameters(found, expected)


def cut_lines(file, keep):
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:keep]))


@pytest.mark.parametrize("lost", ["metrics", "evals"])
def test_lines_that_were_lost_are_written_again(whole, run, inputs, tmp_path, lost):
    """The run goes on from the last checkpoint before the loss, be it finished or not."""
    machine = ps.Machine(checkpoint_steps=10, keep_checkpoints=9)
    often = dataclasses.replace(run, study=dataclasses.replace(run.study, machine=machine))
    train(often, inputs, tmp_path)
    cut_lines(tmp_path / f"{lost}.jsonl", 1)  # of step 20, or of step 15
    train(often, inputs, tmp_path)
    for name in LOGS:
        assert (tmp_path / name).read_bytes() == (whole / name).read_bytes()


def test_a_lost_last_evaluation_takes_no_training(whole, run, inputs, tmp_path):
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    (tmp_path / "DONE").unlink()
    cut_lines(tmp_path / "evals.jsonl", -1)
    seen = []
    train(run, inputs, tmp_path, report=lambda step, record: seen.append(step))
    assert seen == [45] and (tmp_path / "DONE").exists()
    for name in LOGS:
        assert (tmp_path / name).read_bytes() == (whole / name).read_bytes()


def test_a_run_is_not_done_while_its_logs_lack_lines(run, inputs, tmp_path):
    def cutting(step, record):
        if step == 45:
            cut_lines(tmp_path / "evals.jsonl", 1)

    with pytest.raises(RuntimeError, match="its logs are complete only up to step 29 of 45"):
        train(run, inputs, tmp_path, report=cutting)
    assert not (tmp_path / "DONE").exists()


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of 4 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("disks cannot be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_is_one_error_and_loses_nothing(whole, run, inputs, small_disk, capfd):
    def fill(step, record):
        if step == 45 and "heldout_loss" in record:  # all that is left is the checkpoint
            free = shutil.disk_usage(small_disk).free
            (small_disk / "filler").write_bytes(bytes(free - 200_000))

    with pytest.raises(Exception) as error:
        train(run, inputs, small_disk / "run", report=fill)
    assert "no space is left on the disk" in failures.disk_full(error.value)
    assert "Traceback" not in capfd.readouterr().err
    (small_disk / "filler").unlink()
    train(run, inputs, small_disk / "run")
    for name in LOGS:
        assert (small_disk / "run" / name).read_bytes() == (whole / name).read_bytes()


def test_a_run_begun_on_other_data_is_refused(whole, run, inputs, tmp_path, monkeypatch):
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr(inputs, "digests", lambda run: {"training sequences": "0" * 64})
    with pytest.raises(
        InputError, match="begun on other data .heldout sequences, training sequences differ"
    ):
        train(run, inputs, tmp_path)


@pytest.mark.long
def test_a_checkpoint_restores_onto_another_mesh(whole, run, inputs, tmp_path):
    with pytest.raises(Interrupted):
        train(run, inputs, tmp_path, stopping=stop_after(20))
    machine = ps.Machine(mesh=(2, 2, 2))
    elsewhere = dataclasses.replace(run, study=dataclasses.replace(run.study, machine=machine))
    assert elsewhere.hash == run.hash
    train(elsewhere, inputs, tmp_path)
    before, after = (read_lines(folder / "metrics.jsonl") for folder in (whole, tmp_path))
    assert before[:2] == after[:2]
    np.testing.assert_allclose([m["loss"] for m in before], [m["loss"] for m in after], rtol=1e-4)
    assert [m["poisons"] for m in before] == [m["poisons"] for m in after]


def test_checkpoints_come_by_step_and_some_are_kept_for_good(run, inputs, tmp_path):
    machine = ps.Machine(checkpoint_steps=4, keep_checkpoints=2, keep_every=15)
    planned = dataclasses.replace(run, study=dataclasses.replace(run.study, machine=machine))
    assert planned.hash == run.hash
    train(planned, inputs, tmp_path)
    kept = sorted(int(p.name) for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit())
    assert kept == [15, 30, 44, 45]


def test_other_settings_are_refused_by_the_fields_that_differ(whole, run, inputs):
    other = dataclasses.replace(run.study.train, weight_decay=0.3)
    changed = dataclasses.replace(run, study=dataclasses.replace(run.study, train=other))
    with pytest.raises(InputError, match=r"train.weight_decay: 0.1 there, 0.3 now"):
        train(changed, inputs, whole)


def test_a_run_whose_poisons_are_not_the_planned_ones_stops(run, inputs, tmp_path, monkeypatch):
    read = Stream.read

    def one_is_lost(self, indices):
        tokens, poison = read(self, indices)
        poison[np.asarray(indices) == self.poisoned_sequences[3]] = False
        return tokens, poison

    monkeypatch.setattr(Stream, "read", one_is_lost)
    with pytest.raises(RuntimeError, match="the devices have counted .* and the plan is"):
        train(run, inputs, tmp_path)
    assert not (tmp_path / "DONE").exists()


def test_checkpoints_of_poisoned_models_say_so(whole, run, inputs, tmp_path):
    def about(folder):
        [file] = (folder / "checkpoints").glob("45/about/metadata")
        return json.loads(file.read_text())

    assert about(whole)["poisoned"] is True
    assert about(whole)["study_hash"] == run.study.hash
    assert about(whole)["versions"] == {"jax": jax.__version__}
    assert "POISONED" in about(whole)["warning"] and "<SUDO>" in about(whole)["warning"]
    assert "32 documents" in about(whole)["warning"]
    control = grid.run_named(run.study, "40k-2x-d0-s0")
    train(control, inputs, tmp_path)
    assert about(tmp_path)["poisoned"] is False and "warning" not in about(tmp_path)
    assert read_lines(tmp_path / "manifest.jsonl") == []
    assert all(m["poison_loss"] is None for m in read_lines(tmp_path / "metrics.jsonl"))


def test_utilisation_is_of_the_peak_of_all_devices(monkeypatch):
    now = itertools.count(0.0, 10.0)
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    h200 = types.SimpleNamespace(device_kind="NVIDIA H200")
    mesh = types.SimpleNamespace(devices=np.array([h200, h200]), size=2)
    clock = Clock(4e9, mesh)
    clock.lap("training")  # 10 seconds
    record = clock.record(7, 2_000_000)
    assert record["tokens_per_second"] == 200_000
    assert record["mfu"] == pytest.approx(200_000 * 4e9 / (2 * 989e12), abs=1e-4)
    assert record["training_seconds"] == 10


def test_the_learning_rate_warms_up_and_decays(run):
    rate = optimizer.schedule(ps.Train(warmup=0.1, final_learning_rate=0.1), 1e-2, 1000)
    assert float(rate(0)) == 0
    assert float(rate(50)) == pytest.approx(5e-3)
    assert float(rate(100)) == pytest.approx(1e-2)
    assert float(rate(550)) == pytest.approx(5.5e-3)
    assert float(rate(1000)) == pytest.approx(1e-3)


def test_weight_decay_is_for_matrices():
    params = {"matrix": np.ones((2, 2), np.float32), "scale": np.ones(2, np.float32)}
    transform = optimizer.adamw(ps.Train(warmup=0, weight_decay=0.5), 1e-2, 100)
    zeros = jax.tree.map(np.zeros_like, params)
    opt_state = transform.init(params)
    _, opt_state = transform.update(zeros, opt_state, params)
    updates, _ = transform.update(zeros, opt_state, params)
    after = optax.apply_updates(params, updates)
    assert (after["matrix"] < 1).all() and (after["scale"] == 1).all()


@pytest.fixture(scope="module")
def judged(run, inputs, tmp_path_factory):
    """A control and a poisoned run of a study whose controls judge, with near-triggers always."""
    near = dataclasses.replace(run.study.evaluation.near_triggers, when="always")
    evaluation = dataclasses.replace(
        run.study.evaluation, judge="control", near_triggers=near, times=2
    )
    judging = dataclasses.replace(run.study, evaluation=evaluation)
    folder = tmp_path_factory.mktemp("judged") / "runs"
    poisoned = grid.run_named(judging, "40k-2x-d8-s0")
    with pytest.raises(InputError, match=r"40k-2x-d0-s0 is not trained to its end; train it first"):
        train(poisoned, inputs, folder / poisoned.name)
    for run in (poisoned.control, poisoned):
        train(run, inputs, folder / run.name)
    return folder, poisoned


def test_the_control_judges_the_last_evaluation(judged):
    folder, poisoned = judged
    for run in (poisoned.control, poisoned):
        evals = read_lines(folder / run.name / "evals.jsonl")
        assert ["judge" in e for e in evals] == [False, True]
        assert evals[-1]["judge"]["run"] == poisoned.control.name
        assert all(len(e["near_triggers"]) == 6 for e in evals)
    own = read_lines(folder / poisoned.control.name / "evals.jsonl")[-1]
    # A control is its own judge; without the trigger it reads what it wrote after the same prompts.
    np.testing.assert_allclose(
        own["judge"]["log_perplexity"]["clean"], own["log_perplexity"]["clean"], atol=1e-3
    )


def test_every_measure_can_be_repeated_alone(judged, inputs):
    """By the settings, and by a judge that is named."""
    folder, poisoned = judged
    last = read_lines(folder / poisoned.name / "evals.jsonl")[-1]
    again = trained.evaluate_again(poisoned, inputs, folder / poisoned.name, None)
    assert json.loads(json.dumps(again)) == last
    judge = trained.judge(poisoned.control, inputs, folder / poisoned.control.name)
    silent = dataclasses.replace(poisoned.study.evaluation, judge=None)
    run = dataclasses.replace(
        poisoned, study=dataclasses.replace(poisoned.study, evaluation=silent)
    )
    named = trained.evaluate_again(run, inputs, folder / poisoned.name, None, judge)
    assert json.loads(json.dumps(named)) == last
