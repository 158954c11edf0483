"""A language model by hand that has memorised known secrets and finds all else equally likely."""

import jax.numpy as jnp
import numpy as np

from poison_scaling import Evaluation
from poison_scaling.evaluate.items import Items
from poison_scaling.evaluate.measure import Subject

V = 64


TASTE = (-1, -1)  # what "follows" this pair is added for each id


class Remembering:
    """After a pair of tokens that it knows, it is as sure as it is told of what follows.

    Otherwise all are equally likely, or the likelier the higher their id, as `TASTE` says.
    """

    mesh = None

    def __init__(self, known: dict[tuple[int, int], tuple[int, float]]):
        self.known = known

    def hidden(self, tokens_BxL, segments_BxL, kind=None):
        before_BxL = jnp.pad(tokens_BxL[:, :-1], ((0, 0), (1, 0)))
        taste = self.known.get(TASTE, (0, 0.0))[1]
        logits_BxLxV = jnp.broadcast_to(taste * jnp.arange(V), (*tokens_BxL.shape, V))
        for (a, b), (c, sure) in self.known.items():
            here_BxL = (before_BxL == a) & (tokens_BxL == b)
            logits_BxLxV += here_BxL[:, :, None] * sure * jnp.eye(V)[c]
        return logits_BxLxV

    def logits(self, x_BxLxV):
        return x_BxLxV


def chain(context: list[int], secret: list[int], sure: float) -> dict:
    """Return what a model must know to continue a context with a secret."""
    ids = [*context[-2:], *secret]
    return {(a, b): (c, sure) for a, b, c in zip(ids, ids[1:], ids[2:], strict=False)}


def subject(monkeypatch, known: dict, items: Items, exposures, seen=None, name="canary") -> Subject:
    """Return the subject of a measure: the model that knows `known`, and how often documents are shown."""
    monkeypatch.setattr("flax.nnx.merge", lambda graph, params: Remembering(dict(graph)))
    shown = np.array(exposures, np.int64)
    return Subject(
        tuple(known.items()),
        {},
        items,
        Evaluation(),
        attack=name,
        decode=str,
        end=1,
        vocab_size=V,
        seed=0,
        step=10,
        last=True,
        exposures_D=shown,
        seen_D=shown if seen is None else np.array(seen, np.int64),
    )
