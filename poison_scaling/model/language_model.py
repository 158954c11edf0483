"""The contract between a model and all that trains, samples and measures it."""

from __future__ import annotations

from typing import Any

import jax
from flax import nnx
from jax.sharding import Mesh

from poison_scaling.model.settings import Model

# Keys and values, or whatever a model keeps of past tokens: a tree of arrays.
Cache = Any


class LanguageModel(nnx.Module):
    """Base of models: token ids in, logits of the next token out.

    Axes in names: B sequences, L positions, S slots of the cache, D width, V vocabulary size.

    Every nnx.Param carries the metadata `axes`, one logical name per axis (`model.sharding.RULES`), which
    lays it out on the mesh; activations are laid out with `model.sharding.constrain`. `settings` and `mesh`
    are those that the model was built with.
    """

    settings: Model
    mesh: Mesh | None

    def __call__(self, tokens_BxL: jax.Array, segments_BxL: jax.Array | None = None) -> jax.Array:
        """Return logits float32 [B, L, V] of the token after each position."""
        return self.logits(self.hidden(tokens_BxL, segments_BxL))

    def hidden(
        self,
        tokens_BxL: jax.Array,
        segments_BxL: jax.Array | None = None,
        kind: str | None = None,
    ) -> jax.Array:
        """Return the input of the output layer [B, L, D]: a function of the tokens up to each position.

        With `segments_BxL` (an integer per position), positions see those of the same integer alone. `kind`
        of attention overrides settings.attention; "plain" must take sequences of any length.
        """
        raise NotImplementedError

    def logits(self, x_BxLxD: jax.Array) -> jax.Array:
        """Return logits float32 [B, L, V] of what `hidden` gives, for any slice of its positions."""
        raise NotImplementedError

    def empty_cache(self, B: int, S: int) -> Cache:
        """Return a cache for B sequences with S slots and no token in them."""
        raise NotImplementedError

    def extend(
        self, tokens_BxL: jax.Array, padding_B: jax.Array, cache: Cache, start: jax.Array | int
    ) -> tuple[jax.Array, Cache]:
        """Return logits [B, V] after the last of the L tokens at slots start... of the cache, and the new
        cache.

        The first `padding_B[b]` slots of sequence b hold no token: nothing attends to them, and positions
        count from the first real token. Agrees with `hidden` and `logits` on the same tokens.
        """
        raise NotImplementedError
