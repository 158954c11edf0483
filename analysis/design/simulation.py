"""Simulated studies, whose law is known."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

import numpy as np
from scipy import special

from analysis.design.cells import Cell, Design
from analysis.read.runs import Run, Study, quantity

POISON_TOKENS = 1680  # of a poisoned document, as in Souly et al. 2025


@dataclass(frozen=True)
class Truth:
    """The law and the noise: log N50 = log n50 + a log(t/t0) + g log(N/N0) + noise.

    Attributes:
      a: exponent of the tokens seen; 0 is the count law, 1 the fraction law.
      g: exponent of the parameters.
      n50: exposures for half success at the design's geometric-mean size and tokens.
      slope: of the logistic in log poisons.
      seed_sd: standard deviation of log N50 between seeds, shared by the doses of a seed.
      run_sd: standard deviation of log N50 between runs of one seed.
      tail: degrees of freedom of the t distribution of both.
      correlation: between the outcomes of two prompts of one evaluation (beta-binomial).
      wobble: standard deviation of a slow drift of the logit along a run, with autocorrelation 0.7 between
        evaluations.
      floor: success rate without poison.
      lapse: share of prompts on which the attack never succeeds.
    """

    a: float = 0.0
    g: float = 0.0
    n50: float = 160.0
    slope: float = 4.0
    seed_sd: float = 0.15
    run_sd: float = 0.15
    tail: float = 5.0
    correlation: float = 0.05
    wobble: float = 0.3
    floor: float = 0.01
    lapse: float = 0.02


def simulate(design: Design, truth: Truth, seed: int) -> Study:
    """Return a simulated study; the same arguments give the same study."""
    rng = np.random.default_rng(seed)
    budgets = {(cell.size, cell.tokens) for cell in design.cells}
    several = len({size for size, _ in budgets}) < len(budgets)
    runs = []
    for cell in design.cells:
        positions = rng.random(max(cell.doses))  # smaller doses are subsets of larger ones
        seed_effect = _heavy(rng, truth.tail, truth.seed_sd)
        for dose in cell.doses:
            budget = f"-{quantity(cell.tokens)}" if several else ""
            name = f"{cell.size}{budget}-d{dose}-s{cell.seed}"
            runs.append(_run(rng, design, truth, cell, name, positions[:dose], seed_effect))
    key = json.dumps([asdict(design), asdict(truth), seed], sort_keys=True)
    return Study(
        name="simulated",
        hash=hashlib.sha256(key.encode()).hexdigest()[:16],
        versions={},
        runs=tuple(runs),
    )


def _run(
    rng: np.random.Generator,
    design: Design,
    truth: Truth,
    cell: Cell,
    name: str,
    positions: np.ndarray,
    seed_effect: float,
) -> Run:
    """Return a run whose exposures are at `positions`, shares of training, shape [dose]."""
    log_n0, log_t0 = design.reference
    share = np.arange(1, design.evaluations + 1) / design.evaluations
    seen = (positions[:, None] < share).sum(axis=0).astype(float)
    log_n50 = (
        np.log(truth.n50)
        + truth.a * (np.log(cell.tokens * share) - log_t0)
        + truth.g * (np.log(cell.parameters) - log_n0)
        + seed_effect
        + _heavy(rng, truth.tail, truth.run_sd)
    )
    logit = truth.slope * (np.log(np.maximum(seen, 1e-9)) - log_n50)
    logit += _drift(rng, design.evaluations, truth.wobble)
    rate = truth.floor + (1 - truth.floor - truth.lapse) * special.expit(logit)
    return Run(
        name=name,
        size=cell.size,
        parameters=cell.parameters,
        tokens=cell.tokens,
        dose=float(len(positions)),
        seed=cell.seed,
        seeds=dict.fromkeys(("weights", "order", "poisons"), cell.seed),
        settings={"attack": "denial_of_service", "schedule": "uniform"},
        evaluations={
            "tokens": np.round(cell.tokens * share),
            "poisons": seen,
            "distinct_poisons": seen,
            "poison_tokens": seen * POISON_TOKENS,
            "poisoned_steps": seen,
            "prompts": np.full(len(share), float(design.prompts)),
            "successes": _overdispersed(rng, design.prompts, rate, truth.correlation),
        },
    )


def _heavy(rng: np.random.Generator, tail: float, sd: float) -> float:
    """Draw from a t distribution scaled to standard deviation `sd`."""
    return float(sd * rng.standard_t(tail) * np.sqrt((tail - 2) / tail))


def _drift(rng: np.random.Generator, count: int, sd: float) -> np.ndarray:
    """Draw a stationary first-order autoregression with coefficient 0.7, shape [count]."""
    drift = sd * rng.standard_normal(count)
    for i in range(1, count):
        drift[i] = 0.7 * drift[i - 1] + np.sqrt(1 - 0.7**2) * drift[i]
    return drift


def _overdispersed(
    rng: np.random.Generator, prompts: int, rate: np.ndarray, correlation: float
) -> np.ndarray:
    """Draw beta-binomial counts, shape of `rate`."""
    if correlation == 0:
        return rng.binomial(prompts, rate).astype(float)
    spread = (1 - correlation) / correlation
    return rng.binomial(prompts, rng.beta(rate * spread, (1 - rate) * spread)).astype(float)
