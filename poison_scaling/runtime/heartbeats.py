"""Heartbeats of the processes that train one run together, so that all of them end when one does.

JAX has heartbeats too, but a process that misses one is aborted, with exit code 134 and a stack trace. Here,
a process exits with 75 and names the process that is silent, long before JAX would act. A process that fails
tells the others its exit code, and they exit with the same one: the failure is not mistaken for a preemption,
whichever code a launcher looks at.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import signal
import socket
import sys
import threading
import time
from typing import Any

from jax._src import distributed

SILENT_SECONDS = 60  # before a process counts as lost
BEAT_SECONDS = 5
JOIN_SECONDS = 300  # for all processes to have started
JAX_SECONDS = 300  # after which JAX would abort

_BEATS, _FAILED = "poison_scaling/beats", "poison_scaling/failed"
_DONE = "done"


class Heartbeats:
    """The heartbeats of this process and the others, exchanged through the service at which they have met."""

    _client: Any

    def __init__(self):
        state = distributed.global_state
        self._client, self._number, self._count = (
            state.client,
            state.process_id,
            state.num_processes,
        )
        # The last beat of each, and when it came.
        self._heard = dict.fromkeys(range(self._count), ("", 0))
        self._answered = 0
        # Seconds in which this process has run: time for which it is stopped does not count.
        self._now = 0
        self._ended = threading.Event()
        self._beating = threading.Thread(target=self._beat, name="heartbeats", daemon=True)
        self._beating.start()
        threading.Thread(target=self._watch, name="silence", daemon=True).start()
        atexit.register(self._end)

    def _end(self) -> None:
        """Stop before the interpreter does; a process that is done is not silent."""
        _leave_aborts()
        self._ended.set()
        self._beating.join(2 * BEAT_SECONDS)
        with contextlib.suppress(Exception):
            self._client.key_value_set(f"{_BEATS}/{self._number}", _DONE, allow_overwrite=True)

    def failed(self, code: int) -> None:
        """Tell the other processes that this one exits with `code`."""
        with contextlib.suppress(Exception):  # they may be gone
            self._client.key_value_set(f"{_FAILED}/{self._number}", str(code), allow_overwrite=True)
        self.linger()

    def linger(self) -> None:
        """Wait until all processes can have heard of a failure, before this one exits."""
        if self._number == 0:  # JAX's service, which tells the others, ends with this process
            time.sleep(2 * BEAT_SECONDS)

    def failure(self) -> tuple[int, int] | None:
        """Return the number and the exit code of a process that has failed; None if none has said so."""
        asked: list[tuple[int, int]] = []
        asking = threading.Thread(target=lambda: asked.extend(self._failures()), daemon=True)
        asking.start()
        asking.join(BEAT_SECONDS)  # the one that would answer may be silent
        return min(asked, key=lambda failed: (failed[1] != 2, failed), default=None)

    def _failures(self) -> list[tuple[int, int]]:
        try:
            told = self._client.key_value_dir_get(_FAILED)
        except Exception:
            return []
        return [(int(key.rpartition("/")[2]), int(code)) for key, code in told]

    def _beat(self) -> None:
        for beat in range(sys.maxsize):
            with contextlib.suppress(Exception):  # of many types; `_watch` notices when it lasts
                said = f"{beat} {socket.gethostname()}"
                self._client.key_value_set(f"{_BEATS}/{self._number}", said, allow_overwrite=True)
                for key, value in self._client.key_value_dir_get(_BEATS):
                    number = int(key.rpartition("/")[2])
                    if self._heard[number][0] != value:
                        self._heard[number] = (value, self._now)
                self._answered = self._now
                if failures := self._failures():
                    number, code = min(failures, key=lambda failed: (failed[1] != 2, failed))
                    if number != self._number:
                        self.linger()
                        _exit(
                            code,
                            f"{self._name(number)} failed with exit code {code}, and says why.",
                        )
            if self._ended.wait(BEAT_SECONDS):
                return

    def _watch(self) -> None:
        while not self._ended.wait(1):
            self._now += 1
            if silent := self.silent():
                _exit(
                    75,
                    f"{' and '.join(map(self._name, silent))} has been silent for {SILENT_SECONDS} s: "
                    "stopped, hanging, or on a machine that is gone. All processes resume from the last "
                    "checkpoint. The same command resumes from here.",
                )

    def silent(self) -> list[int]:
        """Return the numbers of the processes that have been silent for too long."""
        if self._now - self._answered > SILENT_SECONDS:
            return [0] if self._number else []  # process 0 answers for all
        others = {n: heard for n, heard in self._heard.items() if n != self._number}
        return [
            number
            for number, (said, when) in others.items()
            if said != _DONE and self._answered - when > SILENT_SECONDS
        ]

    def _name(self, number: int) -> str:
        host = self._heard[number][0].partition(" ")[2]
        if number == 0 and not host:  # it has not beaten yet
            host = str(distributed.global_state.coordinator_address).rpartition(":")[0]
        return f"Process {number} of {self._count}" + (f" (on {host})" if host else "")


def _exit(code: int, sentence: str) -> None:
    """Exit at once, from any thread: the main one waits for a process that will not answer."""
    print(sentence, file=sys.stderr, flush=True)
    os._exit(code)


# ------------------------------------------------------------------------------------------ JAX's aborts

_installed: list[Any] = []  # must not be collected while libc may call it


def on_abort(joined: threading.Event) -> None:
    """Exit with 75 instead of 134 if JAX aborts because process 0 is gone or, before `joined`, not all came.

    JAX cannot be told to raise an exception instead. Any other abort is left as it is, because it is a bug.
    """

    def aborted(_: int) -> None:
        state = distributed.global_state
        address, number = str(state.coordinator_address), state.process_id
        if not joined.is_set():
            _exit(75, f"{_missing(address, number)} The same command resumes from here.")
        if number and not _answers(address):
            _exit(
                75,
                f"Process 0, at {address}, is gone; its last output says why. The same command resumes from "
                "here.",
            )

    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(aborted)
    _installed[:] = [handler]
    _libc().signal(signal.SIGABRT, ctypes.cast(handler, ctypes.c_void_p))


def _leave_aborts() -> None:
    _libc().signal(signal.SIGABRT, None)  # SIG_DFL


def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None)
    libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
    libc.signal.restype = ctypes.c_void_p
    return libc


def _missing(address: str, number: int) -> str:
    if number and not _answers(address):
        return f"processes: process 0, at {address}, has not answered process {number} for {JOIN_SECONDS} s."
    return (
        f"processes: not all processes have joined process 0, at {address}, within {JOIN_SECONDS} s; "
        "start the same command on all of them."
    )


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except (OSError, ValueError):
        return False
    return True
