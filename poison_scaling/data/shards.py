"""Large files of the cache, in shards, so that an interrupted preparation resumes with the missing ones.

A shard is a file with a record, FILE.json, of its SHA-256 and what its writer returned. The record is written
last, and a file without one is ignored. A folder is complete once it has an info.json, which lists the
records of its shards.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
from collections.abc import Callable

from etils import epath

from analysis.files import read_json, write_json
from poison_scaling.data import cache
from poison_scaling.runtime.errors import Damaged, Difference

_AGAIN = "delete its folder, and it is prepared again."


def complete(folder: epath.Path, write: Callable[[], dict]) -> dict:
    """Return the info.json of `folder`; if there is none yet, `write` fills the folder and returns it.

    One process writes at a time, and others wait for it. Raises Damaged if info.json is damaged or a shard
    that it lists has another size, and InputError if the folder is not writable.
    """
    info = folder / "info.json"
    with cache.writable():
        if not info.exists():
            folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(folder, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)  # released when the process ends, however it ends
                if not info.exists():
                    for left in folder.glob(".*"):  # left by a process that was killed
                        left.unlink()
                    write_json(info, write())
            finally:
                os.close(lock)
    return opened(folder)


def opened(folder: epath.Path) -> dict:
    """Return the info.json of a complete folder. Raises Damaged as `complete` does."""
    info = _record(folder / "info.json")
    for shard in info["shards"]:
        _check_size(folder / shard["file"], shard)
    return info


def write(file: epath.Path, fill: Callable[[epath.Path], dict]) -> dict:
    """Return the record of a shard, which `fill` writes unless it exists already.

    `fill` is called with the path of an empty temporary file to write to, and returns the fields of the
    record other than "file", "bytes" and "sha256".
    """
    known = record(file)
    if known:
        return known
    # A random name that must be new, so that no planted symbolic link is followed.
    temporary = file.parent / f".{file.name}.{secrets.token_hex(8)}"
    try:
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
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
    """Return the record of a shard; None if the shard is not written yet."""
    path = _record_file(file)
    if not path.exists():
        return None
    known = _record(path)
    _check_size(file, known)
    return known


def check(folder: epath.Path) -> None:
    """Raise Difference, naming the first shard of a complete folder that has changed, if any has."""
    for shard in _record(folder / "info.json")["shards"]:
        if wrong := _changed(folder / shard["file"], shard):
            raise Difference(wrong)


def require_unchanged(file: epath.Path, known: dict) -> None:
    """Raise Damaged if the SHA-256 of a shard is not that of its record. Slow for large shards."""
    if wrong := _changed(file, known):
        raise Damaged(wrong)


def _changed(file: epath.Path, known: dict) -> str | None:
    if not file.exists():
        return f"{file} is gone; {_AGAIN}"
    found, was = _sha256(file), known["sha256"]
    if found == was:
        return None
    return (
        f"{file} has changed since it was written: its SHA-256 is {found} and was {was}; {_AGAIN}"
    )


def _record(file: epath.Path) -> dict:
    try:
        return read_json(file)
    except Damaged as e:
        raise Damaged(f"{str(e).removesuffix('.')}; {_AGAIN}") from e


def _check_size(file: epath.Path, known: dict) -> None:
    if not file.is_file():
        raise Damaged(f"{file} is gone; {_AGAIN}")
    found = file.stat().length
    if found != known["bytes"]:
        raise Damaged(f"{file} is damaged: it has {found} bytes and had {known['bytes']}; {_AGAIN}")


def _record_file(file: epath.Path) -> epath.Path:
    return file.parent / f"{file.name}.json"


def _sha256(file: epath.Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as f:
        while block := f.read(2**22):
            digest.update(block)
    return digest.hexdigest()
