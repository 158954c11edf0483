"""Explicit schedule: positions that are given or read from a file."""

from __future__ import annotations

import dataclasses
import re
from typing import Annotated

import numpy as np
from etils import epath

from poison_scaling.attacks.schedules.schedule import Schedule, Training
from poison_scaling.config.ranges import LARGEST, Between, Length
from poison_scaling.runtime.errors import InputError, shown

Sequence = Annotated[int, Between(0, LARGEST)]


@dataclasses.dataclass(frozen=True)
class Explicit(Schedule):
    """Poisons at given positions, in order. Doses nest. `positions_from` reads them from a file."""

    positions: tuple[tuple[Sequence, Length], ...] = ()  # (training sequence, first token in it)

    def places(self, training: Training, exposures: int) -> np.ndarray:
        if exposures > len(self.positions):
            raise InputError(
                f"schedule: it has {len(self.positions)} positions for {exposures} exposures of poisoned "
                "documents; give one for each."
            )
        chosen = self.positions[:exposures]
        taken: set[int] = set()
        for j, (sequence, offset) in enumerate(chosen):
            problem = None
            if sequence >= training.sequences:
                problem = f"training has sequences 0 to {training.sequences - 1}"
            elif sequence in taken:
                problem = "another poison has that sequence"
            elif sequence % training.attacks != training.attack:
                problem = (
                    f"attack {training.attack} of {training.attacks} owns the sequences i with "
                    f"i % {training.attacks} == {training.attack}"
                )
            if problem:
                raise _refused(j, sequence, offset, problem)
            taken.add(sequence)
        return np.array([sequence for sequence, _ in chosen], np.int64) // training.attacks

    def offsets(self, training: Training, lengths_N: np.ndarray) -> np.ndarray:
        chosen = self.positions[: lengths_N.size]
        for j, ((sequence, offset), length) in enumerate(
            zip(chosen, lengths_N.tolist(), strict=True)
        ):
            if offset + length > training.seq_len:
                problem = f"a poison of {length} tokens does not fit there into {training.seq_len}"
                raise _refused(j, sequence, offset, problem)
        return np.array([offset for _, offset in chosen], np.int64)


def _refused(j: int, sequence: int, offset: int, problem: str) -> InputError:
    return InputError(
        f"schedule: position {j}, sequence {sequence} and offset {offset}: {problem}."
    )


def positions_from(path: str) -> Explicit:
    """Return a schedule with positions from a file of lines "sequence offset", both counted from 0.

    The positions become part of the study and its hash. Raises InputError, naming the line, if
    one is invalid.
    """
    file = epath.Path(path)
    if not file.is_file():
        raise InputError(f"schedule: {path!r}: no such file of positions.")
    positions = []
    for number, line in enumerate(file.read_bytes().decode(errors="replace").splitlines(), 1):
        position = re.fullmatch(r"\s*([0-9]{1,18})[\s,]+([0-9]{1,18})\s*", line)
        if not position:
            raise InputError(
                f"schedule: {path}, line {number}: {shown(line)} is not a sequence and an offset."
            )
        positions.append((int(position[1]), int(position[2])))
    return Explicit(tuple(positions))
