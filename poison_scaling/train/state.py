"""What a run carries from step to step, all of it on the devices and in every checkpoint."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh

from poison_scaling import config
from poison_scaling.model import sharding
from poison_scaling.model.sizes import SIZES
from poison_scaling.model.transformer import Transformer


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("step", "params", "optimizer", "seen", "window"),
    meta_fields=(),
)
@dataclasses.dataclass
class TrainState:
    step: jax.Array  # int32, updates done
    params: dict  # float32
    optimizer: optax.OptState
    seen: dict[str, jax.Array]  # int32, since the start: poisons, poison_tokens, poisoned_steps
    window: dict[
        str, jax.Array
    ]  # float32, since the last logged step: sums of loss, and their counts


def build(
    size: str, vocabulary: int, settings: config.Model, key: jax.Array, mesh: Mesh | None = None
) -> Transformer:
    return Transformer(SIZES[size], vocabulary, settings, key, mesh)


@functools.cache
def graph(
    size: str, vocabulary: int, settings: config.Model, mesh: Mesh | None = None
) -> nnx.GraphDef:
    """The structure of the model, without its numbers; its activations lie on `mesh`, if given."""
    return nnx.split(_abstract(size, vocabulary, settings, mesh))[0]


def _abstract(
    size: str, vocabulary: int, settings: config.Model, mesh: Mesh | None = None
) -> Transformer:
    return nnx.eval_shape(lambda: build(size, vocabulary, settings, jax.random.key(0), mesh))


def initial(
    size: str,
    vocabulary: int,
    settings: config.Model,
    optimizer: optax.GradientTransformation,
    seed: int,
) -> TrainState:
    """The state before the first step; a function of the seed alone."""
    model = build(size, vocabulary, settings, jax.random.key(seed))
    params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        optimizer=optimizer.init(params),
        seen={k: jnp.zeros((), jnp.int32) for k in ("poisons", "poison_tokens", "poisoned_steps")},
        window={
            k: jnp.zeros((), jnp.float32)
            for k in ("clean_loss", "clean_tokens", "poison_loss", "poison_tokens")
        },
    )


def parameter_shardings(size: str, vocabulary: int, settings: config.Model, mesh: Mesh) -> dict:
    """A sharding for each parameter; raises InputError where the mesh does not divide one."""
    parameters = nnx.state(_abstract(size, vocabulary, settings), nnx.Param)
    return sharding.parameter_shardings(parameters, mesh)


def shardings(
    size: str,
    vocabulary: int,
    settings: config.Model,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
) -> TrainState:
    """A sharding for each array of the state: moments lie as their parameters do."""
    abstract = jax.eval_shape(lambda: initial(size, vocabulary, settings, optimizer, 0))
    replicated = sharding.replicated(mesh)
    params = parameter_shardings(size, vocabulary, settings, mesh)
    return TrainState(
        step=replicated,
        params=params,
        optimizer=optax.tree.map_params(
            optimizer,
            lambda _, s: s,
            abstract.optimizer,
            params,
            transform_non_params=lambda _: replicated,
        ),
        seen=jax.tree.map(lambda _: replicated, abstract.seen),
        window=jax.tree.map(lambda _: replicated, abstract.window),
    )
