"""One chain of an audit, a filter or a pipeline: what it does with poisons and with clean documents.

A chain is computed in one process, so its result does not depend on how many are computed at once.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from etils import epath

from analysis import files
from analysis.fit.estimates import as_json, wilson
from poison_scaling.attacks import submission
from poison_scaling.data import draws
from poison_scaling.data.documents import Documents
from poison_scaling.filters import pipelines
from poison_scaling.filters.filter import Decision, Scorer
from poison_scaling.filters.pipelines import Pipeline
from poison_scaling.runtime.errors import Damaged

_CHUNK = 256  # documents that pass the filters at a time
_EXAMPLES, _CHARACTERS = 3, 300  # for each rule, and of each


@dataclasses.dataclass(frozen=True)
class Submitted:
    """A poisoned document as an attacker would submit it."""

    attack: int  # number in Study.attacks
    seed: int
    level: int  # number of stages before the one it is for
    poison: int  # index of the document within the attack, in the first run that has it
    document: str  # SHA-256 of its token ids, as in manifest.jsonl
    text: str


@dataclasses.dataclass(frozen=True)
class AuditedChain:
    """A chain, what passes it, and the file of the result; other processes can compute it."""

    file: epath.Path
    key: str  # a hash of everything that the result depends on
    kind: str  # "filter" or "pipeline"
    pipeline: Pipeline
    clean: Documents
    sampled: int  # clean documents
    poisons: tuple[Submitted, ...]
    attacks: tuple[tuple[str, str | None], ...]  # the field and the trigger of each

    @property
    def documents(self) -> int:
        """The number of documents, clean and poisoned."""
        return self.sampled + len(self.poisons)

    @property
    def needs_model(self) -> bool:
        return any(each.needs_model for each in self.pipeline.filters)

    def known(self) -> dict[str, Any] | None:
        """Return the result from its file; None if there is none, or one of something else."""
        try:
            found = files.read_json(self.file, sealed=True) if self.file.exists() else {}
        except Damaged:
            return None
        return found if found.get("key") == self.key else None

    def compute(
        self, scorer: Scorer | None = None, progress: Callable[[int], None] = lambda done: None
    ) -> dict[str, Any]:
        """Write the result and return it. `progress` is called with the number of documents done."""
        judge = pipelines.chain(self.pipeline.filters, scorer)
        clean, done = Tally(), 0
        for chunk in self._clean_chunks():
            for text, decision in zip(chunk, judge(chunk), strict=True):
                clean.add(text, decision)
            progress(done := done + len(chunk))
        caught, kept = {n: Tally() for n in sorted({p.attack for p in self.poisons})}, []
        # Poisons come last, as what is submitted to a corpus that exists; each attack and seed has its own.
        for _, own in itertools.groupby(self.poisons, lambda p: (p.attack, p.seed, p.level)):
            group = list(own)
            trigger = self.attacks[group[0].attack][1]
            texts = [poison.text for poison in group]
            decisions = submission.judged(texts, trigger, copy.deepcopy(judge))
            for poison, decision in zip(group, decisions, strict=True):
                caught[poison.attack].add(poison.text, decision)
                kept.append("01"[decision.is_kept])
            progress(done := done + len(group))
        names = [pipelines.name_of(each) for each in self.pipeline.filters]
        rules = [
            {**vars(rule), "name": f"{name}.{rule.name}"}
            for name, each in zip(names, self.pipeline.filters, strict=True)
            for rule in each.rules()
        ]
        result = {
            "key": self.key,
            "name": self.pipeline.name,
            "kind": self.kind,
            "about": self.pipeline.about,
            "filters": names,
            "rules": [*rules, vars(submission.DISARMED)],
            "clean": clean.record(),
            "attacks": {self.attacks[n][0]: tally.record() for n, tally in caught.items()},
            "kept": "".join(kept),
        }
        files.write_json(self.file, result)
        return result

    def _clean_chunks(self) -> Iterator[list[str]]:
        """Yield the clean sample in chunks: training documents, drawn without the randomness of any run."""
        order = draws.Permutation(self.clean.training_size, draws.key("audit"))
        for first in range(0, self.sampled, _CHUNK):
            last = min(first + _CHUNK, self.sampled)
            yield self.clean.training(order(np.arange(first, last)).tolist())


def compute(chain: AuditedChain) -> dict[str, Any]:
    """Write the result of a chain that asks no model, in a process of its own, and return it."""
    return chain.compute()


class Tally:
    """Counts of the documents that a chain removes, with the rules that they break and examples."""

    def __init__(self):
        self.documents = self.removed = 0
        self.filters: Counter[str] = Counter()
        self.rules: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}

    def add(self, text: str, decision: Decision) -> None:
        self.documents += 1
        self.removed += not decision.is_kept
        if decision.broken:  # by one filter, for one or several of its rules
            self.filters[decision.removed_by or submission.DISARMED.name] += 1
        for rule in decision.broken or ("",):  # "": none, it is kept
            self.rules[rule] += 1
            some = self.examples.setdefault(rule, [])
            if len(some) < _EXAMPLES:
                some.append(text[:_CHARACTERS])

    def record(self) -> dict[str, Any]:
        """Return the counts as JSON; a document may break several rules."""
        kept, rules = self.examples.get("", []), dict(self.rules.most_common())
        rules.pop("", None)
        return {
            "documents": self.documents,
            "removed": self.removed,
            "share": as_json(wilson(self.removed, self.documents)),
            "filters": dict(self.filters),
            "rules": rules,
            "examples": {rule: self.examples[rule] for rule in rules},
            "examples_kept": kept,
        }
