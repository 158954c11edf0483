"""The documents that the runs of a study are written and trained from, those of other studies among them."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Generator

from poison_scaling.attacks.attack import Attack
from poison_scaling.attacks.counterexamples import Counterexamples
from poison_scaling.attacks.insertion import Insertion
from poison_scaling.data import documents
from poison_scaling.data.corpora.corpus import Corpus
from poison_scaling.data.documents import Documents
from poison_scaling.data.settings import Bytes, Data
from poison_scaling.runtime.errors import InputError
from poison_scaling.runtime.reporting import Progress
from poison_scaling.study import grid
from poison_scaling.study.settings import Study


class Texts:
    """The documents of every corpus of a study.

    They are found by the settings of the data of a run and, if it is not the run's own, by a corpus. Creating
    it prepares those of pretraining and of all insertions.
    """

    def __init__(self, study: Study, progress: Progress):
        self._progress = progress
        self._known: dict[Data, Documents] = {}
        self.prepare(study.data, "data.corpus")
        for field, attack in study.attacks().items():
            self._prepare_corpora(attack, study.data, f"{field}.")

    def of(self, data: Data, corpus: Corpus | None = None) -> Documents:
        """Return the documents of the corpus of `data`, or of another one that is split like it."""
        return self._known[source(data, corpus)]

    def prepare(self, data: Data, name: str, corpus: Corpus | None = None) -> Documents:
        """Return them after they were prepared; messages of InputError call the corpus `name`."""
        wanted = source(data, corpus)
        if wanted not in self._known:
            with naming("data.corpus", name):
                self._known[wanted] = documents.prepare(wanted, self._progress)
        return self._known[wanted]

    def prepare_origins(self, study: Study) -> None:
        """Prepare what runs of another study wrote documents from, if `study` measures or removes these.

        Raises InputError if that text cannot be read.
        """
        attacks = study.attacks().values()
        removed = {attack.removes for attack in attacks if isinstance(attack, Counterexamples)}
        wanted = {attack for attack in attacks if not isinstance(attack, Attack)} | removed
        origins = {run.origin.name: run.origin for run in grid.runs(study) if run.origin}
        for run in (run for origin in origins.values() for run in (origin, *origin.ancestors)):
            for attack in (p.attack for p in run.poisonings if p.dose and p.attack in wanted):
                try:
                    self.prepare(run.data, "data.corpus")
                    self._prepare_corpora(attack, run.data, "attack.")
                except InputError as e:
                    raise InputError(
                        f"start: {run.name} was trained on {attack.name} made of its own study's text, which "
                        f"cannot be read: {e}"
                    ) from e

    def _prepare_corpora(self, attack: Insertion, data: Data, prefix: str) -> None:
        """Prepare the corpora that an insertion has beside the clean documents."""
        for name, corpus in attack.corpora.items():
            self.prepare(data, f"{prefix}{name}", corpus)


def source(data: Data, corpus: Corpus | None = None) -> Data:
    """Return the settings that documents depend on, the same for the same documents."""
    return dataclasses.replace(
        data,
        corpus=data.corpus if corpus is None else corpus,
        vocabulary=Bytes(),
        seq_len=1,
        epochs=1,
        maximum_clean_triggers=None,
        filters=(),
    )


@contextlib.contextmanager
def naming(before: str, name: str) -> Generator[None]:
    """Let messages of InputError that name the field `before` name the field `name`."""
    try:
        yield
    except InputError as e:
        if name == before:
            raise
        said = str(e).replace(before, name)
        raise InputError(said if name in said else f"{name}: {said}") from e
