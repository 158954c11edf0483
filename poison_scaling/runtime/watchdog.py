"""Whether a run makes progress: steps, parts of evaluations, prepared data.

A process can be alive and yet hang for ever: in a collective operation, on a network disk, in user code. To
those who watch it from outside, progress shows as the modification time of a file, POISON_SCALING_HEARTBEAT.
Where several processes train together, each also ends itself, so that every launcher can start them again.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import sys
import threading
import time
from collections.abc import Generator

_FILE_SECONDS = 10  # between two changes of the file
_TICK_SECONDS = 5

_made = 0  # counts up
_waiting = False
_touched = -float(_FILE_SECONDS)


def progress() -> None:
    """Note that something was done. Cheap enough for every step."""
    global _made, _touched
    _made += 1
    now = time.monotonic()
    file = os.environ.get("POISON_SCALING_HEARTBEAT")
    if file and now - _touched >= _FILE_SECONDS:
        _touched = now
        with contextlib.suppress(OSError):
            pathlib.Path(file).touch()


@contextlib.contextmanager
def waiting() -> Generator[None]:
    """Wait for other processes within the block: it is their progress that counts."""
    global _waiting
    _waiting = True
    try:
        yield
    finally:
        _waiting = False
        progress()


def start(minutes: float) -> None:
    """Exit with 75 once this process has made no progress for so many minutes."""
    threading.Thread(target=_watch, args=(minutes * 60,), name="watchdog", daemon=True).start()


def _watch(limit: float) -> None:
    seen, seconds = -1, 0
    while seconds < limit:
        time.sleep(_TICK_SECONDS)
        # Counted, not measured: the time for which the process is stopped is not held against it.
        seconds = 0 if _waiting or seen != _made else seconds + _TICK_SECONDS
        seen = _made
    print(
        f"No step, part of an evaluation or preparation has ended for {limit / 60:g} minutes "
        "(machine.stall_minutes); this process hangs, or waits for one that does. The same command resumes "
        "from here.",
        file=sys.stderr,
        flush=True,
    )
    os._exit(75)
