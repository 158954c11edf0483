"""The command line, python -m analysis: the report of a study, and tools for planning one."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import Any

import tyro

from analysis.commands.compare import compare_command
from analysis.commands.next import next_command
from analysis.commands.power import power_command
from analysis.commands.report import report_command
from analysis.commands.simulate import simulate_command
from analysis.commands.table import table_command
from analysis.errors import InputError, printable

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
