"""The data of a study: documents, vocabulary, token sequences, poisons, prompts."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from poison_scaling.attacks import prompts, writing
from poison_scaling.attacks.attack import Sources
from poison_scaling.data import clean_triggers, documents, sequences
from poison_scaling.data.clean_triggers import Trigger
from poison_scaling.data.corpora.corpus import Corpus
from poison_scaling.data.documents import Documents
from poison_scaling.data.poison import Poison
from poison_scaling.data.settings import Data
from poison_scaling.data.stream import Stream
from poison_scaling.data.vocabularies import preparation
from poison_scaling.data.vocabularies.vocabulary import Vocabulary
from poison_scaling.evaluate.measure import Prompts
from poison_scaling.runtime.errors import InputError
from poison_scaling.runtime.reporting import Progress, silent
from poison_scaling.study.run import Plan, Run
from poison_scaling.study.settings import Study


class Inputs:
    """The prepared data of a study.

    Creating it fills the cache, which takes minutes the first time and a second afterwards. With a full
    cache, neither TensorFlow nor seqio is imported.
    """

    def __init__(self, study: Study, progress: Progress = silent):
        data = study.data
        self._study = study
        self.documents = documents.prepare(data, progress)
        self.corpora: list[dict[str, Documents]] = [
            {
                field: _corpus(data, f"{_called(number)}.{field}", corpus, progress)
                for field, corpus in poisoning.attack.corpora.items()
            }
            for number, poisoning in enumerate(study.poisonings(0))
        ]
        others = [docs for corpora in self.corpora for docs in corpora.values()]
        self.vocabulary: Vocabulary = preparation.prepare(
            data, study.attack.trigger, self.documents, progress, others
        )
        self.training = sequences.prepare(
            data, self.documents, self.vocabulary, "training", progress
        )
        self.heldout = sequences.prepare(data, self.documents, self.vocabulary, "heldout", progress)
        wanted = study.evaluation.heldout_sequences
        if len(self.heldout) < wanted:
            raise InputError(
                f"evaluation.heldout_sequences={wanted}: the held-out documents fill {len(self.heldout)} "
                "sequences; raise data.heldout_documents or ask for fewer."
            )
        self.heldout_NxL = self.heldout.read(np.arange(wanted))
        fields = {
            poisoning.attack.trigger: f"{_called(number)}.trigger"
            for number, poisoning in enumerate(study.poisonings(0))
        }
        self._triggers = [Trigger(text, self.vocabulary, field) for text, field in fields.items()]
        self._places = {
            trigger.text: clean_triggers.prepare(trigger, self.training, progress)
            for trigger in self._triggers
        }

    @property
    def end(self) -> int:
        """The end-of-document token."""
        return self.vocabulary.eos_id

    @functools.cached_property
    def prompts(self) -> list[Prompts]:
        """The prompts of each attack."""
        return [
            prompts.prepare(
                poisoning.attack,
                self._study.evaluation,
                self._sources(number, seed=0),
                self._triggers,
                self.training,
            )
            for number, poisoning in enumerate(self._study.poisonings(0))
        ]

    def specimens(self, number: int) -> tuple[list[str], list[str]]:
        """Return clean held-out texts and payloads of attack `number`, both as long as generations.

        There is one of each per prompt if the held-out documents suffice, and no payload if the
        attack has none.
        """
        settings = self._study.evaluation
        long = dataclasses.replace(settings, continuation_tokens=settings.generate_tokens)
        attack, sources = self._study.poisonings(0)[number].attack, self._sources(number, seed=0)
        p = prompts.excerpts(attack, long, sources, self._triggers, least=1)
        payload = [] if p.payload_PxC is None else p.payload_PxC
        clean_texts, payload_texts = (
            [self.vocabulary.decode(ids.tolist()) for ids in texts]
            for texts in (p.continuation_PxC, payload)
        )
        return clean_texts, payload_texts

    def _sources(self, number: int, seed: int) -> Sources:
        """Return what attack `number` writes its poisons from."""
        return Sources(seed, number, self.documents, self.vocabulary, self.corpora[number])

    @functools.cache  # noqa: B019 - one object per process, and runs share its lists
    def _poisons(self, seed: int) -> list[list[Poison]]:
        """Return the poisons of each attack, at the largest dose; smaller doses are prefixes of them."""
        poisonings = self._study.poisonings(max(self._study.doses))
        return [
            writing.poisons(p.attack, self._sources(number, seed), p.dose)
            for number, p in enumerate(poisonings)
        ]

    def stream(self, run: Run) -> Stream:
        """Return the training stream of a run. Raises InputError if its poisons or its length do not fit."""
        poisons = [
            written[: poisoning.dose]
            for written, poisoning in zip(
                self._poisons(run.seeds.poisons), run.poisonings, strict=True
            )
        ]
        lengths = [np.array([p.tokens.size for p in own], np.int64) for own in poisons]
        epochs = run.study.data.epochs
        placed = run.placement(lengths)
        return Stream(self.training, run.seeds.order, run.sequences, epochs, poisons, placed)

    def digests(self) -> dict[str, str]:
        """Return digests of the prepared data, which are recorded with a study and compared by `verify`."""
        return {
            "training sequences": self.training.digest,
            "heldout sequences": self.heldout.digest,
        }

    def plan(self, run: Run) -> Plan:
        """Return the run's plan with the exact number of poison tokens and with "clean_triggers".

        "clean_triggers" is how often the run trains on an ambient trigger. Raises InputError if that is more
        often than data.maximum_clean_triggers allows.
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
        """Return the number of ambient triggers, by trigger.

        "training_occurrences" includes those split between sequences; "training_sequences" are the sequences
        that contain a complete one; "heldout_sequences" counts sequences of the held-out loss; and
        "prompts_refused" the held-out documents skipped as prompts because they contain the trigger.
        """
        L, counts = self.training.seq_len, {}
        for trigger in self._triggers:
            places = self._places[trigger.text]
            held = clean_triggers.within_sequences(trigger.find(self.heldout_NxL.reshape(-1)), L)
            refused = (own.refused[trigger.text] for own in self.prompts)
            counts[trigger.text] = {
                "training_occurrences": len(places),
                "training_sequences": places.sequences(L, len(self.training)),
                "heldout_sequences": np.unique(held[:, 0] // L).size,
                "prompts_refused": len(set().union(*refused)),
            }
        return counts

    def warnings(self, plans: list[Plan]) -> list[str]:
        """Return a message for each attack with ambient triggers; `plans` are those of all runs."""
        counts, found = self.clean_triggers(), []
        for number, poisoning in enumerate(self._study.poisonings(0)):
            trigger = poisoning.attack.trigger
            found.append(clean_triggers.warning(trigger, counts[trigger], plans, number))
        return [sentence for sentence in found if sentence]


def _called(attack: int) -> str:
    """Return the name of the field of a study that holds attack number `attack`."""
    return f"also.{attack - 1}.attack" if attack else "attack"


def _corpus(data: Data, name: str, corpus: Corpus, progress: Progress) -> Documents:
    """Return the documents of an attack's own corpus, split like the study's; `name` is its field."""
    try:
        return documents.prepare(dataclasses.replace(data, corpus=corpus), progress)
    except InputError as e:
        said = str(e).replace("data.corpus", name)
        raise InputError(said if name in said else f"{name}: {said}") from e
