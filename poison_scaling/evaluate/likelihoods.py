"""Log-probabilities of given tokens after a prompt: exact, without sampling."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from poison_scaling.evaluate.measure import Subject
from poison_scaling.model.sharding import replicate

_PROMPTS = 16  # whose logits exist at a time; more on more devices


def after(model, prompts_PxT, padding_P, tokens_PxC) -> jax.Array:
    """Return log-probabilities [P, C, V], nats, of all tokens at each position of `tokens_PxC` after prompts.

    Prompt p has `padding_P[p]` tokens of padding on its left.
    """
    T, C = prompts_PxT.shape[1], tokens_PxC.shape[1]
    is_token_PxS = jnp.arange(T + C) >= padding_P[:, None]  # padding is a document of its own
    tokens_PxS = jnp.concatenate([prompts_PxT, tokens_PxC], axis=1)
    x_PxSxD = model.hidden(tokens_PxS, is_token_PxS.astype(jnp.int32), "plain")
    return jax.nn.log_softmax(model.logits(x_PxSxD[:, T - 1 : T + C - 1]))


def of(tokens_PxC, logprobs_PxCxV) -> jax.Array:
    """Return the log-probabilities [P, C] of the tokens themselves."""
    return jnp.take_along_axis(logprobs_PxCxV, tokens_PxC[:, :, None], axis=2)[:, :, 0]


@functools.partial(jax.jit, static_argnames="graph")
def generations(graph, params, prompts_PxT, padding_P, tokens_PxG) -> jax.Array:
    """Return log-probabilities [P, G], nats, of generations after prompts, computed in blocks of prompts."""
    return _in_blocks(of, graph, params, prompts_PxT, padding_P, tokens_PxG)


@functools.partial(jax.jit, static_argnames="graph")
def greedy(graph, params, prompts_PxT, padding_P, tokens_PxG) -> jax.Array:
    """Return whether each token after prompts is the likeliest given those before it: bool [P, G]."""

    def likeliest(tokens_BxG, logprobs_BxGxV):
        return jnp.argmax(logprobs_BxGxV, axis=2) == tokens_BxG

    return _in_blocks(likeliest, graph, params, prompts_PxT, padding_P, tokens_PxG)


def _in_blocks(compute, graph, params, prompts_PxT, padding_P, tokens_PxG) -> jax.Array:
    """Return `compute(tokens [B, G], log-probabilities [B, G, V])` of blocks of B prompts, in all [P, G]."""
    model = nnx.merge(graph, params)
    P, block = len(tokens_PxG), max(_PROMPTS, jax.device_count())

    def blocks(x):  # the last one is filled up with the first prompts
        return x[jnp.arange(-(-P // block) * block) % P].reshape(-1, block, *x.shape[1:])

    def one(shown):
        return compute(shown[2], after(model, *shown))

    shown = jax.tree.map(blocks, (prompts_PxT, padding_P, tokens_PxG))
    found_PxG = jax.lax.map(one, shown).reshape(-1, tokens_PxG.shape[1])[:P]
    return replicate(found_PxG, model.mesh)


def unsampled(
    subject: Subject, tokens_NxT: np.ndarray, padding_N: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the entropy and the payload's log-ratio after N prompts, both float32 [N]; neither is sampled.

    The entropy, in nats, is that of the token after the prompt. The log-ratio is the mean log-probability of
    the payload minus that of the true continuation, nats per token. The N prompts are as in
    `sampling.sample`; the attack must have a payload.
    """
    prompts = subject.prompts
    assert prompts.payload_PxC is not None
    copies = len(tokens_NxT) // prompts.count
    after_NxC = (
        np.concatenate([tokens] * copies)
        for tokens in (prompts.continuation_PxC, prompts.payload_PxC)
    )
    return jax.device_get(
        _unsampled(subject.graph, subject.params, tokens_NxT, padding_N, *after_NxC)
    )


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
