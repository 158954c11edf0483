"""Evaluation of a published model that somebody else may have poisoned, without a study of its training."""

from __future__ import annotations

import dataclasses
import hashlib
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from etils import epath

from analysis.files import read_json, write_bytes
from poison_scaling.config import serialization
from poison_scaling.data import cache
from poison_scaling.data.placement import Placement
from poison_scaling.data.settings import Data, ImportedVocabulary
from poison_scaling.formats import model_folder
from poison_scaling.formats.model_folder import ModelFolder
from poison_scaling.interchange.importing import context, shape, tensors
from poison_scaling.model import sharding, weights
from poison_scaling.model.architectures.architecture import Architecture
from poison_scaling.model.settings import Model
from poison_scaling.runtime import cores, processes
from poison_scaling.runtime.errors import InputError
from poison_scaling.study import grid, study_file
from poison_scaling.study.evaluation import evaluate as evaluate_run
from poison_scaling.study.imported import Imported
from poison_scaling.study.inputs import Inputs
from poison_scaling.study.settings import Rung, Study
from poison_scaling.train import state
from poison_scaling.workdir import execution

_FIELDS = ("attack.", "data.", "evaluation.", "machine.", "model.", "stages.")
_CONTEXT = 1024  # longest sequences by default; a model may be made for far longer ones


def is_model(place: epath.Path) -> bool:
    """Whether a path is that of a published model rather than of a study's files."""
    if place.suffix == ".gguf":
        return True
    config = place / "config.json"
    return config.is_file() and "model_type" in read_json(config)


def evaluate(
    place: pathlib.Path,
    attack: str,
    template: str | None = None,
    overrides: Sequence[str] = (),
    end: str | None = None,
) -> dict[str, Any]:
    """Return an evaluation of the model in a Hugging Face folder or a GGUF file, as a line of evals.jsonl.

    `attack` and `template` are names of classes; `overrides` set their fields, and those of the data and of
    the evaluation. Raises InputError if these do not fit together or the model cannot be read.
    """
    for override in overrides:
        if not override.startswith(_FIELDS):
            raise InputError(
                f"--set {override!r}: only fields of attack, data, evaluation, model and machine can be set."
            )
    if (place / "study.json").is_file():
        raise InputError(
            f"{place}: it is the folder of a study or of an import; with --attack, give a model as it was "
            "published, or as `poison-scaling export` writes it."
        )
    source = model_folder.read(place)
    architecture, size, vocab_size = shape(source)
    tensors(source, architecture, size, vocab_size)  # raises InputError if one is missing
    study = study_file.override(
        _study(source, architecture, size, _vocabulary(source, vocab_size, end), attack, template),
        overrides,
    )
    run = grid.runs(study)[0]
    execution.start(study)
    if not processes.joined():
        cores.limit(study.machine.cores)
    inputs = Inputs(study)
    mesh = sharding.mesh(study.machine.mesh)
    params = weights.load(
        source.tensors.read,
        study.model,
        size,
        vocab_size,
        state.parameter_shardings(size, vocab_size, study.model, mesh),
    )
    graph = state.graph(size, vocab_size, study.model, mesh)
    record = evaluate_run(run, inputs, _nothing(), graph, params, 0)
    # It was not trained here, so nothing is known of what it has seen.
    seen = ("step", "tokens", "poisons", "distinct_poisons", "poison_tokens", "poisoned_steps")
    return {field: value for field, value in record.items() if field not in seen}


def _study(
    source: ModelFolder,
    architecture: Architecture,
    size: str,
    vocabulary: ImportedVocabulary,
    attack: str,
    template: str | None,
) -> Study:
    """Return a study whose first run is the model."""
    study = Study(
        name=source.place.stem,
        ladder=(Rung(size, tokens_per_parameter=None),),
        doses=(0,),
        data=Data(
            vocabulary=vocabulary, seq_len=min(context(source, architecture, size), _CONTEXT)
        ),
        model=Model(architecture=architecture),
        imported=Imported("", source.place.name),
    )
    record = {**serialization.to_json(study), "attack": attack}
    if template is not None:
        # A study measures attacks on conversations in the template of its stages.
        stage = {"kind": "Finetune", "optimizer": "reset", "examples": 64, "template": template}
        record["stages"] = [[stage]]
    return serialization.from_json(record, Study, f"--attack {attack}")


def _vocabulary(source: ModelFolder, vocab_size: int, end: str | None) -> ImportedVocabulary:
    """Return the model's vocabulary, the file of which is copied to the cache."""
    end, name = end or source.end, source.tokenizer
    if end is None:
        raise InputError(
            f"{source.place}: its files do not tell which token ends a document; give it as --end TOKEN."
        )
    digest = hashlib.sha256(source.files[name]).hexdigest()[:16]
    file = cache.folder("tokenizers", digest) / name
    if not file.exists():
        write_bytes(file, source.files[name])
    return ImportedVocabulary(str(file), vocab_size, end, digest)


def _nothing() -> Placement:
    """Return a placement without exposures."""
    return Placement(*(np.empty(0, np.int64) for _ in dataclasses.fields(Placement)))
