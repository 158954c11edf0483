"""Where prepared data lies: documents, vocabularies and rows, shared by all studies of a user."""

from __future__ import annotations

import os
import pathlib
import shutil

from etils import epath

from poison_scaling.errors import InputError
from poison_scaling.files import in_bucket


def folder(*parts: str) -> epath.Path:
    """A folder of the cache: POISON_SCALING_CACHE, else the user's cache folder.

    Raises InputError when that is in a bucket.
    """
    root = os.environ.get("POISON_SCALING_CACHE")
    if not root:
        root = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
        root = pathlib.Path(root) / "poison_scaling"
    if in_bucket(root):
        raise InputError(
            f"POISON_SCALING_CACHE={root}: prepared data must lie on a disk of this machine; "
            "copy it from the bucket."
        )
    return epath.Path(root).joinpath(*parts)


def require_disk(path: epath.PathLike, needed: int, purpose: str) -> None:
    """Raise InputError unless the disk of `path` has `needed` bytes free. Buckets have no limit."""
    path = epath.Path(path)
    if in_bucket(path):
        return
    while not path.exists():
        path = path.parent
    free = shutil.disk_usage(path).free
    if free < needed:
        raise InputError(
            f"{purpose} need about {needed / 1e9:.1f} GB in {path}, and {free / 1e9:.1f} GB are free; "
            "make room or choose another folder."
        )
