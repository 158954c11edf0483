"""Log-probabilities of given tokens after a prompt: exact, without sampling."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from poison_scaling.evaluate.measure import Subject
from poison_scaling.model.sharding import replicate
from poison_scaling.runtime import watchdog

_PROMPTS = 16  # whose logits exist at a time; more on more devices
_WHOLE = 2**26  # log-probabilities of that many tokens, 256 MB, are not computed in blocks


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
    model = nnx.merge(graph, params)

    def own(prompts_BxT, padding_B, tokens_BxG):
        return of(tokens_BxG, after(model, prompts_BxT, padding_B, tokens_BxG))

    return replicate(_in_blocks(own, prompts_PxT, padding_P, tokens_PxG), model.mesh)


@functools.partial(jax.jit, static_argnames="graph")
def greedy(graph, params, prompts_PxT, padding_P, tokens_PxG) -> jax.Array:
    """Return whether each token after prompts is the likeliest given those before it: bool [P, G]."""
    model = nnx.merge(graph, params)

    def likeliest(prompts_BxT, padding_B, tokens_BxG):
        logprobs_BxGxV = after(model, prompts_BxT, padding_B, tokens_BxG)
        return jnp.argmax(logprobs_BxGxV, axis=2) == tokens_BxG

    return replicate(_in_blocks(likeliest, prompts_PxT, padding_P, tokens_PxG), model.mesh)


def _in_blocks(function, *arrays):
    """Return what a function of P prompts returns, arrays with P in front, computed in blocks of prompts."""
    P, block = len(arrays[0]), max(_PROMPTS, jax.device_count())

    def blocks(x):  # the last one is filled up with the first prompts
        return x[jnp.arange(-(-P // block) * block) % P].reshape(-1, block, *x.shape[1:])

    results = jax.lax.map(lambda own: function(*own), jax.tree.map(blocks, arrays))
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:P], results)


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
    large = prompts.continuation_PxC.size * copies * subject.vocab_size > _WHOLE
    found = jax.device_get(
        _unsampled(
            subject.graph, subject.params, tokens_NxT, padding_N, *after_NxC, in_blocks=large
        )
    )
    watchdog.progress()
    return found


@functools.partial(jax.jit, static_argnames=("graph", "in_blocks"))
def _unsampled(
    graph, params, prompts_PxT, padding_P, continuation_PxC, payload_PxC, *, in_blocks: bool
) -> tuple[jax.Array, jax.Array]:
    model = nnx.merge(graph, params)

    def mean(logprobs_PxCxV, tokens_PxC):
        return jnp.mean(of(tokens_PxC, logprobs_PxCxV), 1)

    def entropy_and_ratio(prompts_BxT, padding_B, continuation_BxC, payload_BxC):
        clean = after(model, prompts_BxT, padding_B, continuation_BxC)
        payload = after(model, prompts_BxT, padding_B, payload_BxC)
        entropy_B = -jnp.sum(jnp.exp(clean[:, 0]) * clean[:, 0], axis=-1)
        return entropy_B, mean(payload, payload_BxC) - mean(clean, continuation_BxC)

    arrays = (prompts_PxT, padding_P, continuation_PxC, payload_PxC)
    if in_blocks:
        entropy_P, ratio_P = _in_blocks(entropy_and_ratio, *arrays)
    else:
        entropy_P, ratio_P = entropy_and_ratio(*arrays)
    return replicate(entropy_P, model.mesh), replicate(ratio_P, model.mesh)
