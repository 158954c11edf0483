"""Judges: models that score the generations of another model.

Zhang et al. 2024 (arXiv 2410.13722) use the perplexity of another model, because a poisoned model may find
its own gibberish plausible. The built-in judge is the paired control at the end of training.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from flax import nnx

from poison_scaling.evaluate import likelihoods
from poison_scaling.runtime import watchdog


@dataclasses.dataclass(frozen=True)
class Judge:
    """The model of the run `name`, which must share the vocabulary of the models that it judges."""

    name: str
    graph: nnx.GraphDef
    params: dict

    def logprobs(
        self, prompts_PxT: np.ndarray, padding_P: np.ndarray, generations_NxG: np.ndarray
    ) -> np.ndarray:
        """Return log-probabilities [N, G], nats, of N generations; generation n follows prompt n modulo P."""
        copies = len(generations_NxG) // len(prompts_PxT)
        prompts_NxT = np.concatenate([prompts_PxT] * copies)
        padding_N = np.concatenate([padding_P] * copies)
        args = (self.graph, self.params, prompts_NxT, padding_N, generations_NxG)
        logprobs_NxG = np.asarray(likelihoods.generations(*args))
        watchdog.progress()
        return logprobs_NxG
