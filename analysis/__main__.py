"""python -m analysis: the report of a study, and what helps to plan one."""

import dataclasses
import sys
from typing import Annotated, Literal

import tyro
from etils import epath
from rich.console import Console
from rich.table import Table

from analysis import comparison, power, report, simulation
from analysis.errors import InputError
from analysis.words import share

Plain = tyro.conf.OmitArgPrefixes
TRUTH = simulation.Truth()


def report_command(
    source: tyro.conf.Positional[str],
    out: str,
    format: Literal["html", "md"] = "html",
    margin: float = 0.25,
) -> None:
    """Writes the report of a study and prints the answer.

    Further commands, each with its own --help: simulate, power, compare.

    Args:
        source: A study folder (also an unfinished one), or a .csv table.
        out: Folder for index.html (or index.md), summary.json and figures/.
        format: Of the page.
        margin: Half-width of the verdict's zones around exponent 0 (count) and 1 (fraction).
    """
    summary = report.write(source, out, margin=margin, format=format)
    print(report.answer(summary))
    print(f"Report: {epath.Path(out) / f'index.{format}'}")


def compare_command(
    first: tyro.conf.Positional[str],
    second: tyro.conf.Positional[str],
    out: str,
    format: Literal["html", "md"] = "html",
    margin: float = 0.25,
) -> None:
    """Lays two studies side by side: N50 of each size and budget, their ratios, both verdicts.

    Args:
        first: A study folder or table.
        second: The study to set against it.
        out: Folder for index.html (or index.md), summary.json and figures/.
        format: Of the page.
        margin: Half-width of the verdict's zones.
    """
    summary = comparison.write(first, second, out, margin=margin, format=format)
    print(comparison.answer(summary))
    print(f"Report: {epath.Path(out) / f'index.{format}'}")


def simulate_command(
    out: str,
    design: Literal["paper", "ladder"] = "paper",
    sizes: tuple[float, ...] = (1e8, 2e8, 4e8),
    tokens: tuple[float, ...] = (10, 20, 40),
    doses: tuple[int, ...] = (0, 100, 250, 500),
    seeds: int = 3,
    evaluations: int = 12,
    seed: int = 0,
    truth: Annotated[simulation.Truth, Plain] = TRUTH,
) -> None:
    """Writes a study folder with a known law, as the trainer would.

    Args:
        out: The folder; must not hold a study yet.
        design: The published study's sizes and budgets, or every one of `sizes` on every of
            `tokens`.
        sizes: Parameters (ladder).
        tokens: Tokens per parameter (ladder).
        doses: Poisoned documents a run; 0 is a control.
        seeds: Runs of each size, budget and dose.
        evaluations: Per run.
        seed: Of the simulation.
        truth: The law and the noise.
    """
    folder = epath.Path(out)
    if (folder / "study.json").exists():
        raise InputError(f"{folder} already holds a study; choose another folder.")
    if design == "paper":
        chosen = simulation.paper_design(seeds, evaluations, doses)
    else:
        chosen = dataclasses.replace(
            power.ladder(sizes, tokens, doses, seeds), evaluations=evaluations
        )
    study = simulation.simulate(chosen, truth, seed)
    simulation.save(study, folder, seed)
    print(f"{len(study.runs)} simulated runs in {folder}")


def power_command(
    plan: str | None = None,
    sizes: tuple[float, ...] = (1e8, 2e8, 4e8),
    tokens: tuple[float, ...] = (10, 20, 40),
    doses: tuple[int, ...] = (0, 100, 250, 500),
    seeds: int = 3,
    studies: int = 100,
    margin: float = 0.25,
    truth: Annotated[simulation.Truth, Plain] = TRUTH,
) -> None:
    """Says how often a design would decide between count and fraction, by simulating it.

    Args:
        plan: A study.json or the output of `poison-scaling plan CONFIG --json`, instead of the
            four settings that follow.
        sizes: Parameters.
        tokens: Tokens per parameter; every size is trained on each.
        doses: Poisoned documents a run; 0 is a control.
        seeds: Runs of each size, budget and dose.
        studies: To simulate under each law.
        margin: Half-width of the verdict's zones.
        truth: The noise, and N50 at the design's mean size and budget (a is set by each law).
    """
    if studies < 1:
        raise InputError(f"--studies is {studies}; expected at least 1.")
    design = power.planned(epath.Path(plan)) if plan else power.ladder(sizes, tokens, doses, seeds)
    runs = sum(len(cell.doses) for cell in design.cells)
    table = Table(title=f"{runs} runs; {studies} simulated studies under each law")
    for column in ("if the truth is", "right", "undecided", "wrong", "half-width of a"):
        table.add_column(column, justify="left" if column.startswith("if") else "right")
    for result in power.power(design, truth, studies, margin):
        width = "open" if result.halfwidth is None else f"±{result.halfwidth:.2f}"
        undecided = result.verdicts["undecided"] / studies
        table.add_row(result.law, share(result.right), share(undecided), share(result.wrong), width)
    Console().print(table)


COMMANDS = {"compare": compare_command, "power": power_command, "simulate": simulate_command}


def main(arguments: list[str]) -> int:
    """Runs one command; 0 when done, 2 for bad input."""
    name, command = "python -m analysis", report_command
    if arguments and arguments[0] in COMMANDS:
        name, command = f"{name} {arguments[0]}", COMMANDS[arguments[0]]
        arguments = arguments[1:]
    try:
        tyro.cli(command, args=arguments, prog=name)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
