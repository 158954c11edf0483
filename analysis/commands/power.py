"""The command that estimates what a design can decide."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

import tyro
from etils import epath
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from analysis.commands.designs import DOSES, RATIOS, SIZES, named_design
from analysis.design import cells, power, simulation, worlds
from analysis.design import fitted as fitting
from analysis.errors import InputError, printable
from analysis.fit.words import percent
from analysis.read.runs import counted_by
from analysis.read.sources import load

Plain = tyro.conf.OmitArgPrefixes
TRUTH = simulation.Truth()


def power_command(
    plan: str | None = None,
    source: Annotated[str | None, tyro.conf.arg(name="from")] = None,
    design: Literal["paper", "ladder"] | None = None,
    sizes: tuple[float, ...] | None = None,
    tokens: tuple[float, ...] | None = None,
    doses: tuple[int, ...] | None = None,
    seeds: int | None = None,
    studies: int = 100,
    laws: tuple[float, ...] | None = None,
    margin: float = 0.25,
    world: str | None = None,
    truth: Annotated[simulation.Truth, Plain] = TRUTH,
) -> None:
    """Estimate how often a design would decide between count and fraction, by simulation.

    Args:
        plan: A study.json or the output of `poison-scaling plan CONFIG --json`, instead of the
            five settings that follow.
        source: A study, finished or not: its noise, slope, floor, lapse and N50 are simulated, and its design
            unless another is given.
        design: Souly et al. 2025's sizes and budgets, or every size on every ratio of tokens.
        sizes: Parameters (ladder).
        tokens: Tokens per parameter (ladder).
        doses: Poisoned documents a run; 0 is a control.
        seeds: Runs of each size, budget and dose.
        studies: Studies to simulate under each law.
        laws: Exponents of tokens to simulate; 0 is the count law, 1 the fraction law. By default both, and
            with --from also what was fitted.
        margin: Half-width of the verdict's zones.
        world: Instead of a design and laws: a world in which the model does not hold, by its name in
            analysis/design/worlds.py ("all": each of them).
        truth: The noise, and N50 at the design's mean size and budget; `a` is set by `laws`. Not used with
            --from.
    """
    if studies < 1:
        raise InputError(f"--studies is {studies}; expected at least 1.")
    if world is not None:
        _print_worlds(world, studies, margin)
        return
    study = None if source is None else load(source)
    fitted = None if study is None else fitting.fit(counted_by(study, study.rule), margin)
    if fitted is not None:
        _print_noise(fitted)
    given = None if fitted is None else fitted.design
    if plan is not None:
        chosen = cells.planned(epath.Path(plan))
    elif given is not None and design is None:
        chosen = cells.changed(given, sizes, tokens, doses, seeds)
    else:
        chosen = named_design(
            design or "ladder", sizes or SIZES, tokens or RATIOS, doses or DOSES, seeds or 3
        )
    if given is not None:
        chosen = dataclasses.replace(chosen, evaluations=given.evaluations, prompts=given.prompts)
    if laws is None:
        laws = (0.0, 1.0) if fitted is None else (0.0, 1.0, round(fitted.truth.a, 2))
    runs = sum(len(cell.doses) for cell in chosen.cells)
    table = Table(title=f"{runs} runs; {studies} simulated studies under each law")
    columns = ("true a", "right", "undecided", "wrong", "interval of a")
    for column in (*columns, "a covered", "g covered", "N50 covered"):
        table.add_column(column, justify="right")
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("simulating", total=studies * len(laws))
        for a in laws:
            result = power.simulate_power(
                chosen,
                fitted.at(chosen, a) if fitted else dataclasses.replace(truth, a=a),
                studies,
                margin,
                seed=round(1e6 * abs(a)),  # other studies under each law, the same each time
                tick=lambda: progress.advance(task),
            )
            decided = percent(result.right), percent(result.wrong)
            table.add_row(
                f"{a:g}",
                decided[0],
                percent(1 - result.right - result.wrong)
                if a <= margin or abs(a - 1) <= margin
                else "-",
                decided[1],
                "open" if result.halfwidth is None else f"±{result.halfwidth:.2f}",
                *("-" if c is None else f"{100 * c:.1f}%" for c in result.coverage.values()),
            )
    Console().print(table)


def _print_noise(fitted: fitting.Fitted) -> None:
    """Print what a study gives to its simulation, and what speaks against its fit."""
    t = fitted.truth
    print(
        f"Fitted: N50 {t.n50:.0f} at the mean size and budget, g = {t.g:.2f}, standard deviations of log N50 "
        f"{t.seed_sd:.2f} (seeds) and {t.run_sd:.2f} (runs), scatter {t.scatter:.2f}, slope {t.slope:.1f}, "
        f"floor {t.floor:.2f}, lapse {t.lapse:.3f}, prompts correlated by {t.correlation:.2f}."
    )
    for found in fitted.conclusion.withdrawn:
        print(printable(f"warning: the fit does not hold ({found.name}): {found.sentence}"))


def _print_worlds(name: str, studies: int, margin: float) -> None:
    """Print how answers fare in a world, or in all."""
    if name != "all" and name not in worlds.WORLDS:
        known = ", ".join(worlds.WORLDS)
        raise InputError(f"--world is {name!r}; expected all, or one of {known}.")
    table = Table(title=f"{studies} simulated studies in each world")
    columns = ("N50 covered", "N50 withdrawn", "a covered", "a withdrawn", "interval of a", "wrong")
    table.add_column("world")
    for column in columns:
        table.add_column(column, justify="right")
    for each in worlds.WORLDS if name == "all" else (name,):
        result = power.simulate_world(worlds.WORLDS[each], studies, margin)
        cells_of_row = []
        for quantity in ("N50", "a"):
            covered = result.coverage[quantity]
            cells_of_row.append("-" if covered is None else f"{100 * covered:.1f}%")
            cells_of_row.append(f"{100 * result.withdrawn[quantity]:.1f}%")
        width = "open" if result.halfwidth is None else f"±{result.halfwidth:.2f}"
        table.add_row(each, *cells_of_row, width, percent(result.wrong))
    Console().print(table)
