"""AdamW with linear warm-up, cosine decay, and clipping of the global gradient norm."""

from __future__ import annotations

import jax
import optax

from poison_scaling.study.settings import Train


def schedule(train: Train, peak: float, steps: int) -> optax.Schedule:
    """Learning rate of each step: 0 to `peak` over the warm-up, then half a cosine."""
    return optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=peak,
        warmup_steps=max(1, round(train.warmup * steps)),
        decay_steps=steps,
        end_value=peak * train.final_learning_rate,
    )


def optimizer(train: Train, peak: float, steps: int) -> optax.GradientTransformation:
    """Loshchilov & Hutter 2019, arXiv 1711.05101; decay on matrices, not on the scales of norms."""
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
