"""A judge: another model that says how likely it finds what a model has generated.

Zhang et al. 2024 (arXiv 2410.13722) judge by another model's perplexity, because a poisoned model may find
its own gibberish plausible. The default judge is the paired control at its end.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from flax import nnx

from poison_scaling.evaluate import likelihoods


@dataclasses.dataclass(frozen=True)
class Judge:
    """The name of a run and its model, which must have the vocabulary of the models that it judges."""

    name: str
    graph: nnx.GraphDef
    params: dict

    def logprobs(
        self, prompts_PxT: np.ndarray, padding_P: np.ndarray, generations_NxG: np.ndarray
    ) -> np.ndarray:
        """Return log-probabilities [N, G], nats, of N generations; number n is after prompt n modulo P."""
        copies = len(generations_NxG) // len(prompts_PxT)
        prompts_NxT = np.concatenate([prompts_PxT] * copies)
        padding_N = np.concatenate([padding_P] * copies)
        args = (self.graph, self.params, prompts_NxT, padding_N, generations_NxG)
        return np.asarray(likelihoods.generations(*args))
