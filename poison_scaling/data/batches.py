"""Batch s of a run as sharded arrays, read ahead by a thread.

step    one optimizer update; batch s is what step s (from 0) trains on
global  the whole batch, B sequences: numbers s*B ... s*B+B-1 of the stream, whatever the machine
local   the sequences of it that this process's devices hold
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterator

import jax
import numpy as np

from poison_scaling.data.stream import Stream

_CHUNK = 512  # sequences read at a time, over several steps: short ones are slow to read one by one

Batch = dict[str, jax.Array]  # "tokens" int32 [B, L], "poison" bool [B, L]
Arrays = tuple[np.ndarray, np.ndarray]  # tokens int32 [n, L], poison bool [n, L]
# (local sequences of a batch, first step, number of steps) -> those sequences of each batch in turn.
Reader = Callable[[np.ndarray, int, int], Iterator[Arrays]]


def by_number(stream: Stream, B: int) -> Reader:
    """Return the reader that computes the numbers of a batch's sequences and reads those alone."""

    def read(local: np.ndarray, start: int, steps: int) -> Iterator[Arrays]:
        chunk = max(1, _CHUNK // local.size)
        for first in range(start, steps, chunk):
            many = np.arange(first, min(first + chunk, steps))
            tokens, poison = stream.read((many[:, None] * B + local).reshape(-1))
            for s in range(many.size):
                part = slice(s * local.size, (s + 1) * local.size)
                yield tokens[part], poison[part]

    return read


def batches(
    reader: Reader,
    sharding: jax.sharding.Sharding,
    shape: tuple[int, int],
    start: int,
    steps: int,
    prefetch: int,
) -> Generator[Batch]:
    """Yield the batches of steps start...steps-1, of global `shape` [B, L], sharded by `sharding`.

    A thread keeps up to `prefetch` batches ready; it ends when the iterator is closed.
    """
    local = _local(sharding, shape)
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
            for tokens, poison in reader(local, start, steps):
                batch = {"tokens": tokens, "poison": poison}
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


def _local(sharding: jax.sharding.Sharding, shape: tuple[int, int]) -> np.ndarray:
    """Return the sequences of a global batch that this process's devices hold, ascending, each once."""
    slices = sharding.addressable_devices_indices_map(shape).values()
    return np.unique(np.concatenate([np.arange(shape[0])[index[0]] for index in slices if index]))


def _array(
    values: np.ndarray, local: np.ndarray, shape: tuple[int, int], sharding: jax.sharding.Sharding
) -> jax.Array:
    """Return the global array of which this process has the sequences `local`, in `values`."""

    def shard(index: tuple[slice, ...] | None) -> np.ndarray:
        assert index is not None
        numbers = np.arange(shape[0])[index[0]]
        return values[np.searchsorted(local, numbers)][:, index[1]]

    return jax.make_array_from_callback(shape, sharding, shard)
