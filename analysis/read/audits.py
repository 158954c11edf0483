"""What `poison-scaling audit` recorded: the documents that corpus filters remove."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from etils import epath

from analysis import files
from analysis.errors import InputError, printable
from analysis.read.fields import number, objects, text


@dataclass(frozen=True)
class Tally:
    """Documents of one kind that a chain of filters removes."""

    documents: int
    removed: int
    filters: dict[str, int]  # how many each filter of the chain removes
    rules: dict[
        str, int
    ]  # how many break each rule, most frequent first; a document may break several
    examples: dict[str, list[str]]  # the beginnings of some that break a rule


@dataclass(frozen=True)
class Chain:
    """A filter, or the filters of a pipeline in their order, and what they remove."""

    name: str
    kind: str  # "filter" or "pipeline"
    about: str  # where a pipeline is published, and what is left out
    filters: tuple[str, ...]
    rules: tuple[tuple[str, str, str], ...]  # name, what it removes, source
    clean: Tally
    attacks: dict[str, Tally]  # by field of the study

    @property
    def title(self) -> str:
        """Return the name, which a filter and a pipeline may share, with its kind."""
        return self.name if self.kind == "filter" else f"{self.name} pipeline"


@dataclass(frozen=True)
class Audit:
    """The audit of a study."""

    study: str
    hash: str
    model: str  # the run whose model scored the documents; "" if none did
    corpus: int  # training documents, of which the clean documents are a sample
    attacks: dict[str, str]  # the kind of each attack, by field of the study
    stages: dict[str, tuple[str, ...]]  # labels of the stages that use it, by field
    chains: tuple[Chain, ...]

    def title(self, field: str) -> str:
        """Return the name of an attack: its kind, or the labels of its stages if it shares the kind."""
        kinds = list(self.attacks.values())
        kind = self.attacks[field]
        return kind if kinds.count(kind) == 1 else ", ".join(self.stages[field]) or field

    def field(self, insertion: int, stage: str | None, kind: str) -> str | None:
        """Return the field of an insertion by its number and kind; None if it was not audited.

        `stage` is the label of the stage as the study has it, None for pretraining.
        """
        if stage is None:
            own = f"also.{insertion - 1}.attack" if insertion else "attack"
            return own if own in self.attacks else None
        fields = [field for field, labels in self.stages.items() if stage in labels]
        # Stages of two levels may have one label.
        alike = [field for field in fields if self.attacks[field] == kind]
        return alike[0] if len(alike) == 1 else None


def read(folder: epath.PathLike) -> Audit | None:
    """Return the audit in a folder; None if there is none. Raises InputError if it cannot be used."""
    file = epath.Path(folder) / "audit.json"
    if not file.exists():
        return None
    record, where = files.read_json(file), str(file)
    attacks = objects(record, "attacks", where)
    return Audit(
        study=text(record, "study", where),
        hash=text(record, "hash", where),
        model=text(record, "model", where, default=""),
        corpus=int(number(_object(record, "clean", where), "of", where, minimum=1)),
        attacks={text(a, "field", at): text(a, "kind", at) for at, a in attacks},
        stages={
            text(a, "field", at): tuple(printable(str(label)) for label in a.get("stages", ()))
            for at, a in attacks
        },
        chains=tuple(_chain(each, at) for at, each in objects(record, "chains", where)),
    )


def _chain(record: dict[str, Any], where: str) -> Chain:
    rules = objects(record, "rules", where)
    names = record.get("filters")
    if not isinstance(names, list):
        raise InputError(f"{where}: field 'filters' is not a list of names.")
    return Chain(
        name=text(record, "name", where),
        kind=text(record, "kind", where),
        about=text(record, "about", where, default=""),
        filters=tuple(printable(str(name)) for name in names),
        rules=tuple(
            (text(r, "name", at), text(r, "removes", at), text(r, "source", at)) for at, r in rules
        ),
        clean=_tally(_object(record, "clean", where), f"{where}, clean"),
        attacks={
            printable(field): _tally(own, f"{where}, attacks, {field}")
            for field, own in _object(record, "attacks", where).items()
        },
    )


def _tally(record: dict[str, Any], where: str) -> Tally:
    documents = int(number(record, "documents", where, minimum=1))
    counts = {
        name: {printable(k): int(v) for k, v in _object(record, name, where).items()}
        for name in ("filters", "rules")
    }
    return Tally(
        documents,
        int(number(record, "removed", where, minimum=0, maximum=documents)),
        counts["filters"],
        counts["rules"],
        {
            printable(rule): [printable(str(one)) for one in some]
            for rule, some in _object(record, "examples", where).items()
        },
    )


def _object(record: dict[str, Any], name: str, where: str) -> dict[str, Any]:
    value = record.get(name)
    if not isinstance(value, dict):
        raise InputError(f"{where}: field {name!r} is missing or not a JSON object.")
    return value
