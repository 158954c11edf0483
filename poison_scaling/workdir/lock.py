"""One writer a study folder: a lock that names who holds it, and that the dead do not keep.

DIR/writers/study.json is held by a command that trains all runs, DIR/writers/RUN.json by one that trains one
of them: runs may be trained side by side by commands of their own, but not beside one that trains all.

A lock is stale when its holder is dead. On the holder's own machine the process table tells; elsewhere only
its pulse does, which the holder changes every few seconds: a lock whose pulse rests is stale. No two clocks
are compared. A bucket does not refuse to overwrite: the last of several that write at once holds the lock.
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
_BEATS_MISSED = 10  # of a lock that is stale
_SETTLING_SECONDS = 0.5  # in which one of two that came at once gives way


class Lock:
    """A lock that is held. `lost` is set when another writer has taken it, which must end this one's work."""

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
        """Make the lock; False when there is one."""
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
        """Until the lock is let go: change its pulse, and notice when it is another's."""
        while not self._ended.wait(self._beat_seconds):
            with contextlib.suppress(Exception):  # a file system that is away for a while
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
    """Hold the lock of the study folder within the block: of one run, or of all where `run` is None.

    Makes the folder, and takes it away again if it is left empty. Raises InputError naming the holder when
    another command holds a lock that excludes this one, and when the folder cannot be written to.
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
            with contextlib.suppress(OSError):  # others write there, too
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
            "give a folder that can be made or written to."
        ) from e


def _acquire(lock: Lock, workdir: epath.Path, run: str | None) -> None:
    while not lock._create():
        _remove_stale(lock.path, workdir)
    try:
        excluding = [lock.path.parent / f"{_STUDY}.json"] if run else None
        if excluding is None:
            time.sleep(_SETTLING_SECONDS if _others(lock) else 0)  # those of single runs give way
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
    """Remove a lock whose holder is dead; raises InputError where it lives. Watches its pulse if need be."""
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
    if _read(path).get("token") == holder.get("token"):  # else another has taken it meanwhile
        path.unlink(missing_ok=True)


def _beats(path: epath.Path) -> bool:
    """Whether the pulse of a lock changes while it is watched."""
    missed = (10.0 if in_bucket(path) else 1.0) * _BEATS_MISSED
    first, began = _pulse(path), time.monotonic()
    while time.monotonic() - began < missed:
        time.sleep(0.2)
        now = _pulse(path)
        if now is None:
            return False  # let go meanwhile
        if now != first:
            return True
    return False


def _pulse(path: epath.Path) -> str | int | None:
    """What its holder changes with every beat; None when the lock is gone."""
    try:
        return path.read_text() if in_bucket(path) else os.stat(path).st_mtime_ns
    except OSError:
        return None


def _read(path: epath.Path) -> dict:
    """What a lock says; nothing where it is gone, or half written."""
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
    """Names the process table that this process is in: host, boot, and namespace of process numbers."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):  # not on Linux
        parts.append(pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def _is_here(holder: dict) -> bool:
    return holder.get("machine") == _machine() and isinstance(holder.get("pid"), int)


def _started(pid: int) -> str | None:
    """When a process of this machine began, in a unit of the system; None when there is none."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        pass  # somebody else's
    except (OSError, OverflowError):
        return None
    try:
        # Fields after the name, which is in parentheses and may hold anything; a zombie is dead.
        state, *fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if state == "Z" else fields[18]
    except (OSError, IndexError):
        return ""  # it lives, and nothing says since when
