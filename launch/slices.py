"""The slices on which the runs of a study are trained, and their cost."""

from __future__ import annotations

import collections
import dataclasses
import math
import os

from poison_scaling import Study
from poison_scaling.runtime import chips
from poison_scaling.runtime.errors import InputError
from poison_scaling.study import grid
from poison_scaling.study.run import Run

# The cloud's names for slices of a chip: prefix, what one chip counts as, runtime image.
_CLOUD = {
    "v5e": ("v5litepod", 1, "v2-alpha-tpuv5-lite"),
    "v5p": ("v5p", 2, "v2-alpha-tpuv5"),  # counted in cores, two per chip
    "v6e": ("v6e", 1, "v2-alpha-tpuv6e"),
}


@dataclasses.dataclass(frozen=True)
class Place:
    """Machines for one run: `count` slices of a TPU ("v5p", "4x4x4"), or GPUs ("h100", "8")."""

    chip: str
    shape: str
    count: int = 1

    def __str__(self) -> str:
        return f"{self.chip}:{self.shape}" + (f"*{self.count}" if self.count > 1 else "")

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
        """Return the predicted wall time of training, in hours, at the study's `machine.mfu`."""
        return run.hours(chips.CHIPS[self.chip].flops * self.chips)


def parse(text: str, field: str) -> Place:
    """Return the place for "v5p:4x4x4", "v5p:4x4x4*2" or "h100:8". Raises InputError if there is none."""
    topology, _, count = text.partition("*")
    chip, _, shape = topology.partition(":")
    if count and not (count.isdigit() and int(count)):
        raise InputError(f"{field} {text!r}: give the number of slices after *.")
    if chip in chips.CHIPS and chip not in _CLOUD:
        if not (shape.isdigit() and int(shape)):
            raise InputError(f"{field} {text!r}: give the number of GPUs after {chip}:.")
        return Place(chip, shape, int(count or 1))
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


def require(settings: tuple[str, ...], place_of: dict[str, Place], tpus_only: str) -> None:
    """Raise InputError if environment variables are missing, naming all, or if a place is not a TPU.

    `tpus_only` is the sentence that explains why only TPUs will do.
    """
    missing = [setting for setting in settings if not os.environ.get(setting)]
    if missing:
        raise InputError(
            f"settings are missing: {', '.join(missing)}; give them as environment variables."
        )
    for size, place in place_of.items():
        if not place.is_tpu:
            raise InputError(f"--slice {size}={place}: {tpus_only}; GPUs need --backend slurm.")


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


def estimate(
    left: list[Run], place_of: dict[str, Place], price: dict[str, float], at_once: int
) -> str:
    """Return a table of the time and cost of training these runs."""
    by_size = collections.defaultdict(list)
    for run in left:
        by_size[run.rung.size].append(run)
    lines = [
        f"{'size':>8} {'runs':>5} {'slice':>14} {'chips':>6} "
        f"{'hours a run':>12} {'chip-hours':>12} {'cost':>12}"
    ]
    total_hours = total_chip_hours = total_cost = 0.0
    for size, members in by_size.items():
        place = place_of[size]
        hours = [place.hours(run) for run in members]
        chip_hours = sum(hours) * place.chips
        cost = chip_hours * price[place.chip] if place.chip in price else math.nan
        low, high = f"{min(hours):,.3g}", f"{max(hours):,.3g}"
        span = low if low == high else f"{low}-{high}"
        lines.append(
            f"{size:>8} {len(members):>5} {place!s:>14} {place.chips:>6} {span:>12} "
            f"{chip_hours:>12,.4g} {_money(cost):>12}"
        )
        total_hours += sum(hours)
        total_chip_hours += chip_hours
        total_cost += cost
    study = left[0].study
    lines += [
        f"In all {total_chip_hours:,.4g} chip-hours, {_money(total_cost)}; about "
        f"{total_hours / min(at_once, len(left)) / 24:,.3g} days with {at_once} at a time.",
        f"Training alone, at {study.machine.mfu:.0%} of the chips' peak (machine.mfu): start-up, evaluation "
        "and work lost to preemptions are extra.",
    ]
    unknown = sorted({place_of[size].chip for size in by_size} - set(price))
    if unknown:
        lines.append(f"The cost needs --price {unknown[0]}=PRICE of one chip for an hour.")
    return "\n".join(lines)


def _money(value: float) -> str:
    return (
        "cost unknown"
        if math.isnan(value)
        else f"${value:,.0f}"
        if value >= 100
        else f"${value:.2f}"
    )


def longest_first(left: list[Run], place_of: dict[str, Place]) -> list[Run]:
    return sorted(left, key=lambda run: -place_of[run.rung.size].hours(run))


def of(study: Study, names: tuple[str, ...]) -> list[Run]:
    """Return the runs with these names; all runs if there are no names."""
    return [grid.run_named(study, name) for name in names] if names else list(grid.runs(study))
