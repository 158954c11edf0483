"""All that the runs of a study read: documents, vocabulary, rows, poisons, prompts."""

from __future__ import annotations

import functools

import numpy as np
import seqio
import tensorflow as tf

from poison_scaling.config import Study
from poison_scaling.data import documents, placement, poisons, rows, vocabularies
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
        heldout = rows.prepare(data, self.documents, self.vocabulary, "heldout", progress)
        wanted = study.evaluation.heldout_rows
        if len(heldout) < wanted:
            raise InputError(
                f"evaluation.heldout_rows={wanted}: the held-out documents fill {len(heldout)} rows; "
                "raise data.heldout_documents or ask for fewer."
            )
        self.heldout_NxL = heldout.read(np.arange(wanted))
        self.end: int = self.vocabulary.eos_id

    @functools.cached_property
    def prompts(self) -> dict[str, np.ndarray]:
        """ "tokens" int32 [2P, T], "padding" int32 [2P]: the clean prompts, then the triggered ones."""
        study = self._study
        p = poisons.prompts(study.attack, study.evaluation, self.documents, self.vocabulary)
        length = p.clean_PxT.shape[1] + study.evaluation.generate_tokens
        if length > study.data.row_tokens:
            raise InputError(
                f"evaluation: prompt, trigger and response take {length} tokens, and a row "
                f"data.row_tokens={study.data.row_tokens}; shorten prompt_tokens or generate_tokens."
            )
        return {
            "tokens": np.concatenate([p.clean_PxT, p.triggered_PxT]),
            "padding": np.concatenate([p.clean_padding_P, p.triggered_padding_P]),
        }

    @functools.cache  # noqa: B019 - one object a process, and its lists are shared by runs
    def _poisons(self, seed: int) -> list[poisons.Poison]:
        """Those of the largest dose; a smaller one takes the first."""
        study = self._study
        return poisons.build(study.attack, seed, max(study.doses), self.documents, self.vocabulary)

    def stream(self, run: Run) -> Stream:
        """What the run trains on. Raises InputError when its poisons or its length do not fit."""
        dosed = self._poisons(run.seeds.poisons)[: run.dose]
        lengths = np.array([p.tokens.size for p in dosed], np.int64)
        data = run.study.data
        placed = placement.place(
            run.study.schedule, run.seeds.poisons, run.rows, data.row_tokens, lengths
        )
        return Stream(self.training, run.seeds.order, run.rows, data.epochs, dosed, placed)

    def plan(self, run: Run) -> dict:
        """The run's plan with its exact number of poison tokens."""
        return run.plan(self.stream(run).placement.lengths_N)


def manifest(stream: Stream, batch_rows: int) -> list[dict]:
    """One record a poison: its number, the SHA-256 of its token ids, its length, where it stands."""
    placed = stream.placement
    return [
        {
            "poison": p.number,
            "document": p.digest,
            "tokens": int(p.tokens.size),
            "row": int(placed.rows_N[p.number]),
            "offset": int(placed.offsets_N[p.number]),
            "step": int(placed.rows_N[p.number]) // batch_rows,
        }
        for p in stream.poisons
    ]
