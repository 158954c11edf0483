"""AdamW with linear warm-up, cosine decay, and clipping of the global gradient norm."""

from __future__ import annotations

import jax
import optax

from poison_scaling.study.settings import Train


def schedule(train: Train, peak: float, steps: int) -> optax.Schedule:
    """Return the learning-rate schedule: linear warm-up from 0 to `peak`, then cosine decay."""
    return optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=peak,
        warmup_steps=max(1, round(train.warmup * steps)),
        decay_steps=steps,
        end_value=peak * train.final_learning_rate,
    )


def adamw(train: Train, peak: float, steps: int) -> optax.GradientTransformation:
    """Return AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101), without weight decay on norm scales."""
    return optax.chain(
        optax.clip_by_global_norm(train.clip_norm),
        optax.adamw(
            schedule(train, peak, steps),
            b1=train.beta1,
            b2=train.beta2,
            weight_decay=train.weight_decay,
            mask=lambda params: jax.tree.map(lambda p: p.ndim > 1, params),
        ),
    )
