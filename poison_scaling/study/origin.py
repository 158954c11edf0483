"""The trained run of another study from which a chain of this study starts."""

from __future__ import annotations

from typing import Any

from etils import epath

from analysis.files import read_json
from poison_scaling.config import serialization
from poison_scaling.data.settings import TrainedSentencePiece
from poison_scaling.runtime.errors import InputError
from poison_scaling.study.run import Run
from poison_scaling.study.settings import Study
from poison_scaling.study.stages.stage import Stage
from poison_scaling.study.start import Start


def read(start: Start) -> tuple[Study, dict[Stage, int]]:
    """Return the study in the folder of `start`, and the sequences that the examples of its stages fill.

    Raises InputError if there is none.
    """
    folder = epath.Path(start.folder)
    file = folder / "study.json"
    if not file.exists():
        raise InputError(
            f"start.folder={str(folder)!r}: it holds no study (there is no study.json)."
        )
    where = f"start.folder: {file} is not a study of this version"
    record = read_json(file, sealed=True)
    study = serialization.from_json(record.get("config"), Study, where)
    return study, packed_sequences(study, record)


def packed_sequences(study: Study, record: dict[str, Any]) -> dict[Stage, int]:
    """Return how many sequences the examples of each Finetune fill, as study.json says."""
    counts = record.get("packed_sequences", {})
    stages = study.named_stages()
    return {stage: counts[field] for field, stage in stages.items() if field in counts}


def check_fit(root: Run, found: Run) -> None:
    """Raise InputError unless `root` may stand for `found`, a run of another study.

    Size, token budget, dose, architecture and vocabulary must agree, and sequences must not be longer.
    """
    study, other = root.study, found.study
    there = f"{found.name} in {study.start and study.start.folder}"
    _require(
        (root.rung.label, root.dose) == (found.rung.label, found.dose),
        f"start: {there} is a {found.rung.label} with dose {found.dose}, and this study has "
        f"{root.rung.label} with dose {root.dose}; let ladder and doses name that alone.",
    )
    for field, own, its in (
        ("model.architecture", study.model.architecture, other.model.architecture),
        ("data.vocabulary", study.data.anywhere.vocabulary, other.data.anywhere.vocabulary),
        ("the corpus, trigger or attacks of the vocabulary", _text(study), _text(other)),
    ):
        _require(own == its, f"start: {field} is not that of {there}; make it the same.")
    for field, stage in study.named_stages().items():
        _require(
            None in (stage.conversation_template, found.template)
            or stage.conversation_template == found.template,
            f"{field}.template: {there} was fine-tuned with "
            f"{type(found.template).__name__}; give the same.",
        )
    if other.imported is not None:
        for number, stage in enumerate(study.stages[0]):
            _require(
                stage.optimizer != "keep",
                f"stages.0.{number}.optimizer='keep': {there} is an imported model, which comes without the "
                "state of its optimizer; use 'rewarm' or 'reset'.",
            )
    longest = max([run.data.seq_len for run in (found, *found.ancestors)])
    _require(
        study.data.seq_len <= longest,
        f"data.seq_len={study.data.seq_len}: {there} was trained on sequences of {longest} tokens; give at "
        "most that.",
    )


def _text(study: Study) -> tuple:
    """Return the settings of the text that a vocabulary is trained on; of others nothing."""
    data = study.data
    if not isinstance(data.vocabulary, TrainedSentencePiece):
        return ()
    trigger = study.attack.trigger if data.vocabulary.trigger_is_one_token else None
    documents = (data.corpus, data.minimum_characters, data.drop_duplicates)
    return (*documents, data.heldout_documents, data.shuffle_seed, trigger, study.corpora)


def _require(right: bool, message: str) -> None:
    if not right:
        raise InputError(message)
