"""Perplexity under a clean language model of the study."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated, ClassVar

import numpy as np

from poison_scaling.config.ranges import Above, AtMost
from poison_scaling.filters.filter import Decision, Filter, Judge, Rule, Scorer
from poison_scaling.runtime.errors import InputError


@dataclasses.dataclass(frozen=True)
class Perplexity(Filter):
    """Removes documents that surprise a clean model more than most held-out documents do.

    CCNet cuts the perplexity of a KenLM model of Wikipedia into thirds; here the model is the study's own
    control, and the cut is a share of held-out documents of the same corpus.
    """

    name: ClassVar[str] = "ppl"
    needs_model: ClassVar[bool] = True

    share: Annotated[float, Above(0), AtMost(1)] = 0.05  # of clean documents to remove

    def rules(self) -> tuple[Rule, ...]:
        removes = f"perplexity above that of {1 - self.share:.0%} of held-out documents"
        return (Rule("perplexity", removes, "after Wenzek et al. 2020 (CCNet), section 3.2"),)

    def judge(self, scorer: Scorer | None = None) -> Judge:
        if scorer is None:
            raise InputError(
                "filter ppl: it needs a clean model; audit a study with a trained control."
            )
        highest = float(np.quantile(scorer.reference, 1 - self.share))

        def judged(texts: Sequence[str]) -> list[Decision]:
            return [
                Decision(("perplexity",) if score > highest else (), text)
                for score, text in zip(scorer(texts), texts, strict=True)
            ]

        return judged
