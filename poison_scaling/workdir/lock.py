"""Lock files that admit one writer to a study folder and become stale when their holder dies.

DIR/writers/study.json is held by a command that trains all runs, DIR/writers/RUN.json by one that trains a
single run. Different runs may be trained by several commands at once, but not beside one that trains all.

A lock is stale when its holder is dead. On the holder's own machine the process table tells. Elsewhere the
heartbeat does: the holder changes the lock every few seconds, and a lock that no longer changes is stale.
Clocks of different machines are never compared. A bucket cannot refuse to overwrite a file: if several write
at once, the last one holds the lock.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import pathlib
import secrets
import socket
import threading
import time
from collections.abc import Generator

from etils import epath

from analysis.files import in_bucket
from poison_scaling.runtime.errors import InputError

_STUDY = "study"
_BEATS_MISSED = 10  # before a lock is stale
_SETTLING_SECONDS = 0.5  # for one of two commands that started at once to give way


class Lock:
    """A lock that is held. `lost` is set when another writer has taken it; this one must then stop."""

    def __init__(self, path: epath.Path):
        self.path = path
        self.lost = threading.Event()
        self._token = secrets.token_hex(8)
        self._beat_seconds = 10.0 if in_bucket(path) else 1.0
        self._beats = 0
        self._ended = threading.Event()

    def _text(self) -> str:
        return json.dumps({**_me(), "token": self._token, "beat": self._beats}) + "\n"

    def _create(self) -> bool:
        """Create the lock and return True; return False if it exists already."""
        if in_bucket(self.path):
            if self.path.exists():
                return False
            self.path.write_text(self._text())
            time.sleep(2 * _SETTLING_SECONDS)
            return _read(self.path).get("token") == self._token
        try:
            with open(self.path, "x", encoding="utf-8") as file:
                file.write(self._text())
        except FileExistsError:
            return False
        return True

    def _beat(self) -> None:
        """Change the lock at intervals until it is released, and notice if another writer has taken it."""
        while not self._ended.wait(self._beat_seconds):
            with contextlib.suppress(Exception):  # the file system may be unavailable for a while
                if _read(self.path).get("token", self._token) != self._token:
                    self.lost.set()
                    return
                self._beats += 1
                if in_bucket(self.path):
                    self.path.write_text(self._text())
                else:
                    os.utime(self.path)

    def _release(self) -> None:
        self._ended.set()
        with contextlib.suppress(OSError):
            if _read(self.path).get("token") == self._token:
                self.path.unlink()


@contextlib.contextmanager
def writing(workdir: epath.Path, run: str | None) -> Generator[Lock]:
    """Hold the lock of the study folder within the block: that of one run, or of all runs if `run` is None.

    Creates the folder, and removes it again if it is left empty. Raises InputError if another command, which
    the message names, holds a lock that excludes this one, or if the folder is not writable.
    """
    folder = workdir / "writers"
    made = not workdir.exists()
    lock = Lock(folder / f"{run or _STUDY}.json")
    try:
        _make(folder)
        _acquire(lock, workdir, run)
        beat = threading.Thread(target=lock._beat, name="lock", daemon=True)
        beat.start()
        try:
            yield lock
        finally:
            lock._release()
    finally:
        if not in_bucket(folder):
            with contextlib.suppress(OSError):  # not empty
                os.rmdir(folder)
                if made:
                    os.rmdir(workdir)


def _make(folder: epath.Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not in_bucket(folder):
            trial = folder / f".{secrets.token_hex(8)}"
            trial.touch()
            trial.unlink()
    except OSError as e:
        raise InputError(
            f"--workdir {str(folder.parent)!r}: nothing can be written there ({e.strerror or e}); "
            "give a folder that can be created or written to."
        ) from e


def _acquire(lock: Lock, workdir: epath.Path, run: str | None) -> None:
    while not lock._create():
        _remove_stale(lock.path, workdir)
    try:
        excluding = [lock.path.parent / f"{_STUDY}.json"] if run else None
        if excluding is None:
            time.sleep(_SETTLING_SECONDS if _others(lock) else 0)  # so that single runs give way
            excluding = _others(lock)
        for other in excluding:
            if other.exists():
                _remove_stale(other, workdir)
    except BaseException:
        lock._release()
        raise


def _others(lock: Lock) -> list[epath.Path]:
    return [path for path in lock.path.parent.glob("*.json") if path.name != lock.path.name]


def _remove_stale(path: epath.Path, workdir: epath.Path) -> None:
    """Remove a lock if its holder is dead, else raise InputError. May have to watch the lock for a while."""
    holder = _read(path)
    if _is_here(holder):
        alive = _started(holder["pid"]) == holder.get("started")
    else:
        alive = _beats(path)
    if alive:
        who = f"process {holder.get('pid', '?')} on {holder.get('host', 'another machine')}"
        raise InputError(
            f"--workdir {str(workdir)!r}: {who} has been writing there ({path.stem}) since "
            f"{holder.get('since', 'a while ago')}; wait for it, stop it, or give another folder."
        )
    if _read(path).get("token") == holder.get("token"):  # or else another has just taken it
        path.unlink(missing_ok=True)


def _beats(path: epath.Path) -> bool:
    """Whether the holder changes a lock while it is watched."""
    missed = (10.0 if in_bucket(path) else 1.0) * _BEATS_MISSED
    first, began = _pulse(path), time.monotonic()
    while time.monotonic() - began < missed:
        time.sleep(0.2)
        now = _pulse(path)
        if now is None:
            return False  # released in the meantime
        if now != first:
            return True
    return False


def _pulse(path: epath.Path) -> str | int | None:
    """Return what the holder of a lock changes with every beat; None if the lock is gone."""
    try:
        return path.read_text() if in_bucket(path) else os.stat(path).st_mtime_ns
    except OSError:
        return None


def _read(path: epath.Path) -> dict:
    """Return the content of a lock; empty if it is gone or incomplete."""
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


# ------------------------------------------------------------------------------------------- processes


def _me() -> dict:
    return {
        "host": socket.gethostname(),
        "machine": _machine(),
        "pid": os.getpid(),
        "started": _started(os.getpid()),
        "since": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _machine() -> str:
    """Return a name for the process table of this process: host, boot and PID namespace."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):  # not on Linux
        parts.append(pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def _is_here(holder: dict) -> bool:
    return holder.get("machine") == _machine() and isinstance(holder.get("pid"), int)


def _started(pid: int) -> str | None:
    """Return when a process of this machine started, in the system's units; None if there is none."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        pass  # another user's process
    except (OSError, OverflowError):
        return None
    try:
        # The fields follow the name, which is in parentheses and may contain anything. Z is a zombie.
        state, *fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if state == "Z" else fields[18]
    except (OSError, IndexError):
        return ""  # it is alive, but its start is unknown
