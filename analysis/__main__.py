"""The command line, python -m analysis: the report of a study, and tools for planning one."""

from __future__ import annotations

import dataclasses
import io
import json as json_text
import sys
from collections.abc import Callable
from typing import Annotated, Any, Literal

import tyro
from etils import epath
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from analysis import report
from analysis.design import advice as advising
from analysis.design import cells, power, simulation, study_folder, worlds
from analysis.design import fitted as fitting
from analysis.errors import InputError, printable
from analysis.fit.words import percent
from analysis.measures import load_file
from analysis.read import costs, export
from analysis.read.sources import load, load_all
from analysis.report import comparison, laws

Plain = tyro.conf.OmitArgPrefixes
TRUTH = simulation.Truth()
# Of a design that is not given.
SIZES, RATIOS, DOSES = (1e8, 2e8, 4e8), (10.0, 20.0, 40.0), (0, 100, 250, 500)


def report_command(
    sources: tyro.conf.Positional[tuple[str, ...]],
    out: str,
    format: Literal["html", "md"] = "html",
    margin: float | None = None,
    threshold: float | None = None,
    level: int | None = None,
    insertion: str | None = None,
    measures: tyro.conf.UseAppendAction[tuple[str, ...]] = (),
    columns: tuple[str, ...] = (),
) -> None:
    """Write the report of a study and print the answer; of several studies, the figure of their laws.

    Further commands, each with its own --help: simulate, power, next, compare, table.

    Args:
        sources: A study folder, finished or not, a .csv table, or results of t0-training; or several.
        out: Folder for index.html (or index.md), summary.json and figures/.
        format: Format of the page.
        margin: Half-width of the verdict's zones around exponent 0 (count) and 1 (fraction); by default, as
            the study fixed it beforehand, or 0.25. The report says when it is another.
        threshold: Count as success a perplexity increase above this; by default, as the study fixed it, or
            as it was recorded.
        level: Of a study with stages: the number of stages since pretraining; by default, that of the
            last that has poisons.
        insertion: Of runs with several insertions, the one to report on; by default the first.
        measures: A Python file that defines measures of your own, which is imported; may be repeated.
        columns: Columns that a table calls otherwise, such as success=asr poisons_seen=n_poison.
    """
    for file in measures:
        load_file(file)
    if not sources:
        raise InputError("Give a study folder or a .csv table, or several.")
    if len(sources) > 1:
        if threshold is not None or level is not None or insertion is not None:
            raise InputError("--threshold, --level and --insertion are for a report on one study.")
        given = 0.25 if margin is None else margin
        found = laws.write(sources, out, margin=given, columns=columns, format=format)
        print(laws.answer(found))
        print(printable(f"Report: {epath.Path(out) / f'index.{format}'}"))
        return
    summary = report.write(
        sources[0],
        out,
        margin=margin,
        threshold=threshold,
        columns=columns,
        level=level,
        insertion=insertion,
        format=format,
    )
    print(report.answer(summary))
    print(printable(f"Report: {epath.Path(out) / f'index.{format}'}"))


def compare_command(
    first: tyro.conf.Positional[str],
    second: tyro.conf.Positional[str],
    out: str,
    format: Literal["html", "md"] = "html",
    margin: float = 0.25,
) -> None:
    """Compare two studies: N50 of each size and budget, their ratios, both verdicts.

    Args:
        first: A study folder or table.
        second: The study to compare it with.
        out: Folder for index.html (or index.md), summary.json and figures/.
        format: Format of the page.
        margin: Half-width of the verdict's zones.
    """
    summary = comparison.write(first, second, out, margin=margin, format=format)
    print(comparison.answer(summary))
    print(printable(f"Report: {epath.Path(out) / f'index.{format}'}"))


def table_command(source: tyro.conf.Positional[str], out: str) -> None:
    """Write a study as tables, one for each of its insertions, from which its fits can be repeated.

    Args:
        source: A study folder.
        out: The table of the first insertion, such as study.csv; that of another is study-NAME.csv.
    """
    path = epath.Path(out)
    if path.suffix != ".csv":
        raise InputError(f"--out {out}: give a name that ends in .csv.")
    for number, study in enumerate(load_all(source)):
        name = study.runs[0].settings.get("attack", str(number))
        file = path if not number else path.with_name(f"{path.stem}-{name}.csv")
        export.write(study, file)
        print(printable(f"{sum(len(run.success) for run in study.runs)} evaluations in {file}"))


def simulate_command(
    out: str,
    design: Literal["paper", "ladder"] = "paper",
    sizes: tuple[float, ...] = SIZES,
    tokens: tuple[float, ...] = RATIOS,
    doses: tuple[int, ...] = DOSES,
    seeds: int = 3,
    evaluations: int = 12,
    seed: int = 0,
    truth: Annotated[simulation.Truth, Plain] = TRUTH,
) -> None:
    """Write a study folder with a known law, as the trainer would.

    Args:
        out: The folder; must not contain a study yet.
        design: Souly et al. 2025's sizes and budgets, or every size on every ratio of tokens.
        sizes: Parameters (ladder).
        tokens: Tokens per parameter (ladder).
        doses: Poisoned documents a run; 0 is a control.
        seeds: Runs of each size, budget and dose.
        evaluations: Evaluations a run.
        seed: Seed of the simulation.
        truth: The law and the noise.
    """
    folder = epath.Path(out)
    if (folder / "study.json").exists():
        raise InputError(f"{folder} already contains a study; choose another folder.")
    chosen = _design(design, sizes, tokens, doses, seeds)
    chosen = dataclasses.replace(chosen, evaluations=evaluations)
    study = simulation.simulate(chosen, truth, seed)
    study_folder.save(study, folder, seed)
    print(f"{len(study.runs)} simulated runs in {folder}")


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
    fitted = None if source is None else fitting.fit(load(source), margin)
    if fitted is not None:
        _print_noise(fitted)
    given = None if fitted is None else fitted.design
    if plan is not None:
        chosen = cells.planned(epath.Path(plan))
    elif given is not None and design is None:
        chosen = cells.changed(given, sizes, tokens, doses, seeds)
    else:
        chosen = _design(
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


def next_command(
    folder: tyro.conf.Positional[str],
    budget: str,
    question: Literal["data", "size", "ladder"] | None = None,
    tokens: tuple[float, ...] = (),
    doses: tuple[int, ...] = (),
    jobs: int = 1,
    json: bool = False,
) -> None:
    """Propose the runs that would shrink the interval of an exponent most per second, or per FLOP.

    Args:
        folder: A study folder, finished or not.
        budget: What they may cost: a time (90s, 30m, 2h, 1.5d), at the speeds that the study recorded, or
            FLOPs (1e15).
        question: The exponent to tell: of data at fixed size, of size at fixed data, or along the ladder; by
            default, as the study fixed it.
        tokens: Tokens per parameter to consider beside those of the study.
        doses: Doses to consider beside those of the study.
        jobs: Runs that are trained at a time, for budgets of time.
        json: Print JSON instead of a table.
    """
    if jobs < 1:
        raise InputError(f"--jobs is {jobs}; expected at least 1.")
    amount = costs.Budget.parse(budget)
    advice = advising.advise(epath.Path(folder), amount, question, tokens, doses, jobs)
    if json:
        print(json_text.dumps(advice.as_json(), indent=1))
        return
    table = Table(title=f"{len(advice.proposals)} runs, {amount.words(advice.cost)}")
    for column in ("size", "tokens per parameter", "dose", "seeds", "cost", "interval then"):
        table.add_column(column, justify="left" if column == "size" else "right")
    for row in advice.rows():
        table.add_row(*row)
    Console().print(table)
    now = "open" if advice.now is None else f"±{advice.now:.2f}"
    print(
        f"The interval of the exponent ({advice.question}) is {now} now (±{advice.expected_now:.2f} in the "
        "linearised model that the table is computed with)."
    )
    print("In the study file, for `poison-scaling study` with the same --workdir:")
    print("\n".join(printable(f"    {line}") for line in advice.settings))


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


def _design(
    design: str,
    sizes: tuple[float, ...],
    tokens: tuple[float, ...],
    doses: tuple[int, ...],
    seeds: int,
) -> cells.Design:
    if design == "paper":
        return cells.paper_design(seeds, doses=doses)
    return cells.ladder(sizes, tokens, doses, seeds)


COMMANDS: dict[str, Callable[..., None]] = {
    "compare": compare_command,
    "next": next_command,
    "power": power_command,
    "simulate": simulate_command,
    "table": table_command,
}


def main(arguments: list[str]) -> int:
    """Run one command and return its exit code: 2 for bad input or a file that cannot be written, else 0."""
    name = "python -m analysis"
    command: Callable[..., Any] = report_command
    if arguments and arguments[0] in COMMANDS:
        name, command = f"{name} {arguments[0]}", COMMANDS[arguments[0]]
        arguments = arguments[1:]
    try:
        tyro.cli(command, args=arguments, prog=name)
    except (InputError, OSError) as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(
                errors="backslashreplace"
            )  # terminals without a character for infinity
    sys.exit(main(sys.argv[1:]))
