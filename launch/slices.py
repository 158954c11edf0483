"""The machines on which the runs of a study are trained."""

from __future__ import annotations

import dataclasses
import math

from poison_scaling import Study
from poison_scaling.runtime import chips
from poison_scaling.runtime.errors import InputError
from poison_scaling.study import grid
from poison_scaling.study.run import Run

# The cloud's names for slices of a chip: prefix, what one chip counts as, runtime image. v7 is there for
# Kubernetes alone.
_CLOUD = {
    "v4": ("v4", 2, "tpu-ubuntu2204-base"),
    "v5e": ("v5litepod", 1, "v2-alpha-tpuv5-lite"),
    "v5p": ("v5p", 2, "v2-alpha-tpuv5"),  # counted in cores, two per chip
    "v6e": ("v6e", 1, "v2-alpha-tpuv6e"),
    "v7": ("tpu7x", 2, ""),
}


_FLAT = ("v5e", "v6e")  # may have 8 chips on one machine
_GPUS_A_NODE = 8


@dataclasses.dataclass(frozen=True)
class Place:
    """Machines for one run: slices of a TPU ("v5p", "4x4x4"), or nodes with GPUs ("h100", "8") or CPUs.

    On a CPU, `shape` is the number of processes of a node, each on `machine.cores` cores.
    """

    chip: str
    shape: str
    count: int = 1

    def __str__(self) -> str:
        return f"{self.chip}:{self.shape}" + (f"*{self.count}" if self.count > 1 else "")

    @property
    def is_cpu(self) -> bool:
        return self.chip == "cpu"

    @property
    def nodes(self) -> tuple[int, int]:
        """The number of machines, and the number of chips of each."""
        chips_each = chips.count(self.shape)
        if self.is_tpu and "x" in self.shape:
            hosts = (
                1
                if chips_each <= 4 or (chips_each == 8 and self.chip in _FLAT)
                else chips_each // 4
            )
            return hosts * self.count, chips_each // hosts
        return self.count, chips_each

    @property
    def chips(self) -> int:
        return chips.count(self.shape) * self.count

    @property
    def is_tpu(self) -> bool:
        return self.chip in _CLOUD

    @property
    def accelerator_type(self) -> str:
        """The type of one slice for gcloud and XPK: "v5p-128"."""
        prefix, each, _ = _CLOUD[self.chip]
        return f"{prefix}-{chips.count(self.shape) * each}"

    @property
    def runtime_version(self) -> str:
        return _CLOUD[self.chip][2]

    def hours(self, run: Run) -> float:
        """Return the predicted wall time of training, in hours, at the study's `machine.mfu`; NaN on CPUs."""
        if self.is_cpu:
            return math.nan
        return run.hours(chips.CHIPS[self.chip].flops * self.chips)


def parse(text: str, field: str) -> Place:
    """Return the place for "v5p:4x4x4", "v5p:4x4x4*2", "h100:8", "h100:4*2" or "cpu:1".

    Raises InputError if there is none.
    """
    topology, _, count = text.partition("*")
    chip, _, shape = topology.partition(":")
    if count and not (count.isdigit() and int(count)):
        raise InputError(f"{field} {text!r}: give the number of slices after *.")
    if chip == "cpu" or (chip in chips.CHIPS and chip not in _CLOUD):
        if not (shape.isdigit() and int(shape)):
            what = "processes" if chip == "cpu" else "GPUs"
            raise InputError(f"{field} {text!r}: give the number of {what} after {chip}:.")
        nodes, rest = divmod(int(shape), _GPUS_A_NODE)
        if chip == "cpu" or count or not nodes:
            return Place(chip, shape, int(count or 1))
        if rest:
            raise InputError(
                f"{field} {text!r}: above {_GPUS_A_NODE}, give the GPUs of a node and the number of nodes, "
                f"like {chip}:4*3."
            )
        return Place(chip, str(_GPUS_A_NODE), nodes)
    chips.parse(topology, field)
    return Place(chip, shape, int(count or 1))


def places(study: Study, overrides: tuple[str, ...]) -> dict[str, Place]:
    """Return the place of each size: that of an override SIZE=PLACE, or else that of the study.

    Raises InputError, naming the sizes, if any has none.
    """
    sizes = list(dict.fromkeys(rung.size for rung in study.ladder))
    found = {}
    for place in study.machine.slices:
        found[place.size] = parse(f"{place.topology}*{place.count}", "machine.slices")
    for text in overrides:
        size, equals, place = text.partition("=")
        if not equals or size not in sizes:
            raise InputError(
                f"--slice {text!r}: write it as SIZE=SLICE, like {sizes[0]}=v5p:2x2x4; "
                f"the sizes of this study are {', '.join(sizes)}."
            )
        found[size] = parse(place, f"--slice {size}=")
    missing = [size for size in sizes if size not in found]
    if missing:
        raise InputError(
            f"machine.slices: the study names no slice for {', '.join(missing)}; add it there, or give "
            f"--slice {missing[0]}=v5p:2x2x4."
        )
    return {size: found[size] for size in sizes}


def prices(texts: tuple[str, ...]) -> dict[str, float]:
    """Return the price of a chip-hour, by chip, from "v5p=4.20". Raises InputError if one is invalid."""
    found = {}
    for text in texts:
        chip, _, price = text.partition("=")
        try:
            found[chip] = float(price)
        except ValueError:
            found[chip] = math.nan
        if chip not in chips.CHIPS or not 0 <= found[chip] < math.inf:
            raise InputError(
                f"--price {text!r}: write it as CHIP=PRICE of one chip for an hour, like v5p=4.20; the "
                f"chips are {', '.join(chips.CHIPS)}."
            )
    return found


def longest_first(left: list[Run], place_of: dict[str, Place]) -> list[Run]:
    return sorted(left, key=lambda run: -run.flops / max(place_of[run.rung.size].chips, 1))


def of(study: Study, names: tuple[str, ...]) -> list[Run]:
    """Return the runs with these names; all runs if there are no names."""
    return [grid.run_named(study, name) for name in names] if names else list(grid.runs(study))
