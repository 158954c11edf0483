"""Processes that tests start and signal."""

import sys

# Under `nohup ... &` SIGINT and SIGHUP are ignored from birth, and what is born so hands it on; a shell
# cannot even set a trap for them then.
_RESET = """
import os, signal, sys
for number in (signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)
os.execvp(sys.argv[1], sys.argv[1:])
"""


def heeding_signals(command) -> list[str]:
    """The command as a process that SIGINT and SIGHUP reach, however the tests themselves were started.

    It becomes the command: its number stays.
    """
    return [sys.executable, "-ISc", _RESET, *map(str, command)]


def ignoring_signals(command) -> list[str]:
    """The command as `nohup ... &` starts it."""
    return ["bash", "-c", 'trap "" INT HUP; exec "$@"', "bash", *map(str, command)]
