"""All that the runs of a study read: documents, vocabulary, rows, poisons, prompts."""

from __future__ import annotations

import functools

import numpy as np
import seqio
import tensorflow as tf

from poison_scaling.config import Study
from poison_scaling.data import documents, poisons, rows, vocabularies
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
        self.vocabulary: seqio.Vocabulary = vocabularies.prepare(
            data, study.attack.trigger, self.documents, progress
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

    @functools.cached_property
    def prompts(self) -> list[dict[str, np.ndarray]]:
        """For each attack, "tokens" int32 [2P, T] and "padding" int32 [2P]: the clean prompts, then the
        triggered ones; "continuation" and "gibberish", both int32 [P, C].
        """
        return [self._prompts(poisoning.attack) for poisoning in self._study.poisonings(0)]

    def _prompts(self, attack) -> dict[str, np.ndarray]:
        study = self._study
        p = poisons.prompts(attack, study.evaluation, self.documents, self.vocabulary)
        settings = study.evaluation
        length = p.clean_PxT.shape[1] + max(settings.generate_tokens, settings.continuation_tokens)
        if length > study.data.row_tokens:
            raise InputError(
                f"evaluation: prompt, trigger and response take {length} tokens, and a row "
                f"data.row_tokens={study.data.row_tokens}; shorten prompt_tokens or generate_tokens."
            )
        return {
            "tokens": np.concatenate([p.clean_PxT, p.triggered_PxT]),
            "padding": np.concatenate([p.clean_padding_P, p.triggered_padding_P]),
            "continuation": p.continuation_PxC,
            "gibberish": p.gibberish_PxC,
        }

    @functools.cache  # noqa: B019 - one object a process, and its lists are shared by runs
    def _poisons(self, seed: int) -> list[list[poisons.Poison]]:
        """Those of each attack, the first with its largest dose; a smaller one takes the first."""
        poisonings = self._study.poisonings(max(self._study.doses))
        return [
            poisons.build(p.attack, seed, p.dose, self.documents, self.vocabulary, number)
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
        """The run's plan with its exact number of poison tokens."""
        return run.plan(self.stream(run).placement)


def manifest(stream: Stream, batch_rows: int) -> list[dict]:
    """One record a showing: which document of which attack, for the how manieth time, the SHA-256 of its
    token ids, its length, and where it stands.
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
            }
        )
    return records
