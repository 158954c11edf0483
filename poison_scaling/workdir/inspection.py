"""Show the sequences of a training step as text, with documents separated and poisons marked."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
from rich.text import Text

from poison_scaling.runtime.errors import InputError
from poison_scaling.study import manifest
from poison_scaling.study.inputs import Inputs
from poison_scaling.study.manifest import Exposure
from poison_scaling.study.run import Run

_POISON_STYLE = "bold red"
_TITLE_STYLE = "cyan"


@dataclasses.dataclass(frozen=True)
class Part:
    """The part of a sequence that belongs to one document, clean or poisoned."""

    text: str
    poison: bool


@dataclasses.dataclass(frozen=True)
class TrainedOn:
    """A sequence of a batch; `attack`, `poison` and `exposure` identify its poison, None if it has none."""

    sequence: int  # of the training stream
    step: int
    clean_sequence: int  # on disk
    attack: int | None
    poison: int | None
    exposure: int | None
    parts: tuple[Part, ...]


def batch(run: Run, inputs: Inputs, step: int) -> list[TrainedOn]:
    """Return the sequences that a step, from 0, trains on. Raises InputError if there is no such step."""
    if not 0 <= step < run.steps:
        raise InputError(f"--step {step}: {run.name} has steps 0 to {run.steps - 1}.")
    stream = inputs.stream(run)
    B = run.train.batch_size
    indices = np.arange(step * B, (step + 1) * B)
    tokens_NxL, poison_NxL, *_ = stream.read(indices)
    exposures = {record["sequence"]: record for record in manifest.exposures(stream, B)}
    clean = stream.clean_numbers(indices)
    return [
        TrainedOn(
            sequence=int(index),
            step=step,
            clean_sequence=int(clean[n]),
            **_poison(exposures.get(index)),
            parts=_parts(tokens_NxL[n], poison_NxL[n], inputs),
        )
        for n, index in enumerate(indices.tolist())
    ]


def step_of_poison(run: Run, inputs: Inputs, poison: int) -> int:
    """Return the first step with a poison of the first attack. Raises InputError if there is none."""
    placed = inputs.stream(run).placement.of_attack(0)
    sequences = placed.sequence_N[placed.document_N == poison]
    if not sequences.size:
        dose = run.poisonings[0].dose
        passed = inputs.passed(run)
        if poison < dose and passed and (broken := passed[0].decisions[poison].broken):
            raise InputError(
                f"--poison {poison}: {run.name} does not show it, because data.filters catch it "
                f"({', '.join(broken)})."
            )
        if poison < dose:
            raise InputError(f"--poison {poison}: {run.name} shows it 0 times.")
        has = f"has poisons 0 to {dose - 1}" if dose else "has none"
        raise InputError(f"--poison {poison}: {run.name} {has}.")
    return int(sequences.min()) // run.train.batch_size


def _poison(exposure: Exposure | None) -> dict[str, int | None]:
    if exposure is None:
        return {"attack": None, "poison": None, "exposure": None}
    return {name: exposure[name] for name in ("attack", "poison", "exposure")}


def _parts(tokens_L: np.ndarray, poison_L: np.ndarray, inputs: Inputs) -> tuple[Part, ...]:
    """Split a sequence after each end-of-document token and at the boundaries of poisons, without padding."""
    ends = np.flatnonzero(tokens_L == inputs.end) + 1
    edges = np.flatnonzero(np.diff(poison_L)) + 1
    cuts = sorted({0, tokens_L.size, *ends.tolist(), *edges.tolist()})
    unseen = (inputs.end, inputs.vocabulary.pad_id)
    parts = []
    for first, last in itertools.pairwise(cuts):
        ids = [int(i) for i in tokens_L[first:last] if i not in unseen]
        if ids:
            parts.append(Part(inputs.vocabulary.decode(ids), bool(poison_L[first])))
    return tuple(parts)


def render(sequences: list[TrainedOn]) -> Text:
    """Return sequences as rich text, with poisons in colour and, for plain text, between brackets."""
    text = Text()
    for own in sequences:
        title = f"── sequence {own.sequence}, step {own.step}, clean sequence {own.clean_sequence}"
        if own.poison is not None:
            title += f", attack {own.attack} poison {own.poison} exposure {own.exposure}"
        text.append(title + "\n", _TITLE_STYLE)
        for number, part in enumerate(own.parts):
            if number:
                text.append("\n  ·\n", _TITLE_STYLE)
            if part.poison:
                text.append(f"⟦poison {own.poison}⟧ {part.text} ⟦end⟧", _POISON_STYLE)
            else:
                text.append(part.text)
        text.append("\n\n")
    return text
