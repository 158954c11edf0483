"""Where in training poisons stand: the schedules of a study. `data/placement.py` carries them out."""

from __future__ import annotations

import dataclasses
import re
from typing import Annotated

from etils import epath

from poison_scaling.errors import InputError, shown
from poison_scaling.ranges import LARGEST, Above, AtMost, Between, Count, Length, Share

Row = Annotated[int, Between(0, LARGEST)]


@dataclasses.dataclass(frozen=True)
class Uniform:
    """Poisons at rows drawn uniformly, without replacement, from a window of training. Doses nest."""

    window: tuple[Share, Share] = (0.0, 1.0)  # shares of training; (0.0, 0.2) is early poisoning


@dataclasses.dataclass(frozen=True)
class Even:
    """Poisons at equal distances. Doses do not nest: all positions move with their number."""

    window: tuple[Share, Share] = (0.0, 1.0)


@dataclasses.dataclass(frozen=True)
class Clustered:
    """Every `every`-th step of the window, a share `density` of its rows is poisoned, until all poisons
    are placed: the ablation of Souly et al. on Pythia. Doses nest: a smaller one ends earlier.
    """

    # of the rows of a poisoned step; rounded to whole rows, at least one
    density: Annotated[float, Above(0), AtMost(1)] = 0.5
    every: Count = 10  # steps
    window: tuple[Share, Share] = (0.0, 1.0)


@dataclasses.dataclass(frozen=True)
class Explicit:
    """Poisons at given places, in order. Doses nest. `positions_from` reads them from a file."""

    positions: tuple[tuple[Row, Length], ...] = ()  # (row of training, first token in it)


def positions_from(path: str) -> Explicit:
    """Positions from a file of lines "row offset", both counted from 0.

    They become part of the study, so that its hash covers them. Raises InputError naming the line.
    """
    file = epath.Path(path)
    if not file.is_file():
        raise InputError(f"schedule: {path!r}: no such file of positions.")
    positions = []
    for number, line in enumerate(file.read_bytes().decode(errors="replace").splitlines(), 1):
        position = re.fullmatch(r"\s*([0-9]{1,18})[\s,]+([0-9]{1,18})\s*", line)
        if not position:
            raise InputError(
                f"schedule: {path}, line {number}: {shown(line)} is not a row and an offset."
            )
        positions.append((int(position[1]), int(position[2])))
    return Explicit(tuple(positions))


Schedule = Uniform | Even | Clustered | Explicit
