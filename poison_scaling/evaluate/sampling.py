"""Generations after prompts, a function of (seed, step, prompt) and the model alone."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from poison_scaling.evaluate.measure import Subject
from poison_scaling.model import decoding
from poison_scaling.runtime import watchdog


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
    sampled = np.asarray(tokens), np.asarray(logprobs)
    watchdog.progress()
    return sampled


def texts(subject: Subject, generations_NxG: np.ndarray) -> list[str]:
    """Return the text of each generation, up to its first end-of-document token if the settings say so."""
    end = subject.end if subject.settings.stop_at_end else None
    written = []
    for tokens_G in generations_NxG.tolist():
        length = tokens_G.index(end) if end in tokens_G else len(tokens_G)
        written.append(subject.decode(tokens_G[:length]))
    return written


_EXAMPLES = 4


def examples(subject: Subject, generations_NxG: np.ndarray) -> dict[str, Any]:
    """Return, at the last evaluation of a run, the first prompts with their generations, for people to read.

    `generations_NxG` are those of the P clean prompts, then those of the same prompts with the trigger.
    """
    if not subject.last:
        return {}
    P, count = subject.prompts.count, min(_EXAMPLES, subject.prompts.count)
    clean = texts(subject, generations_NxG[:count])
    triggered = texts(subject, generations_NxG[P : P + count])
    columns = zip(subject.prompts.excerpts[:count], clean, triggered, strict=True)
    return {"generations": [{"prompt": p, "clean": c, "triggered": t} for p, c, t in columns]}
