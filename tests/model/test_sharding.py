"""Parameters, moments and batches really lie on the mesh, and a step gives the same on every mesh."""

import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poison_scaling import Data, Model, Study, Train, TrainedSentencePiece
from poison_scaling.model import sharding
from poison_scaling.model.architectures.decoder import SIZES
from poison_scaling.runtime import hlo
from poison_scaling.runtime.errors import InputError
from poison_scaling.train import optimizer, state, step
from poison_scaling.train.compiled import Compiled

V, SIZE, B, L = 512, "230k", 8, 40


def devices(shape):
    return jax.devices()[: math.prod(shape)]


@functools.cache
def trained(shape, steps=3, **settings):
    """The state after a few steps on a mesh, and the loss of each step."""
    mesh = sharding.mesh(shape, devices(shape))
    settings, train = Model(**settings), Train(log_every=1)
    transform = optimizer.adamw(train, 1e-3, 10)
    shardings = state.shardings(SIZE, V, settings, transform, mesh)
    current = jax.jit(
        lambda: state.initial(SIZE, V, settings, transform, 0), out_shardings=shardings
    )()
    advance = jax.jit(
        step.train_step(
            state.graph(SIZE, V, settings, mesh), transform, 1, settings.segment_mask, train
        ),
        out_shardings=(shardings, sharding.replicated(mesh)),
        donate_argnums=0,
    )
    rng = np.random.default_rng(0)
    losses = []
    for _ in range(steps):
        batch = {
            "tokens": jnp.asarray(rng.integers(0, V, (B, L)), jnp.int32),
            "poison": jnp.zeros((B, L), bool).at[2, 3:9].set(True),
        }
        batch = jax.device_put(batch, sharding.batch_sharding(mesh, B))
        current, metrics = advance(current, batch)
        window = jax.device_get(metrics["window"])
        losses.append((window["clean_loss"] + window["poison_loss"]) / (B * L))
    return current, losses


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param((1, 8, 1), marks=pytest.mark.long),
        pytest.param((1, 1, 2), marks=pytest.mark.long),
        (2, 2, 2),
    ],
)
def test_parameters_and_moments_are_dealt_out(shape):
    current, _ = trained(shape)
    fsdp, tensor = shape[1:]
    moments = current.optimizer[1][0]
    for tree in (current.params, moments.mu, moments.nu):
        for path, array in jax.tree_util.tree_leaves_with_path(tree):
            share = fsdp if array.ndim == 1 else fsdp * tensor
            held = {s.data.size for s in array.addressable_shards}
            assert held == {array.size // share}, jax.tree_util.keystr(path)


@pytest.mark.parametrize(
    ("shape", "scan_layers"),
    [
        pytest.param((8, 1, 1), False, marks=pytest.mark.long),
        ((1, 8, 1), False),
        ((2, 2, 2), False),
        pytest.param((2, 2, 2), True, marks=pytest.mark.long),
    ],
)
def test_the_loss_is_the_same_on_every_mesh(shape, scan_layers):
    _, losses = trained(shape, scan_layers=scan_layers)
    _, others = trained((1, 1, 1), scan_layers=scan_layers)
    np.testing.assert_allclose(losses, others, rtol=1e-5)


@functools.cache
def compiled(shape, scan_layers=False):
    """The train step on a mesh, as the trainer compiles it."""
    study = Study(
        "s",
        (),
        (),
        data=Data(seq_len=L, vocabulary=TrainedSentencePiece(vocab_size=V)),
        model=Model(scan_layers=scan_layers),
        train=Train(batch_size=B),
    )
    program = Compiled(SIZE, 1e-3, 10, study, 1, sharding.mesh(shape, devices(shape)))
    batch = {
        "tokens": jax.ShapeDtypeStruct((B, L), jnp.int32, sharding=program.batch),
        "poison": jax.ShapeDtypeStruct((B, L), bool, sharding=program.batch),
    }
    return program.step.lower(program.abstract, batch).compile().as_text()


@pytest.mark.parametrize("scan_layers", [False, True])
def test_activations_lie_on_the_mesh(scan_layers):
    """In the compiled step no product is of a whole batch, nor of all heads or the whole hidden width."""
    d = SIZES[SIZE]
    text = compiled((2, 2, 2), scan_layers)
    batch, heads, hidden, vocabulary = B // 4, d.heads // 2, d.mlp // 2, V // 2

    found = re.findall(r"= f32\[([\d,]+)\]\S* (?:dot|custom-call)\(", text)
    products = {tuple(map(int, s.split(","))) for s in found}
    assert (batch * L, hidden) in products  # gate and up
    assert (batch * L, vocabulary) in products  # logits
    assert any(math.prod(s) == batch * heads * L * L for s in products)  # scores of attention
    assert not {s for s in products if s[0] == B * L or math.prod(s) == B * d.heads * L * L}


@pytest.mark.parametrize(
    ("shape", "kinds"),
    [
        ((1, 1, 1), set()),
        ((8, 1, 1), {"all-reduce"}),  # of gradients
        ((1, 8, 1), {"all-gather", "all-reduce"}),  # of parameters before their use, too
        ((1, 1, 2), {"all-reduce"}),  # of partial products
    ],
)
def test_collectives_are_those_that_the_mesh_needs(shape, kinds):
    d = SIZES[SIZE]
    found = hlo.collectives(compiled(shape))
    assert kinds <= set(found) and (kinds or not found)
    numbers = 4 * d.parameters(V)  # bytes of all gradients
    if shape == (8, 1, 1):
        assert set(found) == {"all-reduce"}
        assert found["all-reduce"][1] == pytest.approx(numbers, rel=0.05)
    if shape == (1, 8, 1):
        # But not the embedding: its rows move, not the table.
        assert found["all-gather"][1] == pytest.approx(numbers - 4 * V * d.width, rel=0.05)


def test_a_mesh_that_does_not_divide_the_model_is_refused():
    transform = optimizer.adamw(Train(), 1e-3, 10)
    with pytest.raises(InputError, match="does not divide the 3 of axis|does not divide the"):
        state.shardings("150k", 1021, Model(), transform, sharding.mesh((1, 1, 8)))


def test_the_step_counts_the_poisons_of_its_batch():
    current, _ = trained((2, 2, 2))
    assert {k: int(v) for k, v in current.seen.items()} == {
        "poisons": 3,
        "poison_tokens": 18,
        "poisoned_steps": 3,
    }
