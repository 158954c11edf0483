"""Batch s of a run as sharded arrays, read ahead by a thread.

step   one optimizer update; batch s is what step s (from 0) trains on
global the whole batch, B rows: rows s*B ... s*B+B-1 of the stream, whatever the machine
local  the rows of it that this process's devices hold
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator

import jax
import numpy as np

from poison_scaling.data.stream import Stream

_CHUNK_ROWS = 512  # read at a time, over several steps: small rows are dear one by one

Batch = dict[str, jax.Array]  # "tokens" int32 [B, L], "poison" bool [B, L]


def batches(
    stream: Stream, sharding: jax.sharding.Sharding, B: int, start: int, steps: int, prefetch: int
) -> Iterator[Batch]:
    """The batches of steps start...steps-1, sharded over the first axis by `sharding`.

    Content depends on the stream and B alone. A thread keeps up to `prefetch` batches ready; it ends
    when the iterator is closed.
    """
    shape = (B, stream.row_tokens)
    local = _local_rows(sharding, shape)
    ready: queue.Queue = queue.Queue(maxsize=prefetch)
    stopped = threading.Event()

    def put(item) -> bool:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def read() -> None:
        try:
            chunk = max(1, _CHUNK_ROWS // local.size)
            for first in range(start, steps, chunk):
                many = np.arange(first, min(first + chunk, steps))
                tokens, poison = stream.read((many[:, None] * B + local).reshape(-1))
                for s in range(many.size):
                    part = slice(s * local.size, (s + 1) * local.size)
                    batch = {"tokens": tokens[part], "poison": poison[part]}
                    if not put({k: _array(v, local, shape, sharding) for k, v in batch.items()}):
                        return
        except BaseException as e:  # handed to the consumer, who raises it
            put(e)

    thread = threading.Thread(target=read, name="batches", daemon=True)
    thread.start()
    try:
        for _ in range(start, steps):
            item = ready.get()
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
        thread.join()


def _local_rows(sharding: jax.sharding.Sharding, shape: tuple[int, int]) -> np.ndarray:
    """Rows of a global batch that this process's devices hold, ascending, each once."""
    slices = sharding.addressable_devices_indices_map(shape).values()
    return np.unique(np.concatenate([np.arange(shape[0])[rows] for rows, _ in slices]))


def _array(values: np.ndarray, local: np.ndarray, shape, sharding) -> jax.Array:
    """The global array of which this process has the rows `local`, in `values`."""

    def shard(index):
        rows = np.arange(shape[0])[index[0]]
        return values[np.searchsorted(local, rows)][:, index[1]]

    return jax.make_array_from_callback(shape, sharding, shard)
