"""Audit of a study: which of its poisons and of its clean documents pass corpus filters.

A result for each filter and pipeline is written as soon as it is known, to parts/ of the folder, so that an
interrupted audit resumes after the last one, and one with more filters does not repeat the others.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from etils import epath

from analysis import files
from poison_scaling.attacks import submission
from poison_scaling.attacks.insertion import Insertion
from poison_scaling.config import serialization
from poison_scaling.data.poison import Poison
from poison_scaling.filters.filter import Scorer
from poison_scaling.filters.pipelines import Pipeline
from poison_scaling.runtime import workers
from poison_scaling.runtime.errors import InputError
from poison_scaling.study.inputs import Inputs
from poison_scaling.study.settings import Study
from poison_scaling.workdir import audit_chain
from poison_scaling.workdir.audit_chain import AuditedChain, Submitted

# Documents times chains from which on processes save more than the seconds that they take to start.
_MANY = 20_000

# Called with the number of the chain, its name, and the documents done so far.
Progress = Callable[[int, str, int], None]


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
        parts = list(self._results(self._chained(out, tuple(poisons)), progress))
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

    def _chained(self, out: epath.Path, poisons: tuple[Submitted, ...]) -> list[AuditedChain]:
        attacks = tuple((field, own.trigger) for field, own in self.study.attacks().items())
        return [
            AuditedChain(
                file=out / "parts" / f"{kind}-{pipeline.name}.json",
                key=self._key(pipeline, poisons),
                kind=kind,
                pipeline=pipeline,
                clean=self.inputs.documents,
                sampled=self._sampled,
                poisons=poisons,
                attacks=attacks,
            )
            for kind, pipeline in self.chains
        ]

    def _results(
        self, chains: Sequence[AuditedChain], progress: Progress
    ) -> Iterator[dict[str, Any]]:
        """Yield the result of each chain, from its file if it is there.

        With many documents, chains that ask no model share the cores, one each at a time.
        """
        known = [chain.known() for chain in chains]
        left = [
            chain
            for chain, result in zip(chains, known, strict=True)
            if result is None and not chain.needs_model
        ]
        shares = workers.cores() > 1 and sum(chain.documents for chain in left) >= _MANY
        shared = workers.each(audit_chain.compute, [(chain,) for chain in left] if shares else [])
        for number, (chain, result) in enumerate(zip(chains, known, strict=True)):
            name = chain.pipeline.name
            if result is None and shares and not chain.needs_model:
                result = next(shared)
            elif result is None:
                told = functools.partial(progress, number, name)
                result = chain.compute(self.scorer, told)
            progress(number, name, chain.documents)
            yield result

    def _key(self, pipeline: Pipeline, poisons: Sequence[Submitted]) -> str:
        """Return a hash of everything that the result of a chain depends on."""
        digest = hashlib.sha256()
        for poison in poisons:
            group = (poison.attack, poison.seed, poison.level)
            digest.update(repr((group, poison.text)).encode("utf-8", "replace"))
        model = self.model if any(each.needs_model for each in pipeline.filters) else ""
        filters = serialization.to_json(pipeline.filters)
        about = (self.inputs.documents.key, self.study.data.heldout_documents)
        return serialization.stable_hash([filters, about, self._sampled, digest.hexdigest(), model])


def _stages(study: Study, attack: Insertion) -> list[str]:
    """Return the labels of the stages that use an attack."""
    stages = study.named_stages().values()
    return sorted({stage.name for stage in stages if (stage.attack or study.attack) == attack})


def submitted(inputs: Inputs) -> list[Submitted]:
    """Return the distinct poisons of each attack, seed and stage as text.

    They are those of all its runs, because counterexamples also depend on the run that they follow, and
    stages of one level may have text of their own. Documents that are shown 0 times are in no training data.
    """
    found: dict[tuple[int, int, int], dict[str, Poison]] = {}
    for run in inputs.runs():
        written = zip(inputs.numbers(run), inputs.poisons(run), run.poisonings, strict=True)
        for number, poisons, poisoning in written:
            own = found.setdefault((number, run.seeds.poisons, run.level), {})
            for poison, exposures in zip(poisons, poisoning.exposures_D, strict=True):
                if exposures:
                    own.setdefault(poison.digest, poison)
    return [
        Submitted(number, seed, level, p.number, p.digest, submission.text(p, inputs.vocabulary))
        for (number, seed, level), own in sorted(found.items())
        for p in own.values()
    ]
