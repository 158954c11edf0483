"""Import of a published model, as the folder of a study whose only run it is.

Nothing is converted: the weights are copied, one tensor at a time, so an import takes the memory of its
largest tensor. They become parameters when a run starts from them. A folder appears when it is complete.
"""

from __future__ import annotations

import hashlib
import pathlib
import shutil
from collections.abc import Callable

import numpy as np
from etils import epath

from analysis.files import write_bytes, write_json
from poison_scaling.config import serialization
from poison_scaling.data.settings import Data, ImportedVocabulary
from poison_scaling.data.vocabularies import preparation
from poison_scaling.evaluate.settings import Evaluation
from poison_scaling.formats import model_folder, safetensors
from poison_scaling.formats.model_folder import ModelFolder
from poison_scaling.formats.tensors import Entry
from poison_scaling.model import huggingface, weights
from poison_scaling.model.architectures.architecture import Architecture
from poison_scaling.model.settings import Model
from poison_scaling.runtime import versions
from poison_scaling.runtime.errors import InputError
from poison_scaling.study import grid
from poison_scaling.study.imported import Imported
from poison_scaling.study.run import Run
from poison_scaling.study.settings import Rung, Study
from poison_scaling.train import imports, provenance
from poison_scaling.workdir import folder

FILES = "huggingface"  # the folder of the small files, as they were published
Progress = Callable[[int, int], None]  # bytes done, bytes in all


def import_model(
    place: pathlib.Path,
    out: pathlib.Path,
    *,
    end: str | None = None,
    config_only: bool = False,
    progress: Progress = lambda done, total: None,
) -> Run:
    """Import a Hugging Face folder or a GGUF file into `out`, a new folder, and return its run.

    `end` is the token that ends a document; None: as the files tell. With `config_only`, weights are neither
    needed nor copied: studies that start from it can be planned and compiled, but not trained, and get other
    hashes than with the weights. Raises InputError if the model cannot be imported or `out` exists.
    """
    if out.exists():
        raise InputError(f"--out {str(out)!r}: it exists; give a new folder, or delete it.")
    source = model_folder.read(place, config_only)
    architecture, size, vocab_size = shape(source)
    wanted = {} if config_only else tensors(source, architecture, size, vocab_size)
    unfinished = out.parent / f".{out.name}.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)  # of an import that was interrupted
    vocabulary = _tokenizer(source, unfinished, vocab_size, end)
    written = unfinished / imports.FILE
    digests = {} if config_only else _copy(source, wanted, written, progress)
    imported = Imported(imports.digest_of(wanted, digests), place.name, source.license)
    study = Study(
        name=out.name,
        ladder=(Rung(size, tokens_per_parameter=None),),
        doses=(0,),
        data=Data(vocabulary=vocabulary, seq_len=context(source, architecture, size)),
        model=Model(architecture=architecture),
        evaluation=Evaluation(prompt_tokens=1, generate_tokens=1),  # it is not evaluated
        imported=imported,
    )
    [run] = grid.runs(study)
    own = pathlib.Path(folder.of_run(epath.Path(unfinished), run))
    own.mkdir(parents=True)
    write_json(own / "config.json", _config(run, source, digests))
    if not config_only:
        written.rename(own / imports.FILE)
        write_json(own / "DONE", provenance.done(run))
    write_json(
        unfinished / "study.json",
        {
            "name": study.name,
            "hash": study.hash,
            "versions": versions.installed(),
            "config": serialization.to_json(study),
            "runs": [],
        },
    )
    unfinished.rename(out)
    return run


def shape(source: ModelFolder) -> tuple[Architecture, str, int]:
    """Return the architecture, size and vocabulary size of a model. Raises InputError if it is not known."""
    try:
        return huggingface.from_huggingface(source.config)
    except InputError as e:
        raise InputError(f"{source.place}: {e}") from e


def context(source: ModelFolder, architecture: Architecture, size: str) -> int:
    """Return the length, in tokens, of the longest sequence that a model is made for."""
    stated = source.config.get("max_position_embeddings")
    window = getattr(architecture.sizes()[size], "window", None)
    return min(stated if type(stated) is int else 2048, window or 2**24)


def tensors(
    source: ModelFolder, architecture: Architecture, size: str, vocab_size: int
) -> dict[str, Entry]:
    """Return the tensors that the model consists of. Raises InputError if one is missing or left over."""
    entries = source.tensors.entries
    shapes = {name: entry.shape for name, entry in entries.items()}
    try:
        weights.check(shapes, architecture, size, vocab_size)
    except InputError as e:
        raise InputError(f"{source.place}: {e}") from e
    table = weights.table(architecture, size, vocab_size)
    return {name: entries[name] for parameter in table for name in parameter.tensors}


def _tokenizer(
    source: ModelFolder, out: pathlib.Path, vocab_size: int, end: str | None
) -> ImportedVocabulary:
    """Copy the small files, and return the vocabulary with its path relative to `out`."""
    end = end or source.end
    if end is None:
        raise InputError(
            f"{source.place}: its files do not tell which token ends a document; give it as --end TOKEN."
        )
    name = source.tokenizer
    for file, content in source.files.items():
        write_bytes(out / FILES / file, content)
    digest = hashlib.sha256(source.files[name]).hexdigest()[:16]
    absolute = ImportedVocabulary(str(out / FILES / name), vocab_size, end, digest)
    try:
        preparation.imported(absolute)
    except InputError as e:
        shutil.rmtree(out)
        said = str(e).replace("data.vocabulary.end=", "--end ")
        raise InputError(said.replace(str(out / FILES), str(source.place))) from e
    return ImportedVocabulary(f"{FILES}/{name}", vocab_size, end, digest)


def _copy(
    source: ModelFolder, wanted: dict[str, Entry], file: pathlib.Path, progress: Progress
) -> dict[str, str]:
    """Write the tensors to one file, and return the SHA-256 of each."""
    digests: dict[str, str] = {}
    total = sum(entry.nbytes for entry in wanted.values())
    done = 0

    def read(name: str) -> np.ndarray:
        nonlocal done
        array = source.tensors.read(name)
        digests[name] = imports.sha256(array)
        done += wanted[name].nbytes
        progress(done, total)
        return array

    safetensors.write(file, wanted, read)
    return digests


def _config(run: Run, source: ModelFolder, digests: dict[str, str]) -> dict:
    return {
        "run": run.name,
        "hash": run.hash,
        "study": run.study.name,
        "study_hash": run.study.hash,
        "config": serialization.to_json(run.settings()),
        "versions": versions.installed(),
        "imported_from": str(source.place),
        "license": source.license,
        "huggingface": source.config,
        "tensors": digests,
    }
