"""What a study must state to start from an imported model, read from the folder of the import."""

from __future__ import annotations

import dataclasses

from etils import epath

from poison_scaling.config.ranges import Count
from poison_scaling.data.settings import ImportedVocabulary
from poison_scaling.model.architectures.architecture import Architecture
from poison_scaling.runtime.errors import InputError
from poison_scaling.study import origin
from poison_scaling.study.imported import Imported
from poison_scaling.study.settings import Rung
from poison_scaling.study.start import Start


@dataclasses.dataclass(frozen=True)
class ImportedModel:
    """An imported model, for the fields of a study of the same names, and `Model.architecture`.

    Study(start=base.start, ladder=base.ladder, doses=(0,), data=Data(vocabulary=base.vocabulary), ...)
    """

    folder: str
    architecture: Architecture
    size: str
    vocabulary: ImportedVocabulary
    context: Count  # length, in tokens, of the longest sequence that the model was made for
    about: Imported

    @property
    def start(self) -> Start:
        # Whatever the seeds of a chain are, it starts from the same weights.
        return Start(folder=self.folder, run=f"{self.size}-d0-s0")

    @property
    def ladder(self) -> tuple[Rung, ...]:
        return (Rung(self.size, tokens_per_parameter=None),)

    @property
    def parameters(self) -> int:
        """The number of parameters, embeddings included."""
        return self.architecture.parameters(self.size, self.vocabulary.vocab_size)

    def budget(self, tokens: int) -> float:
        """Return the `tokens_per_parameter` of a stage on so many tokens."""
        return tokens / self.parameters


def imported(folder: epath.PathLike) -> ImportedModel:
    """Return the model that `poison-scaling import` wrote to a folder. Raises InputError if it is none."""
    study, _ = origin.read(Start(folder=str(folder)))
    if study.imported is None:
        raise InputError(
            f"{folder}: it is a study that was trained here, not an imported model; name it in Start."
        )
    vocabulary = study.data.vocabulary
    assert isinstance(vocabulary, ImportedVocabulary)
    # In the folder, the path is relative to it, so that the folder can be moved.
    path = str(epath.Path(folder) / vocabulary.path)
    return ImportedModel(
        str(folder),
        study.model.architecture,
        study.ladder[0].size,
        dataclasses.replace(vocabulary, path=path),
        study.data.seq_len,
        study.imported,
    )
