"""All that the runs of a study read: documents, vocabulary, rows, poisons, prompts."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import seqio
import tensorflow as tf

from poison_scaling.config import Corpus, Data, Study
from poison_scaling.data import (
    clean_triggers,
    denial_of_service,  # noqa: F401 - it registers its attack
    documents,
    language_switch,  # noqa: F401
    near_triggers,
    poisons,
    rows,
    vocabularies,
)
from poison_scaling.data.stream import Stream
from poison_scaling.errors import InputError
from poison_scaling.runs import Run

tf.config.set_visible_devices([], "GPU")  # TensorFlow reads data; accelerators are JAX's
tf.config.set_visible_devices([], "TPU")


class Prepared:
    """The prepared data of a study. Making it fills the cache; it takes minutes once, then seconds."""

    def __init__(self, study: Study, progress=lambda description, done: None):
        data = study.data
        self._study = study
        self.documents = documents.prepare(data, progress)
        self.corpora = [
            {
                field: _corpus(data, f"{_called(number)}.{field}", corpus, progress)
                for field, corpus in poisoning.attack.corpora.items()
            }
            for number, poisoning in enumerate(study.poisonings(0))
        ]
        others = [docs for corpora in self.corpora for docs in corpora.values()]
        self.vocabulary: seqio.Vocabulary = vocabularies.prepare(
            data, study.attack.trigger, self.documents, progress, others
        )
        self.training = rows.prepare(data, self.documents, self.vocabulary, "training", progress)
        self.heldout = rows.prepare(data, self.documents, self.vocabulary, "heldout", progress)
        wanted = study.evaluation.heldout_rows
        if len(self.heldout) < wanted:
            raise InputError(
                f"evaluation.heldout_rows={wanted}: the held-out documents fill {len(self.heldout)} rows; "
                "raise data.heldout_documents or ask for fewer."
            )
        self.heldout_NxL = self.heldout.read(np.arange(wanted))
        self.end: int = self.vocabulary.eos_id
        fields = {
            poisoning.attack.trigger: f"{_called(number)}.trigger"
            for number, poisoning in enumerate(study.poisonings(0))
        }
        self._triggers = [
            clean_triggers.Trigger(text, self.vocabulary, field) for text, field in fields.items()
        ]
        self._places = {
            trigger.text: clean_triggers.prepare(trigger, self.training, progress)
            for trigger in self._triggers
        }

    @functools.cached_property
    def prompts(self) -> list[dict]:
        """What each attack is measured by.

        "tokens" int32 [2P, T] and "padding" int32 [2P] on the left: P clean prompts, then the same P with the
        trigger; "continuation" int32 [P, C]: how their documents go on; "payload" int32 [P, C]: such as the
        attack has behind its trigger, and in no poison, or None where it does not say; "near": for each
        near-trigger its "name", "text", "tokens" int32 [P, T'] and "padding" int32 [P]; "refused": for each
        trigger the held-out documents that are no prompts because they hold it.
        """
        return [self._prompts(number) for number in range(len(self._study.poisonings(0)))]

    def _prompts(self, number: int) -> dict:
        study = self._study
        attack, sources = study.poisonings(0)[number].attack, self._sources(number, seed=0)
        p = poisons.prompts(attack, study.evaluation, sources, self._triggers)
        settings = study.evaluation
        near = []
        if settings.near_triggers.when != "never":
            near = near_triggers.prompts(
                attack.trigger, settings.near_triggers, p.excerpts, self.vocabulary, self.training
            )
        longest = max(shown.shape[1] for shown in (p.clean_PxT, *(n["tokens"] for n in near)))
        length = longest + max(settings.generate_tokens, settings.continuation_tokens)
        if length > study.data.row_tokens:
            raise InputError(
                f"evaluation: prompt, trigger and response take {length} tokens, and a row "
                f"data.row_tokens={study.data.row_tokens}; shorten prompt_tokens or generate_tokens."
            )
        return {
            "tokens": np.concatenate([p.clean_PxT, p.triggered_PxT]),
            "padding": np.concatenate([p.clean_padding_P, p.triggered_padding_P]),
            "continuation": p.continuation_PxC,
            "payload": p.payload_PxC,
            "near": near,
            "refused": p.refused,
        }

    def specimens(self, number: int) -> tuple[list[str], list[str]]:
        """Held-out text of the length of a response, one for each prompt where there is enough: clean text,
        and such as attack `number` has behind its trigger (none where it does not say).
        """
        settings = self._study.evaluation
        long = dataclasses.replace(settings, continuation_tokens=settings.generate_tokens)
        attack, sources = self._study.poisonings(0)[number].attack, self._sources(number, seed=0)
        p = poisons.prompts(attack, long, sources, self._triggers, least=1)
        payload = [] if p.payload_PxC is None else p.payload_PxC
        return tuple(
            [self.vocabulary.decode(ids.tolist()) for ids in texts]
            for texts in (p.continuation_PxC, payload)
        )

    def _sources(self, number: int, seed: int) -> poisons.Sources:
        """What attack `number` writes from."""
        return poisons.Sources(seed, number, self.documents, self.vocabulary, self.corpora[number])

    @functools.cache  # noqa: B019 - one object a process, and its lists are shared by runs
    def _poisons(self, seed: int) -> list[list[poisons.Poison]]:
        """Those of each attack, the first with its largest dose; a smaller one takes the first."""
        poisonings = self._study.poisonings(max(self._study.doses))
        return [
            poisons.build(p.attack, self._sources(number, seed), p.dose)
            for number, p in enumerate(poisonings)
        ]

    def stream(self, run: Run) -> Stream:
        """What the run trains on. Raises InputError when its poisons or its length do not fit."""
        shown = [
            built[: poisoning.dose]
            for built, poisoning in zip(
                self._poisons(run.seeds.poisons), run.poisonings, strict=True
            )
        ]
        lengths = [np.array([p.tokens.size for p in built], np.int64) for built in shown]
        epochs = run.study.data.epochs
        placed = run.placement(lengths)
        return Stream(self.training, run.seeds.order, run.rows, epochs, shown, placed)

    def digests(self) -> dict[str, str]:
        """What names the content of the data: recorded with a study, compared by `verify`."""
        return {
            "training rows": self.training.digest,
            "heldout rows": self.heldout.digest,
        }

    def plan(self, run: Run) -> dict:
        """The run's plan with its exact number of poison tokens, and "clean_triggers": how often it meets the
        trigger in clean text.

        Raises InputError where that is above data.maximum_clean_triggers.
        """
        stream = self.stream(run)
        plan, most = run.plan(stream.placement), run.study.data.maximum_clean_triggers
        for entry, poisoning in zip((plan, *plan["also"]), run.poisonings, strict=True):
            trigger = poisoning.attack.trigger
            met = sum(stream.count(spans) for spans in self._places[trigger])
            if most is not None and met > most:
                raise InputError(
                    f"data.maximum_clean_triggers={most}: {run.name} meets the trigger {trigger!r} {met} "
                    "times in clean text; choose another trigger, leave documents with it out of "
                    "data.corpus, or raise the limit."
                )
            entry["clean_triggers"] = met
        return plan

    def clean_triggers(self) -> dict[str, dict[str, int]]:
        """Where clean text holds each trigger: "training_occurrences", with those that no row holds whole;
        "training_rows" that hold one whole; "heldout_rows", of those that measure the held-out loss; and
        "prompts_refused", held-out documents that are no prompts for it.
        """
        L, counts = self.training.row_tokens, {}
        for trigger in self._triggers:
            held = clean_triggers.within_rows(trigger.find(self.heldout_NxL.reshape(-1)), L)
            refused = (shown["refused"][trigger.text] for shown in self.prompts)
            counts[trigger.text] = {
                "training_occurrences": len(self._places[trigger.text]),
                "training_rows": self._places[trigger.text].rows(L, len(self.training)),
                "heldout_rows": np.unique(held[:, 0] // L).size,
                "prompts_refused": len(set().union(*refused)),
            }
        return counts

    def warnings(self, plans: list[dict]) -> list[str]:
        """A sentence for each attack whose trigger clean text holds; `plans` are those of all runs."""
        counts, found = self.clean_triggers(), []
        for number, poisoning in enumerate(self._study.poisonings(0)):
            trigger = poisoning.attack.trigger
            found.append(clean_triggers.warning(trigger, counts[trigger], plans, number))
        return [sentence for sentence in found if sentence]


def _called(attack: int) -> str:
    """What attack number `attack` is called in a study."""
    return f"also.{attack - 1}.attack" if attack else "attack"


def _corpus(data: Data, name: str, corpus: Corpus, progress) -> documents.Documents:
    """The documents of an attack's own corpus, split like the study's; `name` is what it is called."""
    try:
        return documents.prepare(dataclasses.replace(data, corpus=corpus), progress)
    except InputError as e:
        said = str(e).replace("data.corpus", name)
        raise InputError(said if name in said else f"{name}: {said}") from e


def manifest(stream: Stream, batch_rows: int) -> list[dict]:
    """One record a showing: which document of which attack, for the how manieth time, the SHA-256 of its
    token ids, its length, where it stands, and the SHA-256 of the clean documents that it is made of, where
    its attack tells.
    """
    placed = stream.placement
    exposure: dict[tuple[int, int], int] = {}
    records = []
    for showing in range(placed.showings):
        attack, number = int(placed.attacks_N[showing]), int(placed.documents_N[showing])
        exposure[attack, number] = exposure.get((attack, number), -1) + 1
        row = int(placed.rows_N[showing])
        poison = stream.poison(showing)
        records.append(
            {
                "attack": attack,
                "poison": number,
                "exposure": exposure[attack, number],
                "document": poison.digest,
                "tokens": int(poison.tokens.size),
                "row": row,
                "offset": int(placed.offsets_N[showing]),
                "step": row // batch_rows,
                **({"sources": list(poison.sources)} if poison.sources else {}),
            }
        )
    return records
