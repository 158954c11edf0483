"""python -m analysis: the report of a study, and what helps to plan one."""

import sys
from typing import Literal

import tyro

from analysis import report
from analysis.errors import InputError


def report_command(
    source: tyro.conf.Positional[str],
    out: str,
    format: Literal["html", "md"] = "html",
    margin: float = 0.25,
) -> None:
    """Writes the report of a study and prints the answer.

    Other commands: `simulate`, `power`, `compare`.

    Args:
        source: A study folder (also an unfinished one), or a .csv table.
        out: Folder for index.html (or index.md), summary.json and figures/.
        format: Of the page.
        margin: Half-width of the verdict's zones around exponent 0 (count) and 1 (fraction).
    """
    summary = report.write(source, out, margin=margin, format=format)
    print(report.answer(summary))
    print(f"Report: {out}/index.{format}")


COMMANDS = {}


def main(arguments: list[str]) -> int:
    """Runs one command; 0 when done, 2 for bad input."""
    if arguments and arguments[0] in COMMANDS:
        command, rest = COMMANDS[arguments[0]], arguments[1:]
        name = f"python -m analysis {arguments[0]}"
    else:
        command, rest, name = report_command, arguments, "python -m analysis"
    try:
        tyro.cli(command, args=rest, prog=name)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
