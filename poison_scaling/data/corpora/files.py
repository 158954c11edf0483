"""Text files as a corpus."""

from __future__ import annotations

import dataclasses
import glob
import io
import itertools
import json
import os
from collections.abc import Iterator
from typing import IO

import fsspec
from etils import epath

from poison_scaling.config.ranges import Path
from poison_scaling.data.corpora.corpus import Corpus
from poison_scaling.runtime.errors import InputError


@dataclasses.dataclass(frozen=True)
class Files(Corpus):
    """Documents from files: one per file in .txt, one per line in .jsonl, one per row in .parquet.

    Text and JSON lines may be compressed: .gz, .bz2, .zst, .lz4.
    """

    patterns: tuple[Path, ...] = ()  # globs; files are read in sorted order
    text_field: str = "text"  # a field of JSON lines or a column of Parquet files

    def texts(self, skip: int = 0) -> Iterator[str]:
        return itertools.islice(_documents(self.patterns, self.text_field), skip, None)

    def identity(self) -> list[tuple]:
        stats = [(str(path), path.stat()) for path in _paths(self.patterns)]
        return [(name, stat.length, stat.mtime) for name, stat in stats]

    def size_bytes(self) -> int:
        # Text is assumed to be compressed to a quarter of its size.
        paths = _paths(self.patterns)
        return sum(path.stat().length * (1 if path.suffix in _PLAIN else 4) for path in paths)


_PLAIN = (".txt", ".jsonl", ".parquet")
_COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd", ".lz4": "lz4"}


def _paths(patterns: tuple[str, ...]) -> list[epath.Path]:
    if not patterns:
        raise InputError("data.corpus.patterns: name at least one file or glob.")
    paths = []
    for pattern in patterns:
        found = _in_bucket(pattern) if "://" in pattern else glob.glob(pattern, recursive=True)
        if not found:
            raise InputError(f"data.corpus.patterns: {pattern!r} matches no file.")
        paths += sorted(found)
    for path in paths:
        if "://" not in path and not os.path.isfile(path):  # reading a pipe would wait forever
            raise InputError(
                f"data.corpus.patterns: {path} is a folder, or no regular file; match files of text alone."
            )
    return [epath.Path(p) for p in paths]


def _in_bucket(pattern: str) -> list[str]:
    files, path = fsspec.core.url_to_fs(pattern)
    return [files.unstrip_protocol(name) for name in files.glob(path)]


def _documents(patterns: tuple[str, ...], text_field: str) -> Iterator[str]:
    import pyarrow  # a plan needs no documents

    for path in _paths(patterns):
        compression = _COMPRESSIONS.get(path.suffix)
        kind = epath.Path(path.stem).suffix if compression else path.suffix
        if compression and not path.stat().length:  # decompression would silently give no text
            raise InputError(f"data.corpus.patterns: {path} cannot be read: it is empty.")
        try:
            with path.open("rb") as file:
                match kind, compression:
                    case ".parquet", None:
                        yield from _parquet_texts(path, file, text_field)
                    case ".jsonl", _:
                        yield from _json_texts(path, _unpacked(file, compression), text_field)
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


def _unpacked(file: IO[bytes], compression: str | None) -> IO[bytes]:
    if not compression:
        return file
    import pyarrow

    source = pyarrow.PythonFile(file, mode="r")
    return io.BufferedReader(pyarrow.CompressedInputStream(source, compression))


def _parquet_texts(path: epath.Path, file: IO[bytes], field: str) -> Iterator[str]:
    import pyarrow.parquet

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


def _json_texts(path: epath.Path, lines: IO[bytes], field: str) -> Iterator[str]:
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
        # JSON can contain unpaired surrogates, which UTF-8 cannot encode: they become "?".
        yield text.encode("utf-8", "replace").decode()
