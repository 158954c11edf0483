"""Tokenisation of documents with seqio Tasks: the only module of preparation that needs TensorFlow."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import seqio
import tensorflow as tf
from etils import epath

from poison_scaling.data import shards
from poison_scaling.data.documents import Documents
from poison_scaling.data.filtering import Filtered
from poison_scaling.data.vocabularies.byte import ByteVocabulary
from poison_scaling.data.vocabularies.sentencepiece import SentencePieceVocabulary
from poison_scaling.data.vocabularies.vocabulary import Vocabulary
from poison_scaling.runtime.quiet import silenced

tf.config.set_visible_devices([], "GPU")  # which JAX uses
tf.config.set_visible_devices([], "TPU")


def seqio_vocabulary(vocabulary: Vocabulary) -> seqio.Vocabulary:
    """Return the seqio vocabulary with the same ids."""
    match vocabulary:
        case ByteVocabulary():
            return seqio.ByteVocabulary(extra_ids=0)
        case SentencePieceVocabulary():
            return seqio.SentencePieceVocabulary(vocabulary.path, extra_ids=0)
        case _:
            return _Adapted(vocabulary)


class _Adapted(seqio.Vocabulary):
    """A vocabulary that seqio has no class for. Its id 0 may be an ordinary token instead of padding."""

    def __init__(self, vocabulary: Vocabulary):
        super().__init__()
        self._vocabulary = vocabulary

    @property
    def eos_id(self) -> int:
        return self._vocabulary.eos_id

    @property
    def unk_id(self) -> int | None:
        return self._vocabulary.unk_id

    @property
    def _base_vocab_size(self) -> int:
        return self._vocabulary.vocab_size

    def _encode(self, s: str) -> Sequence[int]:
        return self._vocabulary.encode(s)

    def _decode(self, ids: Sequence[int]) -> str:
        return self._vocabulary.decode(ids)

    def _encode_tf(self, s: tf.Tensor) -> tf.Tensor:
        def encode(text: Any) -> np.ndarray:  # bytes, or an array of them outside graphs
            text = text.item() if isinstance(text, np.ndarray) else text
            return np.array(self._encode(text.decode("utf-8", "replace")), np.int32)

        return tf.ensure_shape(tf.numpy_function(encode, [s], tf.int32, stateful=False), [None])

    def _decode_tf(self, ids: tf.Tensor) -> tf.Tensor:
        def decode(ids: np.ndarray) -> bytes:
            return self._decode(ids.tolist()).encode()

        return tf.ensure_shape(tf.numpy_function(decode, [ids], tf.string, stateful=False), [])


def document_task(
    name: str, docs: Documents | Filtered, split: str, numbers: range, vocabulary: Vocabulary
) -> seqio.Task:
    """Return a seqio Task of clean documents, with their token ids and an end-of-document token as "targets".

    `split` is "training" or "heldout"; `numbers` is a range of its documents with step 1.
    """
    of_heldout = split == "heldout" and isinstance(docs, Documents)
    read = docs.heldout if of_heldout else docs.training

    def dataset(split: str, shuffle_files: bool, seed: int | None = None) -> tf.data.Dataset:
        del split, shuffle_files, seed  # the order is fixed, because all runs share the tokens

        def texts(chunk):
            return np.array([t.encode() for t in read(chunk)], object)

        chunks = tf.data.Dataset.range(numbers.start, numbers.stop).batch(256)
        text = chunks.map(
            lambda n: tf.ensure_shape(
                tf.numpy_function(texts, [n], tf.string, stateful=False), [None]
            )
        )
        return text.unbatch().map(lambda t: {"targets": t})

    return seqio.Task(
        name,
        source=seqio.FunctionDataSource(dataset, splits=["train"]),
        preprocessors=[seqio.preprocessors.tokenize, seqio.preprocessors.append_eos],
        output_features={"targets": seqio.Feature(seqio_vocabulary(vocabulary), add_eos=True)},
        shuffle_buffer_size=None,
    )


def write_shard(
    docs: Documents | Filtered,
    vocabulary: Vocabulary,
    split: str,
    numbers: range,
    dtype: str,
    file: epath.Path,
    progress: Callable[[int], None] | None,
) -> dict:
    """Tokenise a range of documents into a shard, and return its record.

    `progress` is called with the number of documents done.
    """

    def fill(temporary: epath.Path) -> dict:
        task = document_task(f"documents_{split}", docs, split, numbers, vocabulary)
        tokens = 0
        with temporary.open("wb") as f:
            with silenced():  # the tokenizer logs that it does not normalise
                examples = task.get_dataset(None, split="train", shuffle=False, num_epochs=1)
                examples = examples.as_numpy_iterator()
                first = next(examples)
            for done, example in enumerate(itertools.chain([first], examples), 1):
                f.write(example["targets"].astype(dtype).tobytes())
                tokens += example["targets"].size
                if progress and done % 1000 == 0:
                    progress(done)
        return {"documents": len(numbers), "tokens": tokens}

    return shards.write(file, fill)
