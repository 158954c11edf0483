"""The interface between models and the code that trains, samples and evaluates them."""

from __future__ import annotations

from typing import Any

import jax
from flax import nnx
from jax.sharding import Mesh

from poison_scaling.model.settings import Model

# A pytree of arrays: keys and values, or whatever else a model keeps of past tokens.
Cache = Any


class LanguageModel(nnx.Module):
    """Base class of models, which map token ids to logits of the next token.

    Names of arrays end in their axes: B sequences, L positions, S cache slots, D width, V vocabulary size.

    Every nnx.Param has the metadata `axes`, one logical name per axis (`model.sharding.RULES`), from which
    its sharding follows; activations are sharded with `model.sharding.constrain`. `settings` and `mesh` are
    those that the model was built with.
    """

    settings: Model
    mesh: Mesh | None

    def __call__(self, tokens_BxL: jax.Array, segments_BxL: jax.Array | None = None) -> jax.Array:
        """Return the logits of the token after each position, float32 [B, L, V]."""
        return self.logits(self.hidden(tokens_BxL, segments_BxL))

    def hidden(
        self,
        tokens_BxL: jax.Array,
        segments_BxL: jax.Array | None = None,
        kind: str | None = None,
    ) -> jax.Array:
        """Return the input of the output layer, [B, L, D]; at each position it depends on tokens up to there.

        With `segments_BxL`, int32 ids, positions attend only to those with the same id. `kind` of attention
        overrides settings.attention; "plain" must accept sequences of any length.
        """
        raise NotImplementedError

    def logits(self, x_BxLxD: jax.Array) -> jax.Array:
        """Return logits float32 [B, L, V] from the output of `hidden`, or from any slice of its positions."""
        raise NotImplementedError

    def empty_cache(self, B: int, S: int) -> Cache:
        """Return an empty cache for B sequences of up to S tokens."""
        raise NotImplementedError

    def extend(
        self, tokens_BxL: jax.Array, padding_B: jax.Array, cache: Cache, start: jax.Array | int
    ) -> tuple[jax.Array, Cache]:
        """Write L tokens to cache slots from `start`; return the logits [B, V] after the last, and the cache.

        The first `padding_B[b]` slots of sequence b are padding: nothing attends to them, and positions count
        from the first real token. The result agrees with `hidden` and `logits` on the same tokens.
        """
        raise NotImplementedError
