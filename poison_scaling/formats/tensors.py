"""The base class of files of tensors, which are read one tensor, or a part of one, at a time."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Entry(NamedTuple):
    """A tensor in a file, before it is read."""

    dtype: np.dtype  # of the array that is read: float32, float16 or ml_dtypes.bfloat16
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """The size of the array in bytes."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


class Tensors:
    """Named tensors on disk. `entries` says what there is; nothing else is in memory."""

    entries: dict[str, Entry]

    def read(self, name: str, index: tuple[slice, ...] = ()) -> np.ndarray:
        """Return a tensor, or the part of it at `index`."""
        raise NotImplementedError
