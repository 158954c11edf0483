"""The training stream as a seqio Mixture, for anyone whose trainer reads seqio.

Two Tasks, the clean rows and the poisoned rows of a run, each in the order of training, and a Mixture
whose sample_fn takes from the one or the other as the placement says. The trainer of this package reads
the same rows by number instead (`batches.py`), because seqio shards before it mixes and cannot jump.
"""

from __future__ import annotations

import numpy as np
import seqio
import tensorflow as tf

from poison_scaling.data.stream import Stream

_CHUNK = 256  # rows read at a time


def mixture(name: str, stream: Stream, vocabulary: seqio.Vocabulary) -> seqio.Mixture:
    """Features "targets" (int32 [L]) and "poison" (int32 [L], 1 where a token belongs to a poison).

    Iterate it unshuffled, unsharded and for one epoch:
    `seqio.get_dataset(name, ..., shuffle=False, num_epochs=1)`. Registers the Mixture as `name` and its
    Tasks as `name`_clean and `name`_poisoned; a name is registered once in a process. Iterating it
    sharded, shuffled or repeated raises ValueError, because the positions would not be the planned ones.
    """
    rows = np.arange(stream.length)
    poisoned = stream.poisoned_rows
    # seqio orders a mixture's tasks by name: clean before poisoned.
    clean_task = _task(f"{name}_clean", stream, np.setdiff1d(rows, poisoned), vocabulary)
    poisoned_task = _task(f"{name}_poisoned", stream, poisoned, vocabulary)

    def sample(datasets, rates, seed):
        del rates, seed
        found = [int(d.cardinality()) for d in datasets]
        planned = [rows.size - poisoned.size, poisoned.size]
        if found != planned:
            raise ValueError(
                f"mixture {name!r}: tasks of {found} rows, planned {planned}; "
                "iterate it with shard_info=None and num_epochs=1, and shard the result."
            )
        choice = tf.data.Dataset.range(rows.size).map(
            lambda i: tf.cast(_contains(poisoned, i), tf.int64)
        )
        return tf.data.Dataset.choose_from_datasets(datasets, choice)

    seqio.TaskRegistry.add_provider(clean_task.name, clean_task)
    seqio.TaskRegistry.add_provider(poisoned_task.name, poisoned_task)
    rates = [(clean_task.name, 1.0), (poisoned_task.name, 1.0)]  # not used by `sample`
    return seqio.MixtureRegistry.add(name, rates, sample_fn=sample)


def _contains(ascending: np.ndarray, i: tf.Tensor) -> tf.Tensor:
    values = tf.constant(np.append(ascending, np.iinfo(np.int64).max))
    return values[tf.searchsorted(values, [i])[0]] == i


def _task(
    name: str, stream: Stream, indices: np.ndarray, vocabulary: seqio.Vocabulary
) -> seqio.Task:
    L = stream.row_tokens

    def dataset(split: str, shuffle_files: bool, seed: int | None = None) -> tf.data.Dataset:
        del split, seed
        if shuffle_files:
            raise ValueError(
                f"task {name!r}: iterate it with shuffle=False; its order is the plan's."
            )

        def read(chunk):
            tokens_NxL, poison_NxL = stream.read(indices[chunk])
            return tokens_NxL, poison_NxL.astype(np.int32)

        def features(chunk):
            tokens, poison = tf.numpy_function(read, [chunk], (tf.int32, tf.int32), stateful=False)
            return {
                "targets": tf.ensure_shape(tokens, [None, L]),
                "poison": tf.ensure_shape(poison, [None, L]),
            }

        # A range, and a function without state: a tf.data iterator over it can be checkpointed.
        rows = tf.data.Dataset.range(indices.size).batch(_CHUNK).map(features).unbatch()
        return rows.apply(tf.data.experimental.assert_cardinality(indices.size))

    return seqio.Task(
        name,
        source=seqio.FunctionDataSource(
            dataset, splits=["train"], num_input_examples={"train": int(indices.size)}
        ),
        preprocessors=[],
        output_features={
            "targets": seqio.Feature(vocabulary, add_eos=False),
            "poison": seqio.Feature(seqio.PassThroughVocabulary(2), add_eos=False),
        },
        shuffle_buffer_size=None,
    )
