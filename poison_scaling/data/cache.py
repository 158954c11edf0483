"""The cache of prepared data (documents, vocabularies, tokens, ambient triggers) of all studies of a user."""

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
    """Return a folder of the cache, which is in POISON_SCALING_CACHE or else the user's cache folder.

    Raises InputError if the cache is in a bucket.
    """
    root = _root()
    if in_bucket(root):
        raise InputError(
            f"POISON_SCALING_CACHE={root}: prepared data must be on a disk of this machine; "
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
    """Raise InputError if the block fails because the location of the cache is not writable.

    A full disk and other conditions that may be temporary remain OSError.
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
    """Raise InputError unless the disk of `path` has `needed` bytes free. A bucket has no limit."""
    path = epath.Path(path)
    if in_bucket(path):
        return
    while not os.path.exists(path):  # also False if permissions forbid to look
        path = path.parent
    free = shutil.disk_usage(path).free
    if free < needed:
        raise InputError(
            f"{purpose} need about {_size(needed)} in {path}, and {_size(free)} are free; "
            "free some space or choose another folder."
        )


def _size(count: int) -> str:
    """Return a number of bytes in a suitable unit: "340 MB"."""
    unit, name = next(((u, n) for u, n in _UNITS if count >= u), (1, "bytes"))
    return f"{count / unit:.3g} {name}"


_UNITS = ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB"))
