"""Docstrings of installed packages as a corpus."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import itertools
from collections.abc import Iterator

from poison_scaling.data.corpora import docstrings
from poison_scaling.data.corpora.corpus import Corpus
from poison_scaling.runtime.errors import InputError


@dataclasses.dataclass(frozen=True)
class InstalledDocs(Corpus):
    """Docstrings of installed packages, which are the same on every machine with the same versions."""

    packages: tuple[str, ...] = (
        "absl-py",
        "array_record",
        "etils",
        "flax",
        "fonttools",
        "h5py",
        "jax",
        "keras",
        "matplotlib",
        "ml_collections",
        "numpy",
        "optax",
        "orbax-checkpoint",
        "pillow",
        "pyarrow",
        "rich",
        "scipy",
        "seqio",
        "tensorflow",
        "tensorflow-datasets",
    )

    def texts(self, skip: int = 0) -> Iterator[str]:
        files: list[str] = []
        for package in self.packages:
            listed = _distribution(package).files or ()
            files += sorted(str(f.locate()) for f in listed if f.suffix == ".py")
        return itertools.islice(docstrings.of_files(files), skip, None)

    def identity(self) -> dict[str, str]:
        return {package: _distribution(package).version for package in self.packages}

    def size_bytes(self) -> int:
        return 40_000_000


def _distribution(package: str) -> importlib.metadata.Distribution:
    try:
        return importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError as e:
        raise InputError(f"data.corpus.packages: {package!r} is not installed.") from e
