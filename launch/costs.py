"""What training a study costs: spent so far, and predicted for what is left."""

from __future__ import annotations

import collections
import math

from etils import epath
from slices import Place

from analysis.files import intact_lines
from poison_scaling.study.run import Run
from poison_scaling.workdir import folder


def spent(
    runs: list[Run], workdir: str, place_of: dict[str, Place], price: dict[str, float], each: bool
) -> str:
    """Return what training and evaluating has taken so far, in all and, if `each`, for every run.

    It is from each run's timing.jsonl. Start-up and work that was lost to preemptions are not in there.
    """
    lines, total, cost = [], 0.0, 0.0
    for run in runs:
        place = place_of[run.rung.size]
        taken = _hours(folder.of_run(epath.Path(workdir), run)) * place.chips
        whole = place.hours(run) * place.chips
        rate = price.get(place.chip, math.nan)
        total += taken
        cost += taken * rate if taken else 0.0
        lines.append(
            f"{run.name}: {_number(taken, 3)} chip-hours so far ({_money(taken * rate)}), "
            f"{_number(whole, 3)} predicted for all of it ({_money(whole * rate)})"
        )
    in_all = f"Spent so far: {total:,.4g} chip-hours, {_money(cost)}."
    return "\n".join([*(lines if each else []), in_all])


def _hours(run_folder: epath.Path) -> float:
    """Return the hours in the log of a run, whose seconds count from each time that it was started."""
    total = before = 0.0
    for line in intact_lines(run_folder / "timing.jsonl")[0]:
        seconds = line.get("training_seconds", 0.0) + line.get("evaluation_seconds", 0.0)
        total += seconds - before if seconds >= before else seconds
        before = seconds
    return total / 3600


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
        low, high = _number(min(hours), 3), _number(max(hours), 3)
        span = low if low == high else f"{low}-{high}"
        lines.append(
            f"{size:>8} {len(members):>5} {place!s:>14} {place.chips:>6} {span:>12} "
            f"{_number(chip_hours, 4):>12} {_money(cost):>12}"
        )
        total_hours += sum(hours)
        total_chip_hours += chip_hours
        total_cost += cost
    if math.isnan(total_chip_hours):
        return "\n".join([*lines, "How long CPUs take is not predicted."])
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


def _number(value: float, digits: int) -> str:
    return "unknown" if math.isnan(value) else f"{value:,.{digits}g}"


def _money(value: float) -> str:
    if math.isnan(value):
        return "cost unknown"
    return f"${value:,.0f}" if value >= 100 else f"${value:.2f}"
