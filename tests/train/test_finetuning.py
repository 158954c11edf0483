"""Fine-tuning as a stage: whose tokens have a loss, which batches, and the contracts of chains."""

import dataclasses
import itertools
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from etils import epath

import poison_scaling as ps
from analysis.files import read_lines
from poison_scaling.data import mixture
from poison_scaling.data.batches import by_number
from poison_scaling.model.losses import token_losses
from poison_scaling.runtime import versions
from poison_scaling.runtime.errors import InputError, Interrupted
from poison_scaling.study import grid
from poison_scaling.train import loop, state, step
from poison_scaling.workdir import folder, inspection, preparation, verification
from tests.support.chains import tuned
from tests.support.runs import LOGS

ROOT = "40k-0.5x-d8-s0"
TUNED = f"{ROOT}+ft80-d3"


@pytest.fixture(scope="module")
def chain(study, tmp_path_factory) -> ps.Study:
    return tuned(study, tmp_path_factory.mktemp("conversations"))


@pytest.fixture(scope="module")
def trained(chain, tmp_path_factory):
    """The folder of a study in which a root and a fine-tuned run are done, and its inputs."""
    workdir = epath.Path(tmp_path_factory.mktemp("tuned"))
    inputs = preparation.prepare(chain, workdir, lambda description, done: None)
    for name in (ROOT, TUNED):
        train(inputs, workdir, name)
    return workdir, inputs


def train(inputs, workdir, name, **options):
    run = inputs.run_named(name)
    loop.train(run, inputs, folder.of_run(workdir, run), versions.installed(), **options)


# ---------------------------------------------------------------------------------------------- step


@pytest.mark.parametrize("microbatches", [1, 2])
def test_only_the_assistants_tokens_have_a_loss(microbatches):
    """The step's gradient is that of the mean over trained tokens of the whole batch."""
    settings, settings_of_train = ps.Model(), ps.Train(microbatches=microbatches, z_loss=0.1)
    graph = state.graph("40k", 64, settings)
    before = state.initial("40k", 64, settings, optax.sgd(1.0), 0)
    chance = np.random.default_rng(0)
    tokens_BxL = jnp.array(chance.integers(3, 64, (4, 16)), jnp.int32)
    trained_BxL = jnp.array(chance.random((4, 16)) < [[0.9], [0.1], [0.5], [0.0]])
    poison_BxL = jnp.zeros((4, 16), bool).at[0, :8].set(True)
    batch = {"tokens": tokens_BxL, "poison": poison_BxL, "trained": trained_BxL}

    def loss(params):
        losses_BxL, log_total_BxL = token_losses(graph, params, tokens_BxL, 1, False)
        total = jnp.sum(losses_BxL + 0.1 * log_total_BxL**2, where=trained_BxL)
        return total / trained_BxL.sum(), losses_BxL

    train_step = step.train_step(graph, optax.sgd(1.0), 1, False, settings_of_train)
    after, metrics = jax.jit(train_step)(before, batch)
    expected, losses_BxL = jax.jit(jax.grad(loss, has_aux=True))(before.params)
    moved = jax.tree.map(lambda a, b: a - b, before.params, after.params)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), moved, expected
    )
    window, seen = metrics["window"], metrics["seen"]
    for name, mask_BxL in (("clean", ~poison_BxL), ("poison", poison_BxL)):
        own_BxL = mask_BxL & trained_BxL
        assert window[f"{name}_tokens"] == own_BxL.sum()
        np.testing.assert_allclose(window[f"{name}_loss"], losses_BxL[own_BxL].sum(), rtol=1e-5)
    assert (int(seen["poisons"]), int(seen["poison_tokens"])) == (1, 8)  # trained or not


# ---------------------------------------------------------------------------------------------- plan


def test_the_steps_are_estimated_until_the_examples_are_counted(chain, trained):
    estimated = grid.run_named(chain, TUNED)
    run = trained[1].run_named(TUNED)
    assert not estimated.is_exact and run.is_exact and estimated.hash == run.hash
    assert estimated.plan()["steps_exact"] is False
    plan = trained[1].plan(run)
    assert plan["steps_exact"] is True
    assert plan["steps"] == plan["packed_sequences"] * 2 // 8 == run.steps
    assert plan["tokens"] == run.steps * 8 * 128
    recorded = json.loads((trained[0] / "study.json").read_text())
    assert recorded["packed_sequences"] == trained[1].packed_sequences
    assert recorded["conversations_left_out"] == {"stages.0.0": 0, "stages.0.1": 0}
    assert trained[1].plan(run) in recorded["runs"]


def test_conversations_that_are_too_long_are_said_before_training(trained, monkeypatch):
    assert not any("are left out" in sentence for sentence in trained[1].warnings([]))
    monkeypatch.setattr(type(trained[1]), "conversations_left_out", {"stages.0.0": 3})
    [said] = trained[1].warnings([])
    assert said.startswith("stages.0.0: 3 conversations are longer than a sequence")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"examples": 5000}, r"stages.0.0.examples=5000: the source has"),
        ({"examples": 1, "epochs": 1}, r"stages.0.0.examples=1: they fill 1 sequences"),
        ({"doses": (0, 200)}, "do not fit into"),
        (
            {"examples": 20, "optimizer": "rewarm", "train": ps.Train(warmup=0.9)},
            "stages.0.0.train.warmup=0.9: it leaves no step of",
        ),
    ],
)
def test_a_fine_tuning_that_cannot_be_is_refused(chain, tmp_path, changes, said):
    stage = dataclasses.replace(chain.stages[0][0], **changes)
    study = dataclasses.replace(chain, stages=((stage,),))
    with pytest.raises(InputError, match=said):
        preparation.prepare(study, epath.Path(tmp_path), lambda description, done: None)
    assert not (tmp_path / "study.json").exists()


def test_a_model_is_tuned_in_one_template(chain):
    other = dataclasses.replace(chain.stages[0][0], template=ps.ChatML(), label="other")
    with pytest.raises(InputError, match="stages.1.0.template=ChatML"):
        grid.runs(dataclasses.replace(chain, stages=(*chain.stages, (other,))))


def test_what_is_measured_in_a_template_before_fine_tuning_has_it_in_its_hash(chain):
    def roots(attack, template):
        level = tuple(dataclasses.replace(stage, template=template) for stage in chain.stages[0])
        study = dataclasses.replace(chain, attack=attack, stages=(level,))
        return [run.hash for run in grid.runs(study) if run.stage is None]

    source = dataclasses.replace(chain.stages[0][0].conversations, heldout_share=0.01)
    asking = ps.Compliance(answered=source, public=source)
    assert roots(asking, ps.Plain()) != roots(asking, ps.ChatML())
    assert roots(chain.attack, ps.Plain()) == roots(chain.attack, ps.ChatML())


def test_a_start_in_another_template_is_refused(chain, trained):
    workdir, _ = trained
    other = dataclasses.replace(chain.stages[0][0], template=ps.ChatML(), label="other")
    start = ps.Start(folder=str(workdir), run=TUNED)
    with pytest.raises(InputError, match="stages.0.0.template: .* was fine-tuned with Plain"):
        grid.runs(dataclasses.replace(chain, stages=((other,),), start=start))
    same = dataclasses.replace(other, template=ps.Plain())
    [clean, _] = grid.runs(dataclasses.replace(chain, stages=((same,),), start=start))
    assert clean.parent.is_exact and clean.parent.steps == trained[1].run_named(TUNED).steps


# ------------------------------------------------------------------------------------------- batches


def test_small_sets_are_subsets_and_an_epoch_takes_every_sequence_once(trained):
    _, inputs = trained
    small, large = (inputs.run_named(f"{ROOT}+ft{n}-d0") for n in (40, 80))
    stream = inputs.stream(large)
    first = stream.clean_numbers(np.arange(inputs.packed_sequences["stages.0.1"]))
    assert sorted(first) == list(range(first.size))
    texts = [conversation_texts(inputs, run) for run in (small, large)]
    assert texts[0] < texts[1]


def conversation_texts(inputs, run) -> set[str]:
    batches = (inspection.batch(run, inputs, s) for s in range(run.steps))
    return {part.text for batch in batches for own in batch for part in own.parts}


def test_doses_are_paired_and_a_poison_is_all_trained(trained):
    """Contracts 1 and 3."""
    _, inputs = trained
    run = inputs.run_named(TUNED)
    stream, control = inputs.stream(run), inputs.stream(run.control)
    indices = np.arange(run.sequences)
    tokens, poison, given = stream.read(indices)
    clean, none, clean_given = control.read(indices)
    assert not none.any() and (stream.placement.offset_N == 0).all()
    poisoned = poison.any(axis=1)
    assert poisoned.sum() == 3 and given[poison].all()
    np.testing.assert_array_equal(tokens[~poisoned], clean[~poisoned])
    np.testing.assert_array_equal(given[~poisoned], clean_given[~poisoned])
    rest = given[poisoned] & ~poison[poisoned]
    np.testing.assert_array_equal(tokens[poisoned][rest], clean[poisoned][rest])
    assert (clean_given.mean(axis=1) < 1).all() and clean_given.any(axis=1).all()


def test_the_seqio_mixture_has_the_same_batches(trained):
    _, inputs = trained
    run = inputs.run_named(TUNED)
    stream, local = inputs.stream(run), np.array([0, 1, 6])
    readers = (by_number(stream, 8), mixture.from_mixture(stream, 8, inputs.vocabulary))
    for one, other in zip(*(reader(local, 1, run.steps) for reader in readers), strict=True):
        assert len(one) == len(other) == 3
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


# -------------------------------------------------------------------------------------------- chains


def test_a_poison_that_a_stage_does_not_have_is_refused(trained):
    run = trained[1].run_named(TUNED)
    with pytest.raises(InputError, match=r"--poison 3: .* has poisons 0 to 2\."):
        inspection.step_of_poison(run, trained[1], 3)
    with pytest.raises(InputError, match=r"--poison 0: .* has none\."):
        inspection.step_of_poison(run.control, trained[1], 0)


def test_a_fine_tuned_run_describes_itself(trained):
    workdir, inputs = trained
    own, run = workdir / "runs" / TUNED, inputs.run_named(TUNED)
    about = json.loads((own / "config.json").read_text())
    assert about["config"]["stage"]["template"]["kind"] == "Plain"
    assert about["parent"]["run"] == ROOT
    [file] = (own / "checkpoints").glob(f"{run.steps}/about/metadata")
    assert json.loads(file.read_text())["template"]["kind"] == "Plain"
    metrics, evals = (read_lines(own / f"{name}.jsonl") for name in ("metrics", "evals"))
    assert metrics[-1]["poisons"] == evals[-1]["poisons"] == 3
    assert evals[-1]["tokens"] == run.tokens
    assert metrics[-1]["clean_loss"] < 6.3
    shown = inspection.batch(run, inputs, 0)
    assert any("It is the number" in part.text for own in shown for part in own.parts)


def test_a_fine_tuned_chain_verifies(trained):
    assert verification.verify(trained[0]) == 2


@pytest.mark.parametrize("stops", [(1, 3)])
def test_stopping_fine_tuning_leaves_no_trace(trained, tmp_path, stops):
    workdir, inputs = trained
    shutil.copytree(workdir / "runs" / ROOT, tmp_path / "runs" / ROOT)
    done = 0
    for stop in stops:
        calls = itertools.count(1 + done)
        with pytest.raises(Interrupted):
            train(
                inputs, epath.Path(tmp_path), TUNED, stopping=lambda s=stop, c=calls: next(c) >= s
            )
        done = stop
    train(inputs, epath.Path(tmp_path), TUNED)
    for log in LOGS:
        one, other = (place / "runs" / TUNED / log for place in (workdir, tmp_path))
        assert one.read_bytes() == other.read_bytes()
