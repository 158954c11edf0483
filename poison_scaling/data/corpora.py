"""Where clean documents come from: their texts, and the same as a seqio data source of {"text": ...}."""

from __future__ import annotations

import glob
import importlib.metadata
import io
import itertools
import json
import os
from collections.abc import Iterator
from typing import Any, BinaryIO

import pyarrow
import pyarrow.parquet
import seqio
import tensorflow as tf
from etils import epath

from poison_scaling.config import Corpus, Files, InstalledDocs, Joined, Tfds
from poison_scaling.data import docstrings
from poison_scaling.errors import InputError


def source(corpus: Corpus) -> seqio.DataSource:
    """The corpus as a seqio data source with one split, "train"."""
    if isinstance(corpus, Tfds):
        return seqio.TfdsDataSource(
            tfds_name=corpus.name,
            tfds_data_dir=corpus.data_dir,
            splits={"train": corpus.split},
        )

    def dataset(split: str, shuffle_files: bool, seed: int | None = None) -> tf.data.Dataset:
        del split, shuffle_files, seed  # one split; the shuffling is ours, see documents.py
        return tf.data.Dataset.from_generator(
            lambda: ({"text": text} for text in texts(corpus)),
            output_signature={"text": tf.TensorSpec((), tf.string)},
        )

    return seqio.FunctionDataSource(dataset, splits=["train"])


def texts(corpus: Corpus, skip: int = 0) -> Iterator[str]:
    """Every document of the corpus but the first `skip`, of at least as many, in the order of its source.

    Raises InputError where something cannot be read.
    """
    match corpus:  # what is Python anyway takes 50 times as long through TensorFlow
        case InstalledDocs():
            return itertools.islice(_docstrings(corpus.packages), skip, None)
        case Files():
            return itertools.islice(_file_documents(corpus), skip, None)
        case Tfds():
            return _tfds_texts(corpus, skip)
        case Joined():
            return _joined_texts(corpus, skip)


def identity(corpus: Corpus) -> Any:
    """What the documents depend on beside the config: versions of packages, or files as they are."""
    match corpus:
        case InstalledDocs():
            return {p: _distribution(p).version for p in corpus.packages}
        case Files():
            stats = [(str(f), f.stat()) for f in _paths(corpus)]
            return [(name, s.length, s.mtime) for name, s in stats]
        case Tfds():
            return None
        case Joined():
            return [identity(part) for part in corpus.corpora]


def size_bytes(corpus: Corpus) -> int:
    """Roughly the bytes of text in it, 0 where nobody knows before reading."""
    match corpus:
        case InstalledDocs():
            return 40_000_000
        case Files():
            return sum(f.stat().length * (1 if f.suffix in _PLAIN else 4) for f in _paths(corpus))
        case Tfds():
            return 0
        case Joined():
            return sum(map(size_bytes, corpus.corpora))


def _joined_texts(corpus: Joined, skip: int) -> Iterator[str]:
    shares, parts = corpus.shares, corpus.corpora
    if not parts or len(shares) != len(parts) or min(shares) <= 0:
        raise InputError(
            f"data.corpus.shares={shares}: give a positive share for each of the {len(parts)} corpora."
        )
    turns = _turns(shares)
    skipped = [0] * len(parts)
    for part in itertools.islice(turns, skip):
        skipped[part] += 1
    streams = [texts(part, skipped[i]) for i, part in enumerate(parts)]
    for part in turns:
        text = next(streams[part], None)
        if text is None:
            return
        yield text


def _turns(shares: tuple[float, ...]) -> Iterator[int]:
    """Whose turn it is, for ever: always that of the part which is furthest behind its share."""
    taken = [0] * len(shares)
    while True:
        part = min(range(len(shares)), key=lambda i: ((taken[i] + 1) / shares[i], i))
        taken[part] += 1
        yield part


def _tfds_texts(corpus: Tfds, skip: int) -> Iterator[str]:
    try:
        dataset = source(corpus).get_dataset(split="train", shuffle=False)
    except Exception as e:  # TFDS raises many kinds: unknown name, split, version, no network
        raise InputError(f"data.corpus {corpus}: {_first_line(e)}") from e
    if corpus.text_field not in dataset.element_spec:
        raise InputError(
            f"data.corpus.text_field={corpus.text_field!r}: {corpus.name} has "
            f"{', '.join(dataset.element_spec)}."
        )
    try:
        for example in dataset.skip(skip).as_numpy_iterator():
            yield example[corpus.text_field].decode("utf-8", "replace")
    except tf.errors.OpError as e:
        raise InputError(f"data.corpus {corpus}: {_first_line(e)}") from e


def _first_line(e: Exception) -> str:
    lines = str(e).strip().splitlines()
    return f"{type(e).__name__}: {lines[0] if lines else 'no message'}"


# ------------------------------------------------------------------------------------ installed docs


def _distribution(package: str) -> importlib.metadata.Distribution:
    try:
        return importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError as e:
        raise InputError(f"data.corpus.packages: {package!r} is not installed.") from e


def _docstrings(packages: tuple[str, ...]) -> Iterator[str]:
    """The docstrings of each package's Python files, in sorted order."""
    files: list[str] = []
    for package in packages:
        listed = _distribution(package).files or ()
        files += sorted(str(f.locate()) for f in listed if f.suffix == ".py")
    return docstrings.of_files(files)


# --------------------------------------------------------------------------------------------- files

_PLAIN = (".txt", ".jsonl", ".parquet")
_COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd", ".lz4": "lz4"}


def _paths(corpus: Files) -> list[epath.Path]:
    if not corpus.patterns:
        raise InputError("data.corpus.patterns: name at least one file or glob.")
    paths = []
    for pattern in corpus.patterns:
        found = (
            tf.io.gfile.glob(pattern) if "://" in pattern else glob.glob(pattern, recursive=True)
        )
        if not found:
            raise InputError(f"data.corpus.patterns: {pattern!r} matches no file.")
        paths += sorted(found)
    for path in paths:
        if "://" not in path and not os.path.isfile(path):  # a pipe would be waited for, for ever
            raise InputError(
                f"data.corpus.patterns: {path} is a folder, or no regular file; match files of text alone."
            )
    return [epath.Path(p) for p in paths]


def _file_documents(corpus: Files) -> Iterator[str]:
    for path in _paths(corpus):
        compression = _COMPRESSIONS.get(path.suffix)
        kind = epath.Path(path.stem).suffix if compression else path.suffix
        if compression and not path.stat().length:  # which its library would take for no text
            raise InputError(f"data.corpus.patterns: {path} cannot be read: it is empty.")
        try:
            with path.open("rb") as file:
                match kind, compression:
                    case ".parquet", None:
                        yield from _parquet_texts(path, file, corpus.text_field)
                    case ".jsonl", _:
                        yield from _json_texts(
                            path, _unpacked(file, compression), corpus.text_field
                        )
                    case ".txt", _:
                        yield _unpacked(file, compression).read().decode()
                    case _:
                        raise InputError(
                            f"data.corpus.patterns: {path} is neither {', '.join(_PLAIN[:-1])} (which "
                            f"may end in {', '.join(_COMPRESSIONS)}) nor {_PLAIN[-1]}."
                        )
        except (OSError, UnicodeDecodeError, pyarrow.ArrowException) as e:
            reason = str(e).strip().splitlines()[0].removesuffix(".")
            raise InputError(f"data.corpus.patterns: {path} cannot be read: {reason}.") from e


def _unpacked(file: BinaryIO, compression: str | None) -> BinaryIO:
    if not compression:
        return file
    source = pyarrow.PythonFile(file, mode="r")
    return io.BufferedReader(pyarrow.CompressedInputStream(source, compression))


def _parquet_texts(path: epath.Path, file: BinaryIO, field: str) -> Iterator[str]:
    table = pyarrow.parquet.ParquetFile(file)
    columns = {column.name: column.type for column in table.schema_arrow}
    if field not in columns:
        raise InputError(
            f"data.corpus.text_field={field!r}: {path} has the columns {', '.join(columns)}."
        )
    for batch in table.iter_batches(batch_size=256, columns=[field]):
        for text in batch.column(0).to_pylist():
            if not isinstance(text, str):
                raise InputError(
                    f"data.corpus.text_field={field!r}: in {path} that is {columns[field]}, "
                    "or not in every row; it must be a string."
                )
            yield text


def _json_texts(path: epath.Path, lines: BinaryIO, field: str) -> Iterator[str]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            text = json.loads(line)[field]
        except (ValueError, TypeError, KeyError, RecursionError) as e:
            raise InputError(
                f"data.corpus.patterns: {path}, line {number}: not a JSON object with the field "
                f"{field!r} (data.corpus.text_field)."
            ) from e
        if not isinstance(text, str):
            raise InputError(
                f"data.corpus.patterns: {path}, line {number}: {field!r} is not a string."
            )
        # JSON can spell half a character, which no other file can hold: "?" takes its place.
        yield text.encode("utf-8", "replace").decode()
