"""Generations after prompts, a function of (seed, step, prompt) and the model alone."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from poison_scaling.evaluate.measure import Subject
from poison_scaling.model import decoding


def sample(
    subject: Subject, tokens_NxT: np.ndarray, padding_N: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return generations after N prompts, int32 [N, G], and their log-probabilities [N, G] in nats.

    The N prompts are the subject's P prompts, or several versions of them one after the other. Prompt p is
    sampled with a key from (seed, step, p), which is the same in every version.
    """
    P, settings = subject.prompts.count, subject.settings
    key = jax.random.fold_in(jax.random.key(subject.seed), subject.step)
    keys_P = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(P))
    keys_N = jnp.concatenate([keys_P] * (len(tokens_NxT) // P))
    tokens, logprobs = decoding.sample(
        *(subject.graph, subject.params, tokens_NxT, padding_N, keys_N, settings.temperature),
        generate=settings.generate_tokens,
    )
    return np.asarray(tokens), np.asarray(logprobs)
