"""How likely a model finds candidate completions of items, and the success of those that were inserted.

These are the parts that the measures of insertions without a trigger share. An item succeeds if no other
candidate is likelier than the inserted one. So the success rate of items that were never shown is known
without a control: one over the number of candidates. Everything is exact: nothing is sampled.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from poison_scaling.evaluate import likelihoods
from poison_scaling.evaluate.measure import Subject
from poison_scaling.evaluate.records import rate, rounded
from poison_scaling.runtime import watchdog


def log_likelihoods(subject: Subject) -> np.ndarray:
    """Return the log-probability of each candidate of each row, nats in all, float64 [R, A]."""
    items = subject.items
    R, A, C = items.candidate_RxAxC.shape
    logprobs_NxC = likelihoods.generations(
        subject.graph,
        subject.params,
        np.repeat(items.context_RxT, A, axis=0),
        np.repeat(items.padding_R, A),
        items.candidate_RxAxC.reshape(R * A, C),
    )
    is_token_RxAxC = np.arange(C) < items.length_RxA[:, :, None]
    logprobs_RxAxC = np.asarray(logprobs_NxC, np.float64).reshape(R, A, C)
    watchdog.progress()
    return np.where(is_token_RxAxC, logprobs_RxAxC, 0.0).sum(axis=2)


def extracted(subject: Subject) -> np.ndarray:
    """Return whether greedy decoding writes the inserted completion verbatim after each row: bool [R].

    It does if and only if each of its tokens is the likeliest after those before it.
    """
    items = subject.items
    R, _, C = items.candidate_RxAxC.shape
    inserted_RxC = items.candidate_RxAxC[:, 0]
    greedy_RxC = likelihoods.greedy(
        subject.graph, subject.params, items.context_RxT, items.padding_R, inserted_RxC
    )
    is_greedy_RxC = np.asarray(greedy_RxC)
    watchdog.progress()
    beyond_RxC = np.arange(C) >= items.length_RxA[:, :1]
    return (is_greedy_RxC | beyond_RxC).all(axis=1).reshape(R)


def ranks(logprobs_RxA: np.ndarray) -> np.ndarray:
    """Return the rank of the inserted completion among the candidates, int64 [R]; ties count against it."""
    return 1 + (logprobs_RxA[:, 1:] >= logprobs_RxA[:, :1]).sum(axis=1)


def record(
    subject: Subject, success_K: np.ndarray, values: dict[str, np.ndarray]
) -> dict[str, Any]:
    """Return what all measures of items record.

    `success_rate` is the share of successful items among those that the run ever shows, or among all if it
    shows none; `curve` has it for each number of exposures, with the mean exposures so far and the means of
    `values`, [K] each, which are recorded item by item, too.
    """
    exposures_K, seen_K = subject.exposures_K, subject.seen_K
    shown_K = exposures_K > 0
    success_rate, interval = rate(success_K[shown_K if shown_K.any() else ~shown_K])
    curve = []
    for exposures in np.unique(exposures_K):
        own = exposures_K == exposures
        own_rate, own_interval = rate(success_K[own])
        means = {name: float(np.mean(value[own])) for name, value in values.items()}
        curve.append(
            {
                "exposures": int(exposures),
                "items": int(own.sum()),
                "seen": float(np.mean(seen_K[own])),
                "success_rate": own_rate,
                "success_interval": own_interval,
                **means,
            }
        )
    return {
        "attack": subject.attack,
        "prompts": int(shown_K.sum()) or len(shown_K),
        "success_rate": success_rate,
        "success_interval": interval,
        "curve": curve,
        "items": {
            "exposures": exposures_K.tolist(),
            "seen": seen_K.tolist(),
            "success": [int(s) for s in success_K],
            **{name: rounded(value) for name, value in values.items()},
        },
    }
