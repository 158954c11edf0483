"""Sampling with a key-value cache: all prompts at once, static shapes, one compilation per run."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from poison_scaling.model.sharding import replicate


@functools.partial(jax.jit, static_argnames=("graph", "generate"))
def sample(
    graph: nnx.GraphDef,
    params: dict,
    prompts_PxT: jax.Array,
    padding_P: jax.Array,
    keys_P: jax.Array,
    temperature: float,
    *,
    generate: int,
) -> tuple[jax.Array, jax.Array]:
    """Return G = `generate` tokens after each prompt, int32 [P, G], and their log-probabilities [P, G].

    Prompt p has `padding_P[p]` tokens of padding on the left. Its t-th token is drawn with
    fold_in(keys_P[p], t), independently of the other prompts. Log-probabilities are in nats, at temperature 1
    whatever the sampling temperature.
    """
    model = nnx.merge(graph, params)
    P, T = prompts_PxT.shape
    cache = model.empty_cache(P, T + generate)
    logits_PxV, cache = model.extend(prompts_PxT, padding_P, cache, 0)

    def draw(carry, t):
        logits_PxV, cache = carry
        step_keys_P = jax.vmap(jax.random.fold_in, (0, None))(keys_P, t)
        tokens_P = _draw(logits_PxV / temperature, jax.vmap(jax.random.uniform)(step_keys_P))
        logit_P = jnp.take_along_axis(logits_PxV, tokens_P[:, None], axis=1)[:, 0]
        logprob_P = logit_P - jax.nn.logsumexp(logits_PxV, axis=1)
        logits_PxV, cache = model.extend(tokens_P[:, None], padding_P, cache, T + t)
        return (logits_PxV, cache), (tokens_P, logprob_P)

    _, (tokens_GxP, logprobs_GxP) = jax.lax.scan(draw, (logits_PxV, cache), jnp.arange(generate))
    return replicate(tokens_GxP.T, model.mesh), replicate(logprobs_GxP.T, model.mesh)


def _draw(logits_PxV: jax.Array, uniform_P: jax.Array) -> jax.Array:
    """Return tokens int32 [P], sampled by inverting the cumulative distribution at `uniform_P`.

    This takes one random number per token; `jax.random.categorical` takes V, which dominated sampling time.
    """
    weights_PxV = jnp.exp(logits_PxV - jnp.max(logits_PxV, axis=1, keepdims=True))
    upto_PxV = jnp.cumsum(weights_PxV, axis=1)
    tokens_P = jnp.sum(upto_PxV <= uniform_P[:, None] * upto_PxV[:, -1:], axis=1, dtype=jnp.int32)
    return jnp.minimum(tokens_P, logits_PxV.shape[1] - 1)  # the product may round up to the total
