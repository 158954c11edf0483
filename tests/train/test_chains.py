"""Contracts 1, 4, 5 and 7 for chains: what a stage starts from, records and refuses, and that it resumes."""

import dataclasses
import itertools
import json
import shutil

import jax
import numpy as np
import optax
import pytest
from etils import epath

import poison_scaling as ps
from analysis.files import read_lines, write_json
from poison_scaling.runtime import versions
from poison_scaling.runtime.errors import Difference, InputError, Interrupted
from poison_scaling.study import grid
from poison_scaling.study.inputs import Inputs
from poison_scaling.train import ancestry, checkpoints, loop, trained
from poison_scaling.train.compiled import compiled_for
from poison_scaling.workdir import folder, preparation, verification
from tests.support.chains import chained
from tests.support.runs import LOGS

ROOT = "40k-0.5x-d8-s0"
MORE, CLEAN = f"{ROOT}+more-d4", f"{ROOT}+more-d4+clean-d0"


@pytest.fixture(scope="module")
def chain(study) -> ps.Study:
    return chained(study)


@pytest.fixture(scope="module")
def data(chain) -> Inputs:
    return Inputs(chain)


@pytest.fixture(scope="module")
def whole(chain, tmp_path_factory) -> epath.Path:
    """A study's folder in which a chain of three runs is done. No test changes it."""
    workdir = epath.Path(tmp_path_factory.mktemp("whole"))
    inputs = preparation.prepare(chain, workdir, lambda description, done: None)
    for name in (ROOT, MORE, CLEAN):
        train(chain, inputs, workdir, name)
    return workdir


@pytest.fixture
def copy(whole, tmp_path) -> epath.Path:
    """A copy to be tampered with."""
    shutil.copytree(whole, tmp_path / "study")
    return epath.Path(tmp_path / "study")


def train(study, inputs, workdir, name, **options):
    run = grid.run_named(study, name)
    loop.train(run, inputs, folder.of_run(workdir, run), versions.installed(), **options)


def same(one, other, name):
    for log in LOGS:
        assert (one / "runs" / name / log).read_bytes() == (
            other / "runs" / name / log
        ).read_bytes()


def test_a_stage_counts_from_its_own_beginning(whole, chain):
    own = whole / "runs" / MORE
    manifest, run = read_lines(own / "manifest.jsonl"), grid.run_named(chain, MORE)
    assert len(manifest) == 4 and all(m["step"] < 6 for m in manifest)
    for record in [*read_lines(own / "metrics.jsonl"), *read_lines(own / "evals.jsonl")]:
        seen = [m for m in manifest if m["step"] < record["step"]]
        assert record["tokens"] == record["step"] * 8 * 128
        assert record["poisons"] == len(seen)
        assert record["poison_tokens"] == sum(m["tokens"] for m in seen)
    assert (record["step"], record["poisons"]) == (6, 4)
    about = json.loads((own / "config.json").read_text())
    assert about["hash"] == run.hash and about["parent"]["hash"] == run.parent.hash
    assert (about["parent"]["run"], about["parent"]["step"]) == (ROOT, 11)
    assert about["plan"]["chain_tokens"] == 17 * 8 * 128
    assert about["config"]["stage"]["kind"] == "Continue"


def test_checkpoints_of_a_clean_stage_after_poison_say_so(whole):
    [file] = (whole / "runs" / CLEAN / "checkpoints").glob("6/about/metadata")
    about = json.loads(file.read_text())
    assert about["poisoned"] is True
    assert "8 documents" in about["warning"] and "4 documents" in about["warning"]


@pytest.mark.parametrize("kind", ["keep", "reset", "rewarm"])
def test_a_stage_begins_with_the_last_state_of_its_parent(whole, chain, data, kind):
    run = grid.run_named(chain, MORE)
    stage = dataclasses.replace(run.stage, optimizer=kind)
    run = dataclasses.replace(run, path=(dataclasses.replace(run.path[0], stage=stage),))
    compiled = compiled_for(run, data)
    _, params, step = trained.model(run.parent, data, whole / "runs" / ROOT)
    saved = checkpoints.Checkpoints(whole / "runs" / ROOT / "checkpoints", read_only=True)
    before = saved.restore(compiled.abstract, step)[0]
    saved.close()
    state = ancestry.inherited(run, whole / "runs" / MORE, compiled)
    jax.tree.map(np.testing.assert_array_equal, state.params, params)
    assert not any(map(int, (state.step, *state.seen.values())))
    [old], [new] = (
        [part for part in jax.tree.leaves(s.optimizer, is_leaf=is_adam) if is_adam(part)]
        for s in (before, state)
    )
    expected = old if kind == "keep" else jax.tree.map(np.zeros_like, old)
    jax.tree.map(np.testing.assert_array_equal, new, expected)
    counts = optax.tree.get_all_with_path(state.optimizer, "count")
    assert sorted(int(count) for _, count in counts) == [0, 11 if kind == "keep" else 0]


def is_adam(part) -> bool:
    return isinstance(part, optax.ScaleByAdamState)


def test_the_learning_rate_starts_at_its_peak_unless_it_is_warmed_up(whole, chain):
    rate = [
        read_lines(whole / "runs" / name / "metrics.jsonl")[-1]["learning_rate"]
        for name in (MORE, CLEAN)
    ]
    peak, final = 6e-3, 0.1
    cosine = [(1 + np.cos(np.pi * done / of)) / 2 for done, of in ((5, 6), (4, 5))]
    np.testing.assert_allclose(rate, [peak * (final + (1 - final) * c) for c in cosine], rtol=1e-4)


def stop_after(steps: int):
    calls = itertools.count(1)
    return lambda: next(calls) >= steps


@pytest.mark.parametrize("stops", [(1,), (2, 5)])
def test_stopping_a_stage_anywhere_leaves_no_trace(whole, chain, data, tmp_path, stops):
    shutil.copytree(whole / "runs" / ROOT, tmp_path / "runs" / ROOT)
    done = 0
    for stop in stops:
        with pytest.raises(Interrupted, match=f"stopped after step {stop} of 6"):
            train(chain, data, epath.Path(tmp_path), MORE, stopping=stop_after(stop - done))
        done = stop
    train(chain, data, epath.Path(tmp_path), MORE)
    same(whole, tmp_path, MORE)


def test_the_chain_verifies(whole):
    names = []
    assert verification.verify(whole, names.append) == 3
    assert names == [ROOT, MORE, CLEAN]


def without_checkpoint(copy):
    shutil.rmtree(copy / "runs" / ROOT / "checkpoints" / "11")


def without_done(copy):
    (copy / "runs" / ROOT / "DONE").unlink()


def without_folder(copy):
    shutil.rmtree(copy / "runs" / ROOT)


def other_state(copy):
    """The parent's last checkpoint is now one of other numbers, whole in itself."""
    [file] = (copy / "runs" / ROOT / "checkpoints").glob("11/about/metadata")
    about = json.loads(file.read_text())
    about["fingerprint"][0] ^= 1
    file.write_text(json.dumps(about))


def other_settings(copy):
    file = copy / "runs" / ROOT / "config.json"
    about = {k: v for k, v in json.loads(file.read_text()).items() if k != "digest"}
    about["config"]["train"]["weight_decay"] = 0.2
    write_json(file, about)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (without_checkpoint, "has no checkpoint of step 11"),
        (without_done, "is not trained to its end; train it first"),
        (without_folder, "is missing; train it first"),
        (other_state, "its parent has changed since it was begun (state: "),
        (other_settings, "train.weight_decay: 0.2 there, 0.1 now"),
    ],
)
def test_an_ancestor_that_changed_or_is_missing_is_named(copy, chain, data, damage, said):
    damage(copy)
    (copy / "runs" / MORE / "DONE").unlink()
    with pytest.raises(InputError) as error:
        train(chain, data, copy, MORE)
    assert said in str(error.value) and ROOT in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(Difference) as difference:
        verification.verify(copy)
    assert "\n" not in str(difference.value)


def test_a_lost_parent_is_found_before_any_compute(copy, chain):
    without_checkpoint(copy)
    (copy / "runs" / MORE / "DONE").unlink()
    with pytest.raises(InputError, match=r"more-d0: its parent .* has no checkpoint of step 11"):
        preparation.prepare(chain, copy, lambda description, done: None)


# --------------------------------------------------------------------------- from another study


def starting(study: ps.Study, workdir, **fields) -> ps.Study:
    """A study whose only stage starts from the chain in another folder."""
    stage = ps.Continue(optimizer="reset", label="then", tokens_per_parameter=0.25, doses=(0, 4))
    start = ps.Start(folder=str(workdir), **fields)
    return dataclasses.replace(study, name="starting", stages=((stage,),), start=start)


def test_a_study_may_start_from_the_runs_of_another(whole, chain, tmp_path):
    study = starting(chain, whole)
    names = [run.name for run in grid.runs(study)]
    assert names == [f"{ROOT}+then-d0", f"{ROOT}+then-d4"]  # pretraining is not trained again
    run = grid.run_named(study, names[1])
    assert run.parent == grid.run_named(chain, ROOT) and run.first_sequence == 88
    workdir = epath.Path(tmp_path)
    inputs = preparation.prepare(study, workdir, lambda description, done: None)
    train(study, inputs, workdir, names[1])
    about = json.loads((workdir / "runs" / names[1] / "config.json").read_text())
    assert about["parent"]["hash"] == run.parent.hash
    said = []
    assert verification.verify(workdir, said.append) == 2
    assert said == [f"{ROOT} (start)", names[1]]


def test_a_start_whose_text_or_vocabulary_has_changed_is_refused(copy, chain, tmp_path):
    file = copy / "runs" / ROOT / "config.json"
    about = {k: v for k, v in json.loads(file.read_text()).items() if k != "digest"}
    about["data"]["training sequences"] = "0" * 64
    write_json(file, about)
    with pytest.raises(InputError, match=f"^start: .*{ROOT} was trained on other text"):
        preparation.prepare(starting(chain, copy), epath.Path(tmp_path), lambda *said: None)


def test_a_named_run_is_where_every_chain_starts(whole, chain):
    study = dataclasses.replace(starting(chain, whole, run=CLEAN), seeds=ps.seeds(5, 6))
    runs = {run.name: run for run in grid.runs(study)}
    names = [f"40k-0.5x-d8-s{s}+more-d4+clean-d0+then-d{d}" for s in (5, 6) for d in (0, 4)]
    assert list(runs) == names and len({run.hash for run in runs.values()}) == 4
    assert {run.parent.name for run in runs.values()} == {CLEAN}
    assert {run.level for run in runs.values()} == {3}


def test_the_hash_of_a_start_is_that_of_its_run_wherever_it_lies(whole, copy, chain):
    here, there = (grid.runs(starting(chain, place)) for place in (whole, copy))
    assert [run.hash for run in here] == [run.hash for run in there]
    assert starting(chain, whole).hash == starting(chain, copy).hash
    earlier = grid.runs(starting(chain, whole, step=5))
    assert all(a.hash != b.hash for a, b in zip(here, earlier, strict=True))


def test_a_chain_counts_an_origin_up_to_the_step_that_it_starts_from(whole, chain, tmp_path):
    late, early = (grid.runs(starting(chain, whole, step=step))[0] for step in (None, 5))
    assert (late.first_sequence, early.first_sequence) == (88, 40)
    plan = early.plan()
    assert plan["chain_tokens"] == plan["tokens"] + 40 * 128
    assert plan["chain_flops"] == pytest.approx(late.plan()["chain_flops"] * (48 + 40) / (48 + 88))
    said = (
        r"start.step=4: .*/runs/40k-0.5x-d8-s0 has no checkpoint of that step; it has those of .*11"
    )
    with pytest.raises(InputError, match=said):
        preparation.prepare(
            starting(chain, whole, step=4), epath.Path(tmp_path), lambda description, done: None
        )


def test_the_hash_of_a_start_covers_what_the_other_study_does_not(whole, chain):
    study = starting(chain, whole)
    [rung] = study.ladder
    other = ps.Poisoning(dataclasses.replace(study.attack, trigger="|go|"))
    changes = (
        {},
        {"ladder": (dataclasses.replace(rung, learning_rate=1e-3),)},
        {"also": (other,)},
    )
    hashes = [grid.runs(dataclasses.replace(study, **own))[0].hash for own in changes]
    assert len(set(hashes)) == len(changes)
    # A rate that is stated twice is the same rate.
    alike = dataclasses.replace(rung, learning_rate=study.train.learning_rate)
    assert grid.runs(dataclasses.replace(study, ladder=(alike,)))[0].hash == hashes[0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"start": ps.Start(folder="/nowhere")}, "start.folder='/nowhere': it holds no study"),
        ({"doses": (7,)}, "has no run '40k-0.5x-d7-s0'"),
        ({"ladder": (ps.Rung("60k", tokens_per_parameter=0.5),)}, "has no run '60k-0.5x-d8-s0'"),
        ({"stages": ()}, "start: without stages there is nothing to train"),
        (
            {"attack": ps.DenialOfService(trigger="|go|")},
            "start: the corpus, trigger or attacks of the vocabulary is not that of",
        ),
        ({"seq_len": 256}, "data.seq_len=256: .* was trained on sequences of 128 tokens"),
        ({"vocab_size": 300}, "start: data.vocabulary is not that of"),
    ],
)
def test_a_start_that_does_not_fit_is_refused_by_its_field(whole, chain, changes, said):
    study, changes = starting(chain, whole), dict(changes)
    data = study.data
    if "seq_len" in changes:
        data = dataclasses.replace(data, seq_len=changes.pop("seq_len"))
    if "vocab_size" in changes:
        vocabulary = dataclasses.replace(data.vocabulary, vocab_size=changes.pop("vocab_size"))
        data = dataclasses.replace(data, vocabulary=vocabulary)
    with pytest.raises(InputError, match=said):
        grid.runs(dataclasses.replace(study, data=data, **changes))
