"""Lines of metrics.jsonl."""

from __future__ import annotations

import numpy as np


def number(value) -> float | None:
    """Return a float32 as the shortest decimal that round-trips; None if it is not finite."""
    value = np.float32(value)
    return float(str(value)) if np.isfinite(value) else None


def logged(metrics: dict, step: int, batch_tokens: int, learning_rate: float) -> dict:
    """Return the line of metrics.jsonl for the steps since the last line. Losses are in nats per token.

    `metrics` are those of `train_step`, on the host. loss, clean_loss and poison_loss are means over the
    tokens of these steps, None if there are none; gradient_norm is that of the last step.
    """
    w = metrics["window"]
    total = w["clean_tokens"] + w["poison_tokens"]
    return {
        "step": step,
        "tokens": step * batch_tokens,
        "loss": number((w["clean_loss"] + w["poison_loss"]) / total),
        "clean_loss": number(w["clean_loss"] / w["clean_tokens"]) if w["clean_tokens"] else None,
        "poison_loss": number(w["poison_loss"] / w["poison_tokens"])
        if w["poison_tokens"]
        else None,
        "gradient_norm": number(metrics["gradient_norm"]),
        "learning_rate": number(learning_rate),
        **{name: int(count) for name, count in metrics["seen"].items()},
    }
