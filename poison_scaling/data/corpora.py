"""Where clean documents come from, each kind as a seqio data source of {"text": ...} examples."""

from __future__ import annotations

import ast
import glob
import gzip
import importlib.metadata
import json
from collections.abc import Callable, Iterator
from typing import Any

import seqio
import tensorflow as tf
from etils import epath

from poison_scaling.config import Files, InstalledDocs, Tfds
from poison_scaling.errors import InputError

Corpus = InstalledDocs | Files | Tfds


def source(corpus: Corpus) -> seqio.DataSource:
    """The corpus as a seqio data source with one split, "train"."""
    match corpus:
        case InstalledDocs():
            return _generated(lambda: _docstrings(corpus.packages))
        case Files():
            return _generated(lambda: _file_documents(corpus))
        case Tfds():
            return seqio.TfdsDataSource(
                tfds_name=corpus.name,
                tfds_data_dir=corpus.data_dir,
                splits={"train": corpus.split},
            )


def texts(corpus: Corpus) -> Iterator[str]:
    """Every document of the corpus, in the order of its source.

    Raises InputError where something cannot be read.
    """
    field = getattr(corpus, "text_field", "text") if isinstance(corpus, Tfds) else "text"
    try:
        dataset = source(corpus).get_dataset(split="train", shuffle=False)
    except InputError:
        raise
    except Exception as e:  # TFDS raises many kinds: unknown name, split, version, no network
        raise InputError(f"data.corpus {corpus}: {_first_line(e)}") from e
    if field not in dataset.element_spec:
        raise InputError(
            f"data.corpus.text_field={field!r}: {corpus.name} has {', '.join(dataset.element_spec)}."
        )
    try:
        for example in dataset.as_numpy_iterator():
            yield example[field].decode("utf-8", "replace")
    except tf.errors.OpError as e:
        # An exception in a Python generator reaches us as text inside tf's own.
        marked = [line for line in str(e).splitlines() if _MARK in line]
        if marked:
            raise InputError(marked[0].split(_MARK)[1]) from e
        raise InputError(f"data.corpus: {_first_line(e)}") from e


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


def size_bytes(corpus: Corpus) -> int:
    """Roughly the bytes of text in it, 0 where nobody knows before reading."""
    match corpus:
        case InstalledDocs():
            return 40_000_000
        case Files():
            return sum(f.stat().length * (4 if f.suffix == ".gz" else 1) for f in _paths(corpus))
        case Tfds():
            return 0


def _generated(documents: Callable[[], Iterator[str]]) -> seqio.DataSource:
    def dataset(split: str, shuffle_files: bool, seed: int | None = None) -> tf.data.Dataset:
        del split, shuffle_files, seed  # one split; the shuffling is ours, see documents.py

        def examples():
            try:
                for text in documents():
                    yield {"text": text}
            except InputError as e:
                raise RuntimeError(f"{_MARK}{e}{_MARK}") from e

        return tf.data.Dataset.from_generator(
            examples, output_signature={"text": tf.TensorSpec((), tf.string)}
        )

    return seqio.FunctionDataSource(dataset, splits=["train"])


_MARK = "\u241f"  # sets an InputError's sentence apart inside the text of a TensorFlow error


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
    """The docstrings of the packages' modules, classes and functions, files in sorted order."""
    for package in packages:
        files = _distribution(package).files or ()
        for file in sorted(str(f.locate()) for f in files if f.suffix == ".py"):
            try:
                with open(file, encoding="utf-8") as f:
                    tree = ast.parse(f.read())
            except (SyntaxError, UnicodeDecodeError, FileNotFoundError):
                continue  # templates and fixtures that are not Python, files that were left out
            yield from _docstrings_below(tree)


def _docstrings_below(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        text = ast.get_docstring(node)
        if text:
            yield text
    # Statements alone: expressions hold no definitions, and are most of a tree.
    for field in ("body", "orelse", "handlers", "finalbody"):
        for child in getattr(node, field, ()):
            yield from _docstrings_below(child)


# --------------------------------------------------------------------------------------------- files


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
    return [epath.Path(p) for p in paths]


def _file_documents(corpus: Files) -> Iterator[str]:
    for path in _paths(corpus):
        suffixes = [s for s in path.suffixes if s in (".txt", ".jsonl", ".gz")]
        if suffixes[-1:] == [".gz"]:
            suffixes.pop()
        if suffixes[-1:] not in ([".txt"], [".jsonl"]):
            raise InputError(
                f"data.corpus.patterns: {path} is neither .txt nor .jsonl (either may end in .gz)."
            )
        try:
            with path.open("rb") as raw:
                lines = gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else raw
                if suffixes[-1] == ".txt":
                    yield lines.read().decode()
                else:
                    yield from _json_texts(path, lines, corpus.text_field)
        except (OSError, UnicodeDecodeError) as e:
            raise InputError(f"data.corpus.patterns: {path} cannot be read: {e}.") from e


def _json_texts(path: epath.Path, lines: Any, field: str) -> Iterator[str]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            text = json.loads(line)[field]
        except (ValueError, TypeError, KeyError) as e:
            raise InputError(
                f"data.corpus.patterns: {path}, line {number}: not a JSON object with the field "
                f"{field!r} (data.corpus.text_field)."
            ) from e
        if not isinstance(text, str):
            raise InputError(
                f"data.corpus.patterns: {path}, line {number}: {field!r} is not a string."
            )
        yield text
