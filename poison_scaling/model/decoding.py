"""Sampling with a key-value cache: all prompts at once, static shapes, one compilation a run."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from flax import nnx


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
    """`generate` = G tokens after each prompt: ids int32 [P, G], and their log-probabilities [P, G].

    Prompt p has `padding_P[p]` tokens of padding on its left. Its t-th token is drawn with
    fold_in(keys_P[p], t), so what it becomes does not depend on the other prompts. Log-probabilities,
    in nats, are the model's own, at temperature 1, whatever temperature the tokens were drawn at.
    """
    model = nnx.merge(graph, params)
    P, T = prompts_PxT.shape
    cache = model.empty_cache(P, T + generate)
    logits_PxV, cache = model.extend(prompts_PxT, padding_P, cache, 0)

    def draw(carry, t):
        logits_PxV, cache = carry
        keys = jax.vmap(jax.random.fold_in, (0, None))(keys_P, t)
        tokens_P = jax.vmap(jax.random.categorical)(keys, logits_PxV / temperature)
        logprob_PxV = jax.nn.log_softmax(logits_PxV)
        logprob_P = jnp.take_along_axis(logprob_PxV, tokens_P[:, None], axis=1)[:, 0]
        logits_PxV, cache = model.extend(tokens_P[:, None], padding_P, cache, T + t)
        return (logits_PxV, cache), (tokens_P.astype(jnp.int32), logprob_P)

    _, (tokens_GxP, logprobs_GxP) = jax.lax.scan(draw, (logits_PxV, cache), jnp.arange(generate))
    return tokens_GxP.T, logprobs_GxP.T
