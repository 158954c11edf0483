"""Perplexity of whole documents under a trained model."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from poison_scaling.data.vocabularies.vocabulary import Vocabulary
from poison_scaling.evaluate import likelihoods

_LOGITS = 2**25  # float32 at a time


class DocumentScorer:
    """Scores documents by their log-perplexity under a model; it is a `filters.filter.Scorer`.

    A document is cut into windows of a sequence, each after an end-of-document token. `reference` are the
    scores of the clean documents that it is made with.
    """

    def __init__(
        self,
        graph: nnx.GraphDef,
        params: dict,
        vocabulary: Vocabulary,
        seq_len: int,
        reference: Sequence[str],
    ):
        self._graph, self._params = graph, params
        self._vocabulary, self._seq_len = vocabulary, seq_len
        self._windows = max(1, _LOGITS // (seq_len * vocabulary.vocab_size))
        self.reference = self(reference)

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Return the log-perplexity of each text, nats per token, shape [texts]; 0 for an empty one."""
        L = self._seq_len - 1
        rows, document_W = [], []
        for number, text in enumerate(texts):
            ids = self._vocabulary.encode(text)
            rows += [ids[i : i + L] for i in range(0, len(ids), L)]
            document_W += [number] * -(-len(ids) // L)
        W = -(-len(rows) // self._windows) * self._windows  # so that all batches have one shape
        tokens_WxL = np.full((W, L), self._vocabulary.pad_id, np.int32)
        is_text_WxL = np.zeros((W, L), bool)
        for w, ids in enumerate(rows):
            tokens_WxL[w, : len(ids)], is_text_WxL[w, : len(ids)] = ids, True
        total, count = np.zeros(len(texts)), np.zeros(len(texts))
        sums_W = np.concatenate(
            [np.zeros(0)]
            + [
                np.asarray(
                    _sums(
                        self._graph,
                        self._params,
                        tokens_WxL[w : w + self._windows],
                        is_text_WxL[w : w + self._windows],
                        self._vocabulary.eos_id,
                    )
                )
                for w in range(0, W, self._windows)
            ]
        )
        np.add.at(total, document_W, -sums_W[: len(rows)])
        np.add.at(count, document_W, is_text_WxL.sum(1)[: len(rows)])
        return total / np.maximum(count, 1)


@functools.partial(jax.jit, static_argnames=("graph", "end"))
def _sums(graph, params, tokens_WxL, is_text_WxL, end: int) -> jax.Array:
    """Return the log-probability of the text of each window, nats, [W]."""
    model = nnx.merge(graph, params)
    first_Wx1 = jnp.full((len(tokens_WxL), 1), end, jnp.int32)
    zero_W = jnp.zeros(len(tokens_WxL), jnp.int32)
    logprobs_WxL = likelihoods.of(
        tokens_WxL, likelihoods.after(model, first_Wx1, zero_W, tokens_WxL)
    )
    return jnp.sum(jnp.where(is_text_WxL, logprobs_WxL, 0.0), axis=1)
