"""What a model writes after prompts: a draw that depends on (seed, step, prompt) alone."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from poison_scaling.config import Evaluation
from poison_scaling.model import decoding


def sample(
    graph: nnx.GraphDef,
    params: dict,
    shown: dict,
    settings: Evaluation,
    *,
    P: int,
    seed: int,
    step: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Tokens int32 [N, G] after N prompts, and their log-probabilities [N, G] in nats.

    `shown` has "tokens" int32 [N, T] and "padding" int32 [N], of P prompts or of several versions of them
    one after the other. Prompt p is sampled with a key of (seed, step, p), the same in every version.
    """
    key = jax.random.fold_in(jax.random.key(seed), step)
    keys_P = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(P))
    keys_N = jnp.concatenate([keys_P] * (len(shown["tokens"]) // P))
    tokens, logprobs = decoding.sample(
        *(graph, params, shown["tokens"], shown["padding"], keys_N, settings.temperature),
        generate=settings.generate_tokens,
    )
    return np.asarray(tokens), np.asarray(logprobs)
