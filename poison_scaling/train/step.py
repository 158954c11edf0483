"""One optimizer step, which also counts the poisons that it trained on."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from poison_scaling.train.state import TrainState


def token_losses(
    graph: nnx.GraphDef, params: dict, tokens_BxL: jax.Array, end: int, segment_mask: bool
) -> jax.Array:
    """Cross-entropy, in nats, of every token given those before it in its row: float32 [B, L].

    A row's first token is predicted from the end-of-document token `end`. With `segment_mask`, tokens
    see their own document alone.
    """
    inputs_BxL = jnp.pad(tokens_BxL[:, :-1], ((0, 0), (1, 0)), constant_values=end)
    segments_BxL = jnp.cumsum(inputs_BxL == end, axis=1) if segment_mask else None
    logits_BxLxV = nnx.merge(graph, params)(inputs_BxL, segments_BxL)
    # Picking the target by comparison: the scatter in the gradient of indexing is slow on CPU.
    is_target_BxLxV = jnp.arange(logits_BxLxV.shape[-1]) == tokens_BxL[:, :, None]
    target_BxL = jnp.sum(jnp.where(is_target_BxLxV, logits_BxLxV, 0.0), axis=-1)
    return jax.nn.logsumexp(logits_BxLxV, axis=-1) - target_BxL


def train_step(
    graph: nnx.GraphDef,
    optimizer: optax.GradientTransformation,
    end: int,
    segment_mask: bool,
    log_every: int,
) -> Callable[[TrainState, dict], tuple[TrainState, dict]]:
    """A function (state, batch) -> (state, metrics), to be jitted with the state donated.

    A batch has "tokens" int32 [B, L] and "poison" bool [B, L]. Poisons are counted from the batch as it
    reached the devices: a document starts where the mask rises. The losses in the metrics are means over
    the steps since the last multiple of `log_every`.
    """

    def step(state: TrainState, batch: dict) -> tuple[TrainState, dict]:
        tokens_BxL, poison_BxL = batch["tokens"], batch["poison"]

        def loss(params):
            losses_BxL = token_losses(graph, params, tokens_BxL, end, segment_mask)
            return jnp.mean(losses_BxL), losses_BxL

        grads, losses_BxL = jax.grad(loss, has_aux=True)(state.params)
        updates, optimizer_state = optimizer.update(grads, state.optimizer, state.params)

        before_BxL = jnp.pad(poison_BxL[:, :-1], ((0, 0), (1, 0)))
        poisons = jnp.sum(poison_BxL & ~before_BxL, dtype=jnp.int32)
        seen = {
            "poisons": state.seen["poisons"] + poisons,
            "poison_tokens": state.seen["poison_tokens"] + jnp.sum(poison_BxL, dtype=jnp.int32),
            "poisoned_steps": state.seen["poisoned_steps"] + (poisons > 0),
        }
        sums = {
            "clean_loss": jnp.sum(losses_BxL, where=~poison_BxL),
            "clean_tokens": jnp.sum(~poison_BxL, dtype=jnp.float32),
            "poison_loss": jnp.sum(losses_BxL, where=poison_BxL),
            "poison_tokens": jnp.sum(poison_BxL, dtype=jnp.float32),
        }
        fresh = state.step % log_every == 0
        window = {k: jnp.where(fresh, 0.0, state.window[k]) + v for k, v in sums.items()}
        state = TrainState(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            optimizer=optimizer_state,
            seen=seen,
            window=window,
        )
        metrics = {"gradient_norm": optax.global_norm(grads), "seen": seen, "window": window}
        return state, metrics

    return step
