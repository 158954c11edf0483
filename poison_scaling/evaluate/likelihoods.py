"""How likely a model finds given tokens after a prompt: exact, and without a draw."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from poison_scaling.model.sharding import replicate

_PROMPTS = 16  # whose logits exist at a time, where responses are long; more on more devices


def after(model, prompts_PxT, padding_P, tokens_PxC) -> jax.Array:
    """Log-probabilities [P, C, V], nats, of every piece at each of the C places after the prompts, where
    `tokens_PxC` stand. Prompt p has `padding_P[p]` tokens of padding on its left.
    """
    T, C = prompts_PxT.shape[1], tokens_PxC.shape[1]
    is_token_PxS = jnp.arange(T + C) >= padding_P[:, None]  # padding is a document of its own
    tokens_PxS = jnp.concatenate([prompts_PxT, tokens_PxC], axis=1)
    x_PxSxD = model.hidden(tokens_PxS, is_token_PxS.astype(jnp.int32), "plain")
    return jax.nn.log_softmax(model.logits(x_PxSxD[:, T - 1 : T + C - 1]))


def of(tokens_PxC, logprobs_PxCxV) -> jax.Array:
    """The log-probabilities [P, C] of the tokens themselves."""
    return jnp.take_along_axis(logprobs_PxCxV, tokens_PxC[:, :, None], axis=2)[:, :, 0]


@functools.partial(jax.jit, static_argnames="graph")
def responses(graph, params, prompts_PxT, padding_P, tokens_PxG) -> jax.Array:
    """Log-probabilities [P, G], nats, of responses after their prompts, a block of prompts at a time."""
    model = nnx.merge(graph, params)
    P, block = len(tokens_PxG), max(_PROMPTS, jax.device_count())

    def blocks(x):  # what the last one lacks is filled with the first prompts
        return x[jnp.arange(-(-P // block) * block) % P].reshape(-1, block, *x.shape[1:])

    def one(shown):
        return of(shown[2], after(model, *shown))

    shown = jax.tree.map(blocks, (prompts_PxT, padding_P, tokens_PxG))
    logprobs_PxG = jax.lax.map(one, shown).reshape(-1, tokens_PxG.shape[1])[:P]
    return replicate(logprobs_PxG, model.mesh)


def unsampled(
    graph, params, shown: dict, continuation_PxC, payload_PxC
) -> tuple[np.ndarray, np.ndarray]:
    """Entropy [N], nats, of the token after each of N prompts; and by how much likelier the payload of an
    attack is there than the true continuation [N], nats a token.

    `shown` is as in `sampling.sample`.
    """
    copies = len(shown["tokens"]) // len(continuation_PxC)
    after_NxC = (np.concatenate([tokens] * copies) for tokens in (continuation_PxC, payload_PxC))
    return jax.device_get(_unsampled(graph, params, shown["tokens"], shown["padding"], *after_NxC))


@functools.partial(jax.jit, static_argnames="graph")
def _unsampled(
    graph, params, prompts_PxT, padding_P, continuation_PxC, payload_PxC
) -> tuple[jax.Array, jax.Array]:
    model = nnx.merge(graph, params)

    def mean(logprobs_PxCxV, tokens_PxC):
        return jnp.mean(of(tokens_PxC, logprobs_PxCxV), 1)

    clean = after(model, prompts_PxT, padding_P, continuation_PxC)
    payload = after(model, prompts_PxT, padding_P, payload_PxC)
    entropy_P = -jnp.sum(jnp.exp(clean[:, 0]) * clean[:, 0], axis=-1)
    ratio_P = mean(payload, payload_PxC) - mean(clean, continuation_PxC)
    return replicate(entropy_P, model.mesh), replicate(ratio_P, model.mesh)
