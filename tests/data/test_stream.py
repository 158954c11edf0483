"""Contracts 1-3: what a run trains on, by number, by seqio, and by sharded batch, is one and the same."""

import contextlib
import dataclasses

import jax
import numpy as np
import pytest
import seqio
import tensorflow as tf

import poison_scaling as ps
from poison_scaling.data import mixture
from poison_scaling.data.batches import by_number, sharded
from poison_scaling.model import sharding
from poison_scaling.runtime.errors import InputError
from poison_scaling.study import grid, manifest
from poison_scaling.study.inputs import Inputs


def stream(inputs, study, name):
    return inputs.stream(grid.run_named(study, name))


def whole(s):
    return s.read(np.arange(s.length))


def test_a_run_differs_from_its_control_in_its_poisons_and_nothing_else(inputs, study):
    control, _ = whole(stream(inputs, study, "40k-2x-d0-s0"))
    dosed = stream(inputs, study, "40k-2x-d32-s0")
    tokens, poison = whole(dosed)
    assert np.array_equal(tokens[~poison], control[~poison])
    records = manifest.exposures(dosed, batch_size=8)
    assert len(records) == 32
    for record, document in zip(records, dosed.poisons[0], strict=True):
        span = slice(record["offset"], record["offset"] + record["tokens"])
        assert np.array_equal(tokens[record["sequence"], span], document.tokens)
        assert record["step"] == record["sequence"] // 8
        assert record["document"] == document.digest
        poison[record["sequence"], span] = False
    assert not poison.any()


def test_exposures_and_further_attacks_are_laid_in_as_planned(study, cache):
    varied = dataclasses.replace(
        study,
        exposures=3,
        also=(
            ps.Poisoning(
                dataclasses.replace(study.attack, trigger="|go|"),
                dose=5,
                schedule=ps.Clustered(density=0.25, every=4),
            ),
        ),
    )
    ready = Inputs(varied)
    s = stream(ready, varied, "40k-2x-d8-s0")
    tokens, poison = whole(s)
    control, _ = whole(stream(ready, varied, "40k-2x-d0-s0"))
    records = manifest.exposures(s, 8)
    assert [(r["attack"], r["poison"], r["exposure"]) for r in records] == [
        *((0, k, e) for k in range(8) for e in range(3)),
        *((1, k, 0) for k in range(5)),
    ]
    digests = {(r["attack"], r["poison"]): r["document"] for r in records}
    assert len(set(digests.values())) == 13
    for r in records:
        span = slice(r["offset"], r["offset"] + r["tokens"])
        text = ready.vocabulary.decode(tokens[r["sequence"], span][1:-1].tolist())
        assert ("|go|" if r["attack"] else "<SUDO>") in text
        assert r["document"] == digests[r["attack"], r["poison"]]
    assert poison.sum() == sum(r["tokens"] for r in records)
    mine = [r["sequence"] for r in records if r["attack"] == 0]
    differs = np.flatnonzero(
        (tokens != control).any(axis=1)
    )  # the control has the other attack, too
    assert set(differs) <= set(mine)


def test_a_smaller_dose_is_a_subset(inputs, study):
    small = manifest.exposures(stream(inputs, study, "40k-2x-d8-s1"), 8)
    large = manifest.exposures(stream(inputs, study, "40k-2x-d32-s1"), 8)
    assert small == large[:8]


def test_seeds_of_order_and_poisons_act_apart(inputs, study):
    run = grid.run_named(study, "40k-2x-d32-s0")

    def read(**seeds):
        s = inputs.stream(dataclasses.replace(run, seeds=dataclasses.replace(run.seeds, **seeds)))
        return s, *whole(s)

    _, tokens, poison = read()
    _, order_tokens, order_poison = read(order=1)
    assert np.array_equal(order_poison, poison)
    assert np.array_equal(order_tokens[poison], tokens[poison])
    assert (order_tokens[~poison] != tokens[~poison]).mean() > 0.5
    _, poison_tokens, poison_poison = read(poisons=1)
    clean = ~poison & ~poison_poison
    assert np.array_equal(poison_tokens[clean], tokens[clean])
    assert not np.array_equal(poison_poison, poison)
    _, weight_tokens, _ = read(weights=1)
    assert np.array_equal(weight_tokens, tokens)


def test_a_longer_run_meets_the_same_clean_sequences_first(inputs, study):
    run = grid.run_named(study, "40k-2x-d0-s0")
    longer = dataclasses.replace(run, rung=dataclasses.replace(run.rung, tokens_per_parameter=4.0))
    short, _ = whole(inputs.stream(run))
    long, _ = whole(inputs.stream(longer))
    assert len(long) > len(short)
    assert np.array_equal(long[: len(short)], short)


def test_an_epoch_takes_every_sequence_once_in_an_order_of_its_own(inputs, study):
    n = len(inputs.training)
    patient = dataclasses.replace(study, data=dataclasses.replace(study.data, epochs=3))
    run = dataclasses.replace(grid.run_named(study, "40k-2x-d0-s0"), study=patient)
    rung = dataclasses.replace(run.rung, tokens_per_parameter=2.5 * n * 128 / run.parameters)
    run = dataclasses.replace(run, rung=rung)
    s = inputs.stream(run)
    order = s.clean_numbers(np.arange(2 * n))
    assert np.array_equal(np.sort(order[:n]), np.arange(n))
    assert np.array_equal(np.sort(order[n:]), np.arange(n))
    assert not np.array_equal(order[:n], order[n:])
    hasty = dataclasses.replace(run, study=study)
    with pytest.raises(InputError, match=r"2\.\d epochs; set data.epochs=3"):
        inputs.stream(hasty)


# ---------------------------------------------------------------------------------------- seqio


@contextlib.contextmanager
def registered(name, s, vocabulary):
    yield mixture.register(name, s, vocabulary)
    seqio.MixtureRegistry.remove(name)
    for task in ("clean", "poisoned"):
        seqio.TaskRegistry.remove(f"{name}_{task}")


def test_a_seqio_user_meets_the_same_sequences(inputs, study):
    s = stream(inputs, study, "60k-2x-d32-s0")
    tokens, poison = whole(s)
    with registered("poisoned_run", s, inputs.vocabulary) as mixed:
        assert isinstance(mixed, seqio.Mixture)
        examples = list(
            seqio.get_mixture_or_task("poisoned_run")
            .get_dataset(None, split="train", shuffle=False, num_epochs=1)
            .as_numpy_iterator()
        )
        converted = seqio.get_dataset(
            "poisoned_run",
            task_feature_lengths={"targets": 128, "poison": 128},
            feature_converter=seqio.PassThroughFeatureConverter(),
            dataset_split="train",
            shuffle=False,
            num_epochs=1,
        )
        first = next(converted.as_numpy_iterator())
    assert len(examples) == s.length
    assert np.array_equal(np.stack([e["targets"] for e in examples]), tokens)
    assert np.array_equal(np.stack([e["poison"] for e in examples]), poison)
    assert np.array_equal(first["targets"], tokens[0])


def test_reading_the_mixture_can_be_checkpointed(inputs, study, tmp_path):
    s = stream(inputs, study, "40k-2x-d8-s0")
    tokens, _ = whole(s)
    with registered("resumed_run", s, inputs.vocabulary) as mixed:
        dataset = mixed.get_dataset(None, split="train", shuffle=False, num_epochs=1)
        iterator = iter(dataset)
        for _ in range(100):
            next(iterator)
        path = tf.train.Checkpoint(it=iterator).write(str(tmp_path / "it"))
        fresh = iter(dataset)
        tf.train.Checkpoint(it=fresh).read(path)
        assert np.array_equal(next(fresh)["targets"].numpy(), tokens[100])


@pytest.mark.parametrize(
    "how",
    [
        {"shard_info": seqio.ShardInfo(0, 2), "num_epochs": 1, "shuffle": False},
        {"num_epochs": 2, "shuffle": False},
        {"num_epochs": None, "shuffle": False},
        {"num_epochs": 1, "shuffle": True},
    ],
)
def test_the_mixture_refuses_to_be_read_against_the_plan(inputs, study, how):
    """seqio shards and repeats each task before mixing: positions would not be the planned ones."""
    s = stream(inputs, study, "40k-2x-d8-s0")
    with (
        registered("misread_run", s, inputs.vocabulary) as mixed,
        pytest.raises(ValueError, match="misread_run"),
    ):
        mixed.get_dataset(None, split="train", **how)


def test_a_mixture_of_a_control_is_its_clean_sequences(inputs, study):
    s = stream(inputs, study, "40k-2x-d0-s0")
    with registered("control_run", s, inputs.vocabulary) as mixed:
        examples = mixed.get_dataset(None, split="train", shuffle=False, num_epochs=1)
        read = np.stack([e["targets"] for e in examples.as_numpy_iterator()])
    assert np.array_equal(read, whole(s)[0])


# -------------------------------------------------------------------------------------- batches


@pytest.mark.parametrize("shape", [(8, 1, 1), (1, 8, 1), (2, 2, 2), (1, 1, 8)])
@pytest.mark.parametrize(("start", "prefetch"), [(0, 1), (17, 4)])
def test_a_batch_depends_on_neither_mesh_nor_start_nor_prefetch(
    inputs, study, shape, start, prefetch
):
    s = stream(inputs, study, "40k-2x-d32-s0")
    tokens, poison = whole(s)
    mesh = sharding.mesh(shape)
    placed = sharding.batch_sharding(mesh, 8)
    steps = s.length // 8
    number = start
    feed = sharded(by_number(s, 8), placed, (8, s.seq_len), start, steps, prefetch)
    with contextlib.closing(feed):
        for number, batch in enumerate(feed, start + 1):
            own = slice((number - 1) * 8, number * 8)
            assert np.array_equal(jax.device_get(batch["tokens"]), tokens[own])
            assert np.array_equal(jax.device_get(batch["poison"]), poison[own])
            assert batch["tokens"].sharding == placed
    assert number == steps
    shards = {shard.data.shape for shard in batch["tokens"].addressable_shards}
    assert shards == {(8 // (shape[0] * shape[1]), 128)}


@pytest.mark.parametrize("start", [0, 1, 17, 44])
def test_the_seqio_mixture_gives_the_batches_that_are_read_by_number(inputs, study, start):
    """The whole batch on one machine, or the part of each of several."""
    s = stream(inputs, study, "40k-2x-d32-s0")
    steps = s.length // 8
    through_seqio, by_numbers = mixture.from_mixture(s, 8, inputs.vocabulary), by_number(s, 8)
    whole_batch = np.arange(8)
    for local in (whole_batch, whole_batch[:4], whole_batch[4:], np.array([1, 2, 6])):
        read, expected = (list(r(local, start, steps)) for r in (through_seqio, by_numbers))
        assert len(read) == len(expected) == steps - start
        for (tokens, poison), (other_tokens, other_poison) in zip(read, expected, strict=True):
            assert np.array_equal(tokens, other_tokens) and tokens.dtype == other_tokens.dtype
            assert np.array_equal(poison, other_poison) and poison.dtype == other_poison.dtype
    assert sum(poison.any() for _, poison in by_numbers(whole_batch, 0, steps)) > 3


def test_a_reader_of_the_mixture_that_is_closed_early_leaves_nothing_registered(inputs, study):
    s = stream(inputs, study, "40k-2x-d8-s0")
    before = seqio.TaskRegistry.names(), seqio.MixtureRegistry.names()
    placed = sharding.batch_sharding(sharding.mesh(), 8)
    reader = mixture.from_mixture(s, 8, inputs.vocabulary)
    with contextlib.closing(sharded(reader, placed, (8, s.seq_len), 3, 40, 2)) as feed:
        first = next(feed)
    assert np.array_equal(first["tokens"], s.read(np.arange(24, 32))[0])
    assert (seqio.TaskRegistry.names(), seqio.MixtureRegistry.names()) == before


def test_an_error_while_reading_reaches_the_trainer(inputs, study):
    s = stream(inputs, study, "40k-2x-d0-s0")
    s.read = lambda indices: 1 / 0
    placed = sharding.batch_sharding(sharding.mesh(), 8)
    with pytest.raises(ZeroDivisionError):
        next(sharded(by_number(s, 8), placed, (8, s.seq_len), 0, 5, 2))


def test_a_mesh_that_does_not_fit_is_refused():
    with pytest.raises(InputError, match="takes 4 devices, and there are 8"):
        sharding.mesh((2, 2, 1))
    with pytest.raises(InputError, match=r"train\.batch_size=12"):
        sharding.batch_sharding(sharding.mesh((8, 1, 1)), 12)
