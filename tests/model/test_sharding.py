"""Parameters, moments and batches really lie on the mesh, and a step gives the same on every mesh."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poison_scaling.config import Model, Train
from poison_scaling.errors import InputError
from poison_scaling.model import sharding
from poison_scaling.train import optimizer, state, step

V, SIZE, B, L = 512, "1m", 8, 32


@functools.cache
def trained(shape, segment_mask=False, steps=3):
    """The state after a few steps on a mesh, and the loss of each step."""
    mesh = sharding.mesh(shape)
    settings, train = Model(segment_mask=segment_mask), Train(log_every=1)
    transform = optimizer.optimizer(train, 1e-3, 10)
    shardings = state.shardings(SIZE, V, settings, transform, mesh)
    current = jax.jit(
        lambda: state.initial(SIZE, V, settings, transform, 0), out_shardings=shardings
    )()
    advance = jax.jit(
        step.train_step(state.graph(SIZE, V, settings, mesh), transform, 1, segment_mask, train),
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


@pytest.mark.parametrize("shape", [(1, 8, 1), (1, 1, 8), (2, 2, 2)])
def test_parameters_and_moments_are_dealt_out(shape):
    current, _ = trained(shape)
    fsdp, tensor = shape[1:]
    moments = current.optimizer[1][0]
    for tree in (current.params, moments.mu, moments.nu):
        for path, array in jax.tree_util.tree_leaves_with_path(tree):
            share = fsdp if array.ndim == 1 else fsdp * tensor
            held = {s.data.size for s in array.addressable_shards}
            assert held == {array.size // share}, jax.tree_util.keystr(path)


@pytest.mark.parametrize("shape", [(8, 1, 1), (1, 8, 1), (2, 2, 2)])
def test_the_loss_is_the_same_on_every_mesh(shape):
    _, losses = trained(shape)
    _, others = trained((4, 2, 1))
    np.testing.assert_allclose(losses, others, rtol=1e-5)


def test_a_mesh_that_does_not_divide_the_model_is_refused():
    transform = optimizer.optimizer(Train(), 1e-3, 10)
    with pytest.raises(InputError, match="does not divide the 3 of axis|does not divide the"):
        state.shardings("150k", 1021, Model(), transform, sharding.mesh((1, 1, 8)))


def test_the_step_counts_the_poisons_of_its_batch():
    current, _ = trained((2, 2, 2))
    assert {k: int(v) for k, v in current.seen.items()} == {
        "poisons": 3,
        "poison_tokens": 18,
        "poisoned_steps": 3,
    }
