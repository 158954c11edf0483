"""Audit of a study: which of its poisons and of its clean documents pass corpus filters.

A result for each filter and pipeline is written as soon as it is known, to parts/ of the folder, so that an
interrupted audit resumes after the last one, and one with more filters does not repeat the others.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from etils import epath

from analysis import files
from analysis.fit.estimates import as_json, wilson
from poison_scaling.attacks import submission
from poison_scaling.attacks.insertion import Insertion
from poison_scaling.config import serialization
from poison_scaling.data import draws
from poison_scaling.filters import pipelines
from poison_scaling.filters.filter import Decision, Scorer
from poison_scaling.filters.pipelines import Pipeline
from poison_scaling.runtime.errors import Damaged, InputError
from poison_scaling.study.inputs import Inputs
from poison_scaling.study.settings import Study

_CHUNK = 256  # documents that pass the filters at a time
_EXAMPLES, _CHARACTERS = 3, 300  # for each rule, and of each

# Called with the number of the chain, its name, and the documents done so far.
Progress = Callable[[int, str, int], None]


@dataclasses.dataclass(frozen=True)
class Submitted:
    """A poisoned document as an attacker would submit it."""

    attack: int  # number in Study.attacks
    seed: int
    level: int  # number of stages before the one it is for
    poison: int  # index of the document within the attack
    document: str  # SHA-256 of its token ids, as in manifest.jsonl
    text: str


@dataclasses.dataclass(frozen=True)
class Audit:
    """What is to be filtered, and by what."""

    study: Study
    inputs: Inputs
    chains: tuple[tuple[str, Pipeline], ...]  # "filter" or "pipeline", and its filters
    documents: int  # of the clean sample
    scorer: Scorer | None = None  # for filters that ask a model
    model: str = ""  # the name and hash of the run of the scorer

    def run(self, out: epath.Path, progress: Progress) -> dict[str, Any]:
        """Pass all documents through every chain; write audit.json and poisons.jsonl, and return the former.

        Raises InputError if there is no poison.
        """
        poisons = submitted(self.inputs)
        if not poisons:
            raise InputError("doses: no run has poisons, so there is nothing to audit.")
        parts = [
            self._part(out, number, kind, pipeline, poisons, progress)
            for number, (kind, pipeline) in enumerate(self.chains)
        ]
        passed = [f"{part['kind']} {part['name']}" for part in parts]
        lines = []
        for number, poison in enumerate(poisons):
            record = {k: v for k, v in vars(poison).items() if k != "text"}
            survives = [
                n for n, part in zip(passed, parts, strict=True) if part["kept"][number] == "1"
            ]
            lines.append(files.json_line({**record, "survives": survives}))
        files.write_text(out / "poisons.jsonl", "".join(lines))
        fields = list(self.study.attacks().items())
        record = {
            "study": self.study.name,
            "hash": self.study.hash,
            "model": self.model,
            "clean": {"documents": self._sampled, "of": self.inputs.documents.training_size},
            "attacks": [
                {
                    "field": fields[number][0],
                    "kind": fields[number][1].name,
                    "trigger": fields[number][1].trigger,
                    "stages": _stages(self.study, fields[number][1]),
                    "poisons": sum(poison.attack == number for poison in poisons),
                }
                for number in sorted({poison.attack for poison in poisons})
            ],
            "chains": [
                {k: v for k, v in part.items() if k not in ("key", "kept")} for part in parts
            ],
        }
        files.write_json(out / "audit.json", record)
        return record

    @property
    def _sampled(self) -> int:
        return min(self.documents, self.inputs.documents.training_size)

    def _clean(self) -> Iterator[list[str]]:
        """Yield the clean sample in chunks: training documents, drawn without the randomness of any run."""
        docs = self.inputs.documents
        order = draws.Permutation(docs.training_size, draws.key("audit"))
        for first in range(0, self._sampled, _CHUNK):
            last = min(first + _CHUNK, self._sampled)
            yield docs.training(order(np.arange(first, last)).tolist())

    def _part(
        self,
        out: epath.Path,
        number: int,
        kind: str,
        pipeline: Pipeline,
        poisons: Sequence[Submitted],
        progress: Progress,
    ) -> dict[str, Any]:
        """Return the result of a chain, from its file if it is there."""
        file = out / "parts" / f"{kind}-{pipeline.name}.json"
        key = self._key(pipeline, poisons)
        if file.exists():
            try:
                found = files.read_json(file, sealed=True)
            except Damaged:
                found = {}
            if found.get("key") == key:
                progress(number, pipeline.name, self._sampled + len(poisons))
                return found
        part = {"key": key, **self._filtered(number, kind, pipeline, poisons, progress)}
        files.write_json(file, part)
        return part

    def _key(self, pipeline: Pipeline, poisons: Sequence[Submitted]) -> str:
        """Return a hash of everything that the result of a chain depends on."""
        digest = hashlib.sha256()
        for poison in poisons:
            digest.update(f"{poison.attack} {poison.text}".encode("utf-8", "replace"))
        model = self.model if any(each.needs_model for each in pipeline.filters) else ""
        filters = serialization.to_json(pipeline.filters)
        about = (self.inputs.documents.key, self.study.data.heldout_documents)
        return serialization.stable_hash([filters, about, self._sampled, digest.hexdigest(), model])

    def _filtered(
        self,
        number: int,
        kind: str,
        pipeline: Pipeline,
        poisons: Sequence[Submitted],
        progress: Progress,
    ) -> dict[str, Any]:
        judge = pipelines.chain(pipeline.filters, self.scorer)
        clean, done = Tally(), 0
        for chunk in self._clean():
            for text, decision in zip(chunk, judge(chunk), strict=True):
                clean.add(text, decision)
            progress(number, pipeline.name, done := done + len(chunk))
        attacks = list(self.study.attacks().items())
        caught, kept = {n: Tally() for n in sorted({p.attack for p in poisons})}, []
        # Poisons come last, as what is submitted to a corpus that exists; each attack and seed has its own.
        for _, own in itertools.groupby(poisons, lambda p: (p.attack, p.seed, p.level)):
            group = list(own)
            trigger = attacks[group[0].attack][1].trigger
            texts = [poison.text for poison in group]
            decisions = submission.judged(texts, trigger, copy.deepcopy(judge))
            for poison, decision in zip(group, decisions, strict=True):
                caught[poison.attack].add(poison.text, decision)
                kept.append("01"[decision.is_kept])
            progress(number, pipeline.name, done := done + len(group))
        names = [pipelines.name_of(each) for each in pipeline.filters]
        rules = [
            {**vars(rule), "name": f"{name}.{rule.name}"}
            for name, each in zip(names, pipeline.filters, strict=True)
            for rule in each.rules()
        ]
        return {
            "name": pipeline.name,
            "kind": kind,
            "about": pipeline.about,
            "filters": names,
            "rules": [*rules, vars(submission.DISARMED)],
            "clean": clean.record(),
            "attacks": {attacks[n][0]: tally.record() for n, tally in caught.items()},
            "kept": "".join(kept),
        }


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


def _stages(study: Study, attack: Insertion) -> list[str]:
    """Return the labels of the stages that use an attack."""
    stages = study.named_stages().values()
    return sorted({stage.name for stage in stages if (stage.attack or study.attack) == attack})


def submitted(inputs: Inputs) -> list[Submitted]:
    """Return the distinct poisons of each attack, seed and stage as text."""
    found: dict[tuple[int, int, int], list] = {}
    for run in inputs.runs():
        for number, poisons in zip(inputs.numbers(run), inputs.poisons(run), strict=True):
            own = found.setdefault((number, run.seeds.poisons, run.level), [])
            if len(poisons) > len(own):
                own[:] = poisons
    return [
        Submitted(number, seed, level, p.number, p.digest, submission.text(p, inputs.vocabulary))
        for (number, seed, level), poisons in sorted(found.items())
        for p in poisons
    ]
