"""The base class of corpora, the sources of clean documents."""

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
    """Base class of corpora. Extend it with a frozen dataclass: docs/howto/corpus.md.

    A corpus must give the same documents in the same order whenever its fields and its `identity` are equal.
    """

    def texts(self, skip: int = 0) -> Iterator[str]:
        """Yield all documents except the first `skip`, in the order of the source.

        Raises InputError if a document cannot be read.
        """
        raise NotImplementedError

    def identity(self) -> Any:
        """Return what the documents depend on besides the fields, such as versions or sizes of files.

        Its `repr` must be the same in every process. None means that the documents depend on
        the fields alone.
        """
        return None

    def size_bytes(self) -> int:
        """Return the approximate number of bytes of text; 0 if unknown before reading."""
        return 0

    def source(self) -> seqio.DataSource:
        """Return the corpus as a seqio data source of {"text": ...}, with one split, "train"."""
        import seqio
        import tensorflow as tf

        def dataset(split: str, shuffle_files: bool, seed: int | None = None) -> tf.data.Dataset:
            del split, shuffle_files, seed  # there is one split, and `data.documents` shuffles
            return tf.data.Dataset.from_generator(
                lambda: ({"text": text} for text in self.texts()),
                output_signature={"text": tf.TensorSpec((), tf.string)},
            )

        return seqio.FunctionDataSource(dataset, splits=["train"])
