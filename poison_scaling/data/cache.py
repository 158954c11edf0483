"""Where prepared data lies: documents, vocabularies, rows, places of triggers; for all studies of a user."""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import shutil
from collections.abc import Generator

from etils import epath

from analysis.files import in_bucket
from poison_scaling.runtime.errors import InputError

_NO_PLACE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ELOOP)


def folder(*parts: str) -> epath.Path:
    """A folder of the cache: POISON_SCALING_CACHE, else the user's cache folder.

    Raises InputError when that is in a bucket.
    """
    root = _root()
    if in_bucket(root):
        raise InputError(
            f"POISON_SCALING_CACHE={root}: prepared data must lie on a disk of this machine; "
            "copy it from the bucket."
        )
    return epath.Path(root).joinpath(*parts)


def _root() -> str | pathlib.Path:
    root = os.environ.get("POISON_SCALING_CACHE")
    if root:
        return root
    beside = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(beside) / "poison_scaling"


@contextlib.contextmanager
def writable() -> Generator[None]:
    """A block that reads and writes in the cache; InputError where the cache is at no place to write to.

    A full disk, and all else that may go away by itself, stays the OSError that it is.
    """
    try:
        yield
    except OSError as e:
        if e.errno not in _NO_PLACE:
            raise
        raise InputError(
            f"POISON_SCALING_CACHE={_root()}: prepared data cannot be written there ({e.strerror}: "
            f"{e.filename}); name a folder that you may write to."
        ) from e


def require_disk(path: epath.PathLike, needed: int, purpose: str) -> None:
    """Raise InputError unless the disk of `path` has `needed` bytes free. Buckets have no limit."""
    path = epath.Path(path)
    if in_bucket(path):
        return
    while not os.path.exists(path):  # which is also False where one may not look
        path = path.parent
    free = shutil.disk_usage(path).free
    if free < needed:
        raise InputError(
            f"{purpose} need about {_size(needed)} in {path}, and {_size(free)} are free; "
            "make room or choose another folder."
        )


def _size(count: int) -> str:
    """A number of bytes in the unit that fits it: "340 MB"."""
    unit, name = next(((u, n) for u, n in _UNITS if count >= u), (1, "bytes"))
    return f"{count / unit:.3g} {name}"


_UNITS = ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB"))
