"""The base class of measures: what is computed from a model to say what an insertion did to it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from poison_scaling.config.extensions import extensible
from poison_scaling.evaluate.items import Items

if TYPE_CHECKING:
    from flax import nnx

    from poison_scaling.evaluate.judge import Judge
    from poison_scaling.evaluate.settings import Evaluation


@dataclasses.dataclass(frozen=True)
class NearPrompts:
    """The prompts with a near-trigger in place of the trigger."""

    name: str
    text: str  # of the near-trigger
    tokens_PxT: np.ndarray  # int32
    padding_P: np.ndarray  # int32, tokens of padding on the left


@dataclasses.dataclass(frozen=True)
class Prompts:
    """The prompts of an attack, without and with the trigger, padded on the left.

    They are P held-out excerpts, or P held-out requests of conversations.
    """

    tokens_NxT: np.ndarray  # int32, N = 2P: P clean prompts, then the same P with the trigger
    padding_N: np.ndarray  # int32, tokens of padding on the left
    # int32, the true continuations in the excerpts' documents, or the usual answers to the requests
    continuation_PxC: np.ndarray
    # int32, payloads that are in no poisoned document; None: the attack has none
    payload_PxC: np.ndarray | None
    near: tuple[NearPrompts, ...]
    excerpts: tuple[str, ...]  # text of the clean prompts
    # for each trigger, the held-out documents that were skipped because they contain it
    refused: dict[str, set[int]]
    # P other requests, which the attack must not change: int32 [P, T] and their padding; None: it has none
    ordinary: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def count(self) -> int:
        """P, the number of clean prompts."""
        return len(self.continuation_PxC)


@dataclasses.dataclass(frozen=True)
class Subject:
    """A model at one evaluation, with everything that is needed to measure it."""

    graph: nnx.GraphDef  # structure of the model
    params: dict
    probes: Prompts | Items | None  # what the insertion is measured with; None: nothing
    settings: Evaluation
    attack: str  # name of the attack
    decode: Callable[[Sequence[int]], str]  # from ids to text
    end: int  # end-of-document token
    vocab_size: int
    seed: int  # of sampling, combined with `step`
    step: int  # number of optimizer updates done
    last: bool  # whether this is the last evaluation of the run
    judge: Judge | None = None
    # int64 [D], exposures of each document of the insertion: in the whole run, and so far
    exposures_D: np.ndarray | None = None
    seen_D: np.ndarray | None = None

    @property
    def prompts(self) -> Prompts:
        """The prompts of an attack."""
        assert isinstance(self.probes, Prompts)
        return self.probes

    @property
    def items(self) -> Items:
        """The items of an insertion without a trigger."""
        assert isinstance(self.probes, Items)
        return self.probes

    @property
    def exposures_K(self) -> np.ndarray:
        """The exposures of each item in the whole run, int64 [K]."""
        assert self.exposures_D is not None
        return self.items.of_documents(self.exposures_D)

    @property
    def seen_K(self) -> np.ndarray:
        """The exposures of each item so far, int64 [K]."""
        assert self.seen_D is not None
        return self.items.of_documents(self.seen_D)


@extensible("measure", required=("record",))
@dataclasses.dataclass(frozen=True)
class Measure:
    """Base class of measures. Extend it with a frozen dataclass: docs/howto/measure.md.

    Each insertion has its own measure (`Insertion.measure`); a study may add others (`Evaluation.measures`).
    """

    @property
    def name(self) -> str:
        """The name in records: "payload_rank" for the class PayloadRank."""
        return snake_case(type(self).__name__)

    @property
    def uses_prompts(self) -> bool:
        """Whether it measures with the prompts of an attack, so that a study may add it to its own."""
        return True

    def record(self, subject: Subject) -> dict[str, Any]:
        """Return the record of one evaluation in evals.jsonl, as JSON.

        It must be a function of the subject alone (contract 6). The measure of an attack must include
        "success_rate" and "success_interval".
        """
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Counted(Measure):
    """The measure of insertions of which nothing is measured; their exposures are counted, as always."""

    @property
    def uses_prompts(self) -> bool:
        return False

    def record(self, subject: Subject) -> dict[str, Any]:
        return {"attack": subject.attack}


def snake_case(name: str) -> str:
    """Return the name of a class in snake case: "DenialOfService" -> "denial_of_service"."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
