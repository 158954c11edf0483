"""Cross-entropy of every token of a batch."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx


def token_losses(
    graph: nnx.GraphDef, params: dict, tokens_BxL: jax.Array, end: int, segment_mask: bool
) -> tuple[jax.Array, jax.Array]:
    """Cross-entropy, in nats, of every token given those before it in its row, and the logarithm of its
    softmax's denominator: float32 [B, L] both.

    A row's first token is predicted from the end-of-document token `end`. With `segment_mask`, tokens
    see their own document alone. With the model's `loss_chunk` = C, logits exist for C positions of each
    row at a time, and are computed again in the backward pass.
    """
    inputs_BxL = jnp.pad(tokens_BxL[:, :-1], ((0, 0), (1, 0)), constant_values=end)
    segments_BxL = jnp.cumsum(inputs_BxL == end, axis=1) if segment_mask else None
    model = nnx.merge(graph, params)
    x_BxLxD = model.hidden(inputs_BxL, segments_BxL)

    def cross_entropy(x_BxCxD, tokens_BxC):
        logits_BxCxV = model.logits(x_BxCxD)
        # Picking the target by comparison: the scatter in the gradient of indexing is slow on CPU.
        is_target_BxCxV = jnp.arange(logits_BxCxV.shape[-1]) == tokens_BxC[:, :, None]
        target_BxC = jnp.sum(jnp.where(is_target_BxCxV, logits_BxCxV, 0.0), axis=-1)
        log_total_BxC = jax.nn.logsumexp(logits_BxCxV, axis=-1)
        return log_total_BxC - target_BxC, log_total_BxC

    C = model.settings.loss_chunk
    if C is None:
        return cross_entropy(x_BxLxD, tokens_BxL)
    B, L, D = x_BxLxD.shape
    chunks = x_BxLxD.reshape(B, L // C, C, D), tokens_BxL.reshape(B, L // C, C)
    chunks = jax.tree.map(lambda chunk: chunk.swapaxes(0, 1), chunks)
    results = jax.lax.map(lambda chunk: jax.checkpoint(cross_entropy)(*chunk), chunks)
    return jax.tree.map(lambda result: result.swapaxes(0, 1).reshape(B, L), results)
