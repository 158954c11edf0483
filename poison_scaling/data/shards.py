"""Large files of the cache in parts, so that a preparation that was killed goes on with those missing.

A shard is a file and its record, FILE.json, with its SHA-256 and what its writer says of it. The record is
written last: a file without one does not count. A folder is whole once it has its info.json.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable

from etils import epath

from poison_scaling.errors import Difference
from poison_scaling.files import read_json, write_json


def complete(folder: epath.Path, write: Callable[[], dict]) -> dict:
    """The info.json of `folder`; where there is none yet, `write` fills the folder and returns it.

    One process writes at a time, and others wait for it.
    """
    info = folder / "info.json"
    if not info.exists():
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)  # let go when the process ends, however it ends
            if not info.exists():
                for left in folder.glob(".*.part"):  # by a process that was killed
                    left.unlink()
                write_json(info, write())
        finally:
            os.close(lock)
    return read_json(info)


def write(file: epath.Path, fill: Callable[[epath.Path], dict]) -> dict:
    """The record of a shard, which `fill` writes unless it is there.

    `fill` gets a temporary path to write to, and returns what the record is to say beside "file",
    "bytes" and "sha256".
    """
    known = record(file)
    if known:
        return known
    temporary = file.parent / f".{file.name}.part"
    try:
        new = fill(temporary)
        size, digest = temporary.stat().length, _sha256(temporary)
        temporary.replace(file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    new = {"file": file.name, "bytes": size, "sha256": digest, **new}
    write_json(_record_file(file), new)
    return new


def record(file: epath.Path) -> dict | None:
    """The record of a shard, None where it is not written yet."""
    path = _record_file(file)
    return read_json(path) if path.exists() else None


def check(folder: epath.Path) -> None:
    """Raise Difference naming the first shard of a whole folder that is not as it was written."""
    for shard in read_json(folder / "info.json")["shards"]:
        file = folder / shard["file"]
        if not file.exists():
            raise Difference(f"{file} is gone; delete its folder, and it is prepared again.")
        found = _sha256(file)
        if found != shard["sha256"]:
            raise Difference(
                f"{file} has changed since it was written: its SHA-256 is {found} and was "
                f"{shard['sha256']}; delete its folder, and it is prepared again."
            )


def _record_file(file: epath.Path) -> epath.Path:
    return file.parent / f"{file.name}.json"


def _sha256(file: epath.Path) -> str:
    with file.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()
