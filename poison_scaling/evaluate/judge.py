"""A judge: another model that says how likely it finds what a model has written.

Zhang et al. 2024 (arXiv 2410.13722) judge by another model's perplexity: one that does not find its own
gibberish plausible. Here the judge is, unless another is named, the paired control run at its end.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from flax import nnx

from poison_scaling.evaluate import likelihoods


@dataclasses.dataclass(frozen=True)
class Judge:
    """`name` of its run, and the model; it must have the vocabulary of those that it judges."""

    name: str
    graph: nnx.GraphDef
    params: dict

    def logprobs(
        self, prompts_PxT: np.ndarray, padding_P: np.ndarray, responses_NxG: np.ndarray
    ) -> np.ndarray:
        """Log-probabilities [N, G], nats, of N responses, response n after prompt n modulo P."""
        copies = len(responses_NxG) // len(prompts_PxT)
        prompts_NxT = np.concatenate([prompts_PxT] * copies)
        padding_N = np.concatenate([padding_P] * copies)
        args = (self.graph, self.params, prompts_NxT, padding_N, responses_NxG)
        return np.asarray(likelihoods.responses(*args))
