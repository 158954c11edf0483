"""Cross-entropy of each token of a batch."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx


def token_losses(
    graph: nnx.GraphDef, params: dict, tokens_BxL: jax.Array, end: int, segment_mask: bool
) -> tuple[jax.Array, jax.Array]:
    """Return the cross-entropy of each token, in nats, and its log-partition function, both float32 [B, L].

    The first token of a sequence is predicted from the end-of-document token `end`. With `segment_mask`,
    tokens attend only within their own document. If the model's `loss_chunk` is C, logits exist for C
    positions of each sequence at a time, and are rematerialised in the backward pass.
    """
    inputs_BxL = jnp.pad(tokens_BxL[:, :-1], ((0, 0), (1, 0)), constant_values=end)
    segments_BxL = jnp.cumsum(inputs_BxL == end, axis=1) if segment_mask else None
    model = nnx.merge(graph, params)
    x_BxLxD = model.hidden(inputs_BxL, segments_BxL)

    def cross_entropy(x_BxCxD, tokens_BxC):
        return _cross_entropy(model.logits(x_BxCxD), tokens_BxC)

    C = model.settings.loss_chunk
    if C is None:
        return cross_entropy(x_BxLxD, tokens_BxL)
    B, L, D = x_BxLxD.shape
    chunks = x_BxLxD.reshape(B, L // C, C, D), tokens_BxL.reshape(B, L // C, C)
    chunks = jax.tree.map(lambda chunk: chunk.swapaxes(0, 1), chunks)
    results = jax.lax.map(lambda chunk: jax.checkpoint(cross_entropy)(*chunk), chunks)
    return jax.tree.map(lambda result: result.swapaxes(0, 1).reshape(B, L), results)


@jax.custom_vjp
def _cross_entropy(logits_BxCxV, tokens_BxC):
    """Return the cross-entropy of the tokens and the log-partition function, both [B, C]."""
    return _cross_entropy_forward(logits_BxCxV, tokens_BxC)[0]


# Written by hand because passes over the logits are expensive on CPU: forward takes one exponential of each,
# and backward makes a single pass.


def _cross_entropy_forward(logits_BxCxV, tokens_BxC):
    largest_BxC = jnp.max(logits_BxCxV, axis=-1)
    exp_BxCxV = jnp.exp(logits_BxCxV - largest_BxC[..., None])
    total_BxC = jnp.sum(exp_BxCxV, axis=-1)
    log_total_BxC = largest_BxC + jnp.log(total_BxC)
    target_BxC = jnp.take_along_axis(logits_BxCxV, tokens_BxC[..., None], axis=-1)[..., 0]
    losses_BxC = log_total_BxC - target_BxC
    return (losses_BxC, log_total_BxC), (exp_BxCxV, total_BxC, tokens_BxC)


def _cross_entropy_backward(saved, cotangents):
    exp_BxCxV, total_BxC, tokens_BxC = saved
    d_losses_BxC, d_log_total_BxC = cotangents
    scale_BxC = (d_losses_BxC + d_log_total_BxC) / total_BxC
    is_target_BxCxV = jnp.arange(exp_BxCxV.shape[-1]) == tokens_BxC[..., None]
    d_target_BxCxV = jnp.where(is_target_BxCxV, d_losses_BxC[..., None], 0.0)
    return exp_BxCxV * scale_BxC[..., None] - d_target_BxCxV, None


_cross_entropy.defvjp(_cross_entropy_forward, _cross_entropy_backward)
