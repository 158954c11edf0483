"""The base of corpora: where clean documents come from."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from poison_scaling.config.extensions import extensible

if TYPE_CHECKING:
    import seqio


@extensible("corpus", required=("texts",), default="InstalledDocs")
@dataclasses.dataclass(frozen=True)
class Corpus:
    """Base of corpora. Extend it with a frozen dataclass: docs/howto/corpus.md.

    A corpus gives the same documents in the same order whenever its fields and its `identity` are the same.
    """

    def texts(self, skip: int = 0) -> Iterator[str]:
        """Yield every document but the first `skip`, in the order of its source.

        Raises InputError if something cannot be read.
        """
        raise NotImplementedError

    def identity(self) -> Any:
        """Return what the documents depend on beside the fields, such as versions or sizes of files.

        Its `repr` must be the same in every process. None says that the fields decide alone.
        """
        return None

    def size_bytes(self) -> int:
        """Return roughly how many bytes of text there are, 0 if that is not known before reading."""
        return 0

    def source(self) -> seqio.DataSource:
        """Return the corpus as a seqio data source of {"text": ...}, with one split, "train"."""
        import seqio
        import tensorflow as tf

        def dataset(split: str, shuffle_files: bool, seed: int | None = None) -> tf.data.Dataset:
            del split, shuffle_files, seed  # one split; documents are shuffled by `data.documents`
            return tf.data.Dataset.from_generator(
                lambda: ({"text": text} for text in self.texts()),
                output_signature={"text": tf.TensorSpec((), tf.string)},
            )

        return seqio.FunctionDataSource(dataset, splits=["train"])
