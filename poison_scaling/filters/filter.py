"""The base class of corpus filters, and the decisions that they make about documents."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import ClassVar, Protocol

import numpy as np

from poison_scaling.config.extensions import extensible


@dataclasses.dataclass(frozen=True)
class Rule:
    """A reason for which a filter removes documents."""

    name: str
    removes: str  # what it removes, with its threshold: "fewer than 50 words"
    source: str  # where that is published, with the section or table


@dataclasses.dataclass(frozen=True)
class Decision:
    """What a filter does with a document."""

    broken: tuple[str, ...]  # names of the rules for which it is removed; empty if it is kept
    text: str  # what the filter leaves of it

    @property
    def is_kept(self) -> bool:
        return not self.broken

    @property
    def removed_by(self) -> str:
        """The name of the filter of a chain that removed the document; "" if the filter was alone."""
        return self.broken[0].rpartition(".")[0] if self.broken else ""


class Scorer(Protocol):
    """A language model that scores documents."""

    reference: np.ndarray  # log-perplexities of clean held-out documents, nats per token

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Return the log-perplexity of each text, nats per token, shape [texts]."""
        ...


# Decides about the next documents of a corpus, in order. That of a filter that remembers is an object, not a
# function, so that copy.deepcopy copies what it remembers.
Judge = Callable[[Sequence[str]], list[Decision]]


@extensible("filter", required=("rules", "judge"))
@dataclasses.dataclass(frozen=True)
class Filter:
    """Base class of corpus filters. Extend it with a frozen dataclass: docs/howto/filter.md.

    Its fields are its thresholds.
    """

    name: ClassVar[str] = ""  # on the command line; "" for the name of the class
    needs_model: ClassVar[bool] = False  # whether it asks a language model of the study
    remembers: ClassVar[bool] = False  # whether a decision depends on the documents before

    def rules(self) -> tuple[Rule, ...]:
        """Return the rules of the filter, each with its threshold and its source."""
        raise NotImplementedError

    def judge(self, scorer: Scorer | None = None) -> Judge:
        """Return a function that decides about the documents of one corpus, in order.

        `scorer` is a clean language model of the study, for filters that need one.
        """
        raise NotImplementedError


def each(decide: Callable[[str], Decision]) -> Judge:
    """Return a judge that decides about each document by itself."""
    return lambda texts: [decide(text) for text in texts]
